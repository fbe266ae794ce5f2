//===- MoeToSched.h - From moe IR to a schedule and its kernels -------------===//
//
// Chooses kernels, fuses what they can absorb (residual adds, projections that
// share an input, activations), plans the arena and writes the command table,
// once per target. Two tables per target: one for a few tokens, where every
// weight is streamed once (GEMV), one for many (GEMM). GPUs have a third between
// them, in which attention may be as that for few (KernelCatalogue::someTokens).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOSCHED_H
#define MOE_LOWERING_MOETOSCHED_H

#include "lowering/CPU/CpuTarget.h"
#include "lowering/GPU/GpuTarget.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/Pass.h"
#include <string>

namespace mlir::moe {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "lowering/MoeToSched/Passes.h.inc"

/// A weight value of the module that is wanted under a name, whether or not a step reads it.
struct NamedWeight {
  std::string name;
  Value value;
};

struct SchedOptions {
  /// CPU kinds, best first.
  SmallVector<const cpu::CpuTarget *> targets;
  /// A GPU kind, instead of CPUs; may be null.
  const gpu::GpuTarget *gpu = nullptr;
  /// Largest T of a step; the arena is planned for it.
  int64_t maxTokens = 512;
  /// Up to this T the GEMV table is used.
  int64_t fewTokens = 8;
  /// Streams that a step may use, of GPUs at most 2: the second for what runs beside the routed experts.
  int64_t streams = 2;
  /// Adds states and launches that count what the router chooses together (docs/placement.md).
  bool recordRouting = false;
  /// Computed weights that the program is to have as tensors, for moert_weights_read.
  SmallVector<NamedWeight> weights;
};

/// The kernels of one target as a linked shared object, or as PTX.
struct CompiledKernels {
  std::string target;
  std::string bytes;
};

struct LoweredProgram {
  OwningOpRef<ModuleOp> module; ///< holds one sched.program
  SmallVector<CompiledKernels> kernels;
  /// What the tensors of SchedOptions::weights are called: the name that was wished for, or one like it that is free.
  SmallVector<std::string> weightNames;
};

/// Lowers a verified moe-level module with one @step. What no kernel serves is an error at its op that names the
/// feature and what to do. With `compileKernels` false only the schedule is made (`--emit sched`).
FailureOr<LoweredProgram> lowerMoeToSched(ModuleOp module, const SchedOptions &options, bool compileKernels = true);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOSCHED_H
