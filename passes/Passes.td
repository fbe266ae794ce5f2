//===- Passes.td - Passes on the moe level ----------------------------------===//
//
// One entry per pass: flag `moe-verb-noun`, summary, description with the reason for
// its existence, options, dependent dialects. The implementation defines
// GEN_PASS_DEF_<NAME> and includes passes/Passes.h.inc. A lowering keeps its own
// Passes.td; tools/common/RegisterAll.cpp registers all of them.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_TD
#define MOE_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Contracts of a phase (passes/Verify)
//===----------------------------------------------------------------------===//

// ANCHOR: docs/adding-an-op.md quotes this.
def VerifyMoeLevel : Pass<"moe-verify-moe-level", "::mlir::ModuleOp"> {
  let summary = "check the contract of the moe level";
  let description = [{
    Run after import and after every group of passes on the moe level; changes nothing. The rules are in docs/spec.md,
    "The moe level": only the leading dimension of an activation is dynamic, the step has its signature, inline
    constants stay below 1 MiB, nothing names a target.
  }];
}

def VerifySched : Pass<"moe-verify-sched", "::mlir::ModuleOp"> {
  let summary = "check the contract of the sched level";
  let description = [{
    Run after the lowering to sched; changes nothing. The rules are in docs/sched.md, "Schedules": commands that are not
    ordered do not touch the same bytes, a command works in place by one operand only, and no arena byte is read before
    it is written.
  }];
}

//===----------------------------------------------------------------------===//
// FFN Fusion (passes/Transforms; docs/ffn-fusion.md)
//===----------------------------------------------------------------------===//

def FoldNormScales : Pass<"moe-fold-norm-scales", "::mlir::ModuleOp"> {
  let summary = "norms of one value share one scale; what differs moves into the weights behind them";
  let description = [{
    Norms of one value differ only in their scales: the quotient `x / rms(x)` is the same. Where every reader is a
    linear or an FFN, one norm remains, with the scale of the last one, kept away from zero; each weight behind it gets
    its own scale divided by that, along its last dim. Exact in real arithmetic; a scaled weight is rounded to its
    storage type once. Blocks that run in parallel have such norms (`moe-parallelize-blocks`).

    Norms that differ in more than their scales, and norms that something else reads, are left, with a remark.

    Example: test/passes/Transforms/fold-norm-scales.mlir
  }];
  let statistics = [Statistic<"numFolded", "num-norms-folded", "norms whose scale moved into weights">];
}

def RemoveAttention : Pass<"moe-remove-attention", "::mlir::ModuleOp"> {
  let summary = "take the attention out of layers";
  let description = [{
    The residual stream of each layer goes past its attention into its FFN; the state and the weights that only it used
    go too. The result approximates the model, and a remark says so. Layers keep their numbers. A layer whose attention
    is gone already is left as it is; one whose attention has another form, or that something else reads a value of, is
    left with a remark.

    Example: test/passes/Transforms/remove-attention.mlir
  }];
  let options = [ListOption<"layers", "layers", "int64_t", "numbers of the layers, as in the checkpoint">];
  let statistics = [Statistic<"numRemoved", "num-attentions-removed", "attentions removed">,
                    Statistic<"numRejected", "num-layers-rejected", "layers left as they are, with a remark">];
}

def ParallelizeBlocks : Pass<"moe-parallelize-blocks", "::mlir::ModuleOp"> {
  let summary = "whole blocks on one input: y = x + sum of what each block adds to x";
  let description = [{
    Every block of a window reads what the first one reads, and the stream adds up what the blocks add. Nothing is
    joined: blocks may then run at the same time, or be fused further. The result approximates the model, and a remark
    says so.

    Example: test/passes/Transforms/parallelize-blocks.mlir
  }];
  let options = [ListOption<"windows", "windows", "std::string", "first layer and number of layers: 38:4,71:4">];
  let statistics = [Statistic<"numWindows", "num-windows-parallelized", "windows whose blocks read one input">,
                    Statistic<"numRejected", "num-windows-rejected", "windows left as they are, with a remark">];
}

def FuseFFN : Pass<"moe-fuse-ffn", "::mlir::ModuleOp"> {
  let summary = "several FFNs become one: FFNs on one input exactly, windows of layers as a plan says";
  let description = [{
    FFNs that read one value and are added to one stream are one FFN: gate and up joined along their rows, down along
    its columns, differing norm scales folded. That is exact, and without a plan it is all that the pass does.

    A plan (docs/ffn-fusion.md) names windows of layers and a form for each: R drops the attentions, D leaves them one
    after the other and puts one FFN behind the last, P makes one attention of them and one FFN. Giving the sub-layers
    of a window one input approximates the model, and a remark says so. A window that cannot be fused is left as it is,
    with a remark that says why: a norm behind a branch, different activations, eps, rotations or windows, scales of q
    and k norms, experts, a value inside that something else reads.

    Layers are numbered as in the checkpoint, also after fusion, so that a plan carried out twice is carried out once.

    Examples: test/passes/Transforms/fuse-ffn.mlir, test/passes/Transforms/fuse-ffn-plan.mlir
  }];
  let options = [
    Option<"plan", "plan", "std::string", "", "file of a fusion plan; without one only what is exact is done">,
    Option<"padWidthTo", "pad-width-to", "int64_t", "1", "pad fused widths with zeros to a multiple; a plan's own is preferred">];
  let statistics = [Statistic<"numWindows", "num-windows-fused", "windows of the plan that were fused">,
                    Statistic<"numRejected", "num-windows-rejected", "windows of the plan left as they are, with a remark">,
                    Statistic<"numExact", "num-exact-fusions", "groups of FFNs on one input that became one">,
                    Statistic<"numSubLayers", "num-sub-layers-removed", "residual sub-layers fewer than before">];
}

//===----------------------------------------------------------------------===//
// Instrumentation (passes/Transforms)
//===----------------------------------------------------------------------===//

def OutlineSublayers : Pass<"moe-outline-sublayers", "::mlir::ModuleOp"> {
  let summary = "add an entry for every piece of the model between two values of the residual stream";
  let description = [{
    `moec compile --instrument calibration` runs this, so that `moe-run calibrate` can run the model with a sub-layer
    left out or fed with another input. @step stays; added are `embed` (tokens to the stream), per layer L
    `attention.L.norm` and `attention.L`, `ffn.L.norm` and `ffn.L` (stream to normed input, normed input to what is
    added to the stream), and `head` (stream to logits). A sub-layer that does not read the stream through one norm is
    an error.

    Before:
    ```mlir
    %n = moe.rms_norm %x, %scale eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
    %f = moe.ffn %n, up %up, down %down activation relu : ...
    %y = moe.add %x, %f : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
    ```
    After, beside it:
    ```mlir
    func.func @ffn.0.norm(..., %x: tensor<?x32xf32>) -> tensor<?x32xf32> {
      %n = moe.rms_norm %x, %scale eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
      return %n
    }
    func.func @ffn.0(..., %n: tensor<?x32xf32>) -> tensor<?x32xf32> {
      %f = moe.ffn %n, up %up, down %down activation relu : ...
      return %f
    }
    ```
    Test: test/passes/Transforms/outline-sublayers.mlir.
  }];
  let statistics = [Statistic<"numOutlined", "sub-layers", "Number of sub-layers that became entries">];
}

#endif // MOE_PASSES_TD
