//===- Pipeline.h - A ring of stages between copying and multiplying warps ---===//
//
// Stages of shared memory that some threads of a block fill and others empty. A
// stage has two barriers: `full` completes when all producers have arrived and
// the bytes that were announced have come, `empty` when all consumers have. Step
// i uses stage i % stages; a barrier's phase alternates with every round, so that
// whoever waits knows from i alone what for.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_PIPELINE_H
#define MOE_LOWERING_GPU_PIPELINE_H

#include "lowering/GPU/KernelBuilder.h"

namespace mlir::moe::gpu {

class StageRing {
public:
  /// Arrivals that complete a barrier.
  struct Arrivals {
    int64_t full, empty;
  };
  static constexpr int64_t stages = 4;
  /// Bytes of shared memory for stages of so many bytes.
  static constexpr int64_t bytes(int64_t stageBytes) { return stages * (stageBytes + 2 * barrierBytes); }

  /// Makes the ring at `memory`. All threads of the block take part, and meet.
  StageRing(KernelBuilder &b, Int memory, int64_t stageBytes, Arrivals arrivals);

  /// Where the stage of `step` lies, and its full barrier.
  Int stage(Int step) { return memory + step % stages * stageBytes; }
  Int full(Int step) { return barriers + step % stages * barrierBytes; }

  // Of producers.
  void waitUntilEmpty(Int step);
  /// Arrives, and announces `bytes` that asynchronous copies will bring.
  void expect(Int step, int64_t bytes);
  /// Arrives; what the thread wrote before can be read by wgmma then.
  void fill(Int step);

  // Of consumers.
  void waitUntilFull(Int step);
  void release(Int step);

private:
  static constexpr int64_t barrierBytes = 8;
  Int empty(Int step) { return full(step) + stages * barrierBytes; }
  /// Until the phase of that parity is over.
  void wait(Int barrier, Int parity);

  KernelBuilder &b;
  Int memory, barriers;
  int64_t stageBytes;
};

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_PIPELINE_H
