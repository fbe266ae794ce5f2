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
    linear, an FFN or experts, one norm remains, with the scale of the last one, kept away from zero; each weight behind it gets
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
    its columns, differing norm scales folded. So are layers that route to experts: routers and experts lie side by side,
    and each router chooses of its own experts (`routers` of moe.route); FFNs that are shared beside them are joined as
    dense ones are. That is exact, and without a plan it is all that the pass does.

    A plan (docs/ffn-fusion.md) names windows of layers and a form for each: R drops the attentions, D leaves them one
    after the other and puts one FFN behind the last, P makes one attention of them and one FFN. Giving the sub-layers
    of a window one input approximates the model, and a remark says so. A window that cannot be fused is left as it is,
    with a remark that says why: a norm behind a branch, different activations, eps, rotations or windows, scales of q
    and k norms, experts beside dense FFNs, routers that differ, a value inside that something else reads.

    Layers are numbered as in the checkpoint, also after fusion, so that a plan carried out twice is carried out once.

    Examples: test/passes/Transforms/fuse-ffn.mlir, test/passes/Transforms/fuse-ffn-plan.mlir,
    test/passes/Transforms/fuse-experts.mlir
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
// Several ranks (passes/Transforms; docs/ranks.md)
//===----------------------------------------------------------------------===//

def PlaceExperts : Pass<"moe-place-experts", "::mlir::ModuleOp"> {
  let summary = "attach a map, which expert lies on which rank, to moe.experts";
  let description = [{
    Gives every `moe.experts` of @step the placement that a map of `moec place --format json` has for its layer; without
    a map experts lie in order, E/R on a rank. What the model computes does not change: `moe-expert-parallel` carries the
    placement out. A map of another model (layers, experts, ranks) is an error.

    Example: test/passes/Transforms/place-experts.mlir
  }];
  let options = [
    Option<"map", "map", "std::string", "", "file that moec place --format json wrote; without one experts lie in order">,
    Option<"ranks", "ranks", "int64_t", "0", "number of ranks; with a map it may be left out">];
  let statistics = [Statistic<"numPlaced", "num-layers-placed", "layers whose experts have a place">,
                    Statistic<"numReplicas", "num-redundant-replicas", "slots beyond one per expert, over all layers">];
}

def ExpertParallel : Pass<"moe-expert-parallel", "::mlir::ModuleOp"> {
  let summary = "divide the experts of @step among ranks that have their own tokens";
  let description = [{
    @step becomes the program of every rank (SPMD), and the module one with `moe.ranks` and `moe.distributed`: each rank
    has its own sequences, states and logits, and a part of the experts, as the placement on `moe.experts` says (in
    order, where there is none). Weights of a rank are the stacked weights restricted to its slots, read where they lie.

    Around the experts of a layer there is an exchange. `gather`: tokens with their choices and weights are gathered from
    all ranks, each rank computes the choices that fall on its slots and sums them per token, and the sums are added up
    and go back. `exact`: choices are gathered, each token goes to the ranks of its experts only, and a result per
    choice comes back (`moe.dispatch`, `moe.collect`). `auto` prices both (passes/Analysis/ExchangeCost.h); where the other
    one pays from some T on, the module gets a second step for those, @step.exact (or @step.gather) with
    `moe.step_from`. Buffers hold the tokens of all ranks: no routing overflows them. A remark names the choice and both
    prices.

    Example: test/passes/Transforms/expert-parallel.mlir
  }];
  let options = [
    Option<"ranks", "ranks", "int64_t", "1", "number of ranks; 1 changes nothing">,
    Option<"exchange", "exchange", "std::string", "\"gather\"", "gather, exact, or auto: by price, per range of T">,
    Option<"maxTokens", "max-tokens", "int64_t", "512", "of auto: largest T of a step of a rank">,
    Option<"latency", "latency", "double", "20", "of auto: microseconds of a message round among ranks">,
    Option<"hostRead", "host-read", "double", "0", "of auto: microseconds until the host has read a count">,
    Option<"link", "link", "double", "4", "of auto: GB/s that a rank receives">,
    Option<"memory", "memory", "double", "8", "of auto: GB/s that a rank copies">];
  let statistics = [Statistic<"numLayers", "num-layers-divided", "layers whose experts are divided among ranks">,
                    Statistic<"numExchanges", "num-exchanges", "collectives in all steps together">];
}

def TensorParallel : Pass<"moe-tensor-parallel", "::mlir::ModuleOp"> {
  let summary = "divide attention heads, FFN width and experts of @step among ranks that have the same tokens";
  let description = [{
    @step becomes the program of every rank (SPMD), and the module one with `moe.ranks`. Every rank computes R-th parts:
    of the query and key/value heads (rows of q, k and v, which are read where they lie, and columns of o), of the width
    of FFNs (rows of gate and up, columns of down), and of the experts (as their placement says). One `moe.all_reduce`
    behind each branch adds the parts up. States hold the heads of the rank. Embedding, norms, router and the last
    linear are computed by all ranks alike. Where R is a multiple of the key/value heads, ranks share heads.

    A number of heads or a width that R does not divide is an error. `attention=whole` leaves attentions as they are,
    `attention=auto` those whose heads R does not divide, and says how many.

    Example: test/passes/Transforms/tensor-parallel.mlir
  }];
  let options = [
    Option<"ranks", "ranks", "int64_t", "1", "number of ranks; 1 changes nothing">,
    Option<"attention", "attention", "std::string", "\"split\"", "split: heads are divided; whole: every rank computes all; auto: whole where heads cannot be divided">];
  let statistics = [Statistic<"numAttentions", "num-attentions-divided", "attentions whose heads are divided">,
                    Statistic<"numFFNs", "num-ffns-divided", "FFNs whose width is divided">,
                    Statistic<"numExperts", "num-expert-layers-divided", "layers whose experts are divided">,
                    Statistic<"numExchanges", "num-exchanges", "collectives in a step">];
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
