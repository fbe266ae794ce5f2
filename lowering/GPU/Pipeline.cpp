//===- Pipeline.cpp - A ring of stages between copying and multiplying warps ---===//

#include "lowering/GPU/Pipeline.h"

using namespace mlir;
using namespace mlir::moe::gpu;

StageRing::StageRing(KernelBuilder &b, Int memory, int64_t stageBytes, Arrivals arrivals)
    : b(b), memory(memory), barriers(memory + stages * stageBytes), stageBytes(stageBytes) {
  b.ifThen(b.thread == b.i64(0), [&] {
    for (int64_t i = 0; i < stages; ++i) {
      auto initialise = [&](Int barrier, int64_t count) {
        b.assemble("mbarrier.init.shared::cta.b64 [$0], " + Twine(count) + ";", "r", {b.toI32(barrier)});
      };
      initialise(full(b.i64(i)), arrivals.full);
      initialise(empty(b.i64(i)), arrivals.empty);
    }
    // For the copies that count their bytes there.
    b.assemble("fence.proxy.async.shared::cta;", "", {});
  });
  b.barrier();
}

void StageRing::wait(Int barrier, Int parity) {
  b.assemble("{\n\t.reg .pred done;\n"
             "again:\n\tmbarrier.try_wait.parity.shared::cta.b64 done, [$0], $1;\n\t@!done bra again;\n\t}",
             "r,r", {b.toI32(barrier), b.toI32(parity)});
}

// A barrier that nobody has used is in the phase of parity 0, and that of parity 1 is over: the first round need not
// wait.
void StageRing::waitUntilEmpty(Int step) { wait(empty(step), (step / stages + 1) % 2); }
void StageRing::waitUntilFull(Int step) { wait(full(step), step / stages % 2); }

void StageRing::expect(Int step, int64_t bytes) {
  b.assemble("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], " + Twine(bytes) + ";", "r", {b.toI32(full(step))});
}

static void arrive(KernelBuilder &b, Int barrier) {
  b.assemble("mbarrier.arrive.shared::cta.b64 _, [$0];", "r", {b.toI32(barrier)});
}

void StageRing::fill(Int step) {
  b.assemble("fence.proxy.async.shared::cta;", "", {});
  arrive(b, full(step));
}

void StageRing::release(Int step) { arrive(b, empty(step)); }
