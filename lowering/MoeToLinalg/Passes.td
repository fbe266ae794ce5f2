//===- Passes.td - The reference lowering of moe to linalg ------------------===//

#ifndef MOE_TO_LINALG_PASSES_TD
#define MOE_TO_LINALG_PASSES_TD

include "mlir/Pass/PassBase.td"

def MoeLowerToLinalg : Pass<"moe-lower-to-linalg", "::mlir::ModuleOp"> {
  let summary = "lower every moe op to func, arith, math, scf, tensor and linalg";
  let description = [{
    The numeric reference of the dialect, and the hand-off to other compilers: simple loops and `linalg.generic`, no
    target facts, no code in common with the kernel path.

    Functions get the module's states and weights as trailing arguments, and return the states after their results:
    `@step(inputs..., states..., weights...) -> (results..., states...)`. A `moe.state` of a KV cache is two tensors
    `[B, C, G, key_dim]` and `[B, C, G, value_dim]`, keys first; a `moe.weight` is one tensor of its declared type (a
    stacked one `[E, ...]`). Both come in the order of declaration; an argument says in `moe.state` or `moe.weight`
    which one it is.

    An op that is left (`moe.attention` inside a region, a call of a function whose signature changes) is an error
    that names the op, the reason and what to do. docs/linalg.md has examples that are run.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::mlir::linalg::LinalgDialect",
                           "::mlir::math::MathDialect", "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"];
  let statistics = [Statistic<"numLowered", "num-lowered", "moe ops lowered">];
}

def MoeVerifyLinalg : Pass<"moe-verify-linalg", "::mlir::ModuleOp"> {
  let summary = "check that a module holds only what other compilers take";
  let description = [{
    Fails on any op outside builtin, func, arith, math, scf, tensor and the linalg ops `generic`, `matmul`,
    `batch_matmul`, `fill`, `reduce`, `transpose`, `index` and `yield`: the set that stayed stable over many releases.
  }];
}

#endif // MOE_TO_LINALG_PASSES_TD
