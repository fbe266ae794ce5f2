//===- MoeCollectiveOps.td - What R ranks do together -----------------------===//
//
// A module that several ranks run (SPMD) is one @step that all of them execute.
// Values have the same type on every rank; what differs is said by these ops:
// which part of a weight a rank holds, which experts are its own, and where
// ranks exchange rows. Every rank reaches the same exchanges in the same order.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_COLLECTIVE_OPS_TD
#define MOE_COLLECTIVE_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_Ranks : ConfinedAttr<I64Attr, [IntPositive]>;

//===----------------------------------------------------------------------===//
// Exchanges
//===----------------------------------------------------------------------===//

def Moe_AllReduceOp : Moe_Op<"all_reduce", [Pure, SameOperandsAndResultType /* all_reduce_c1 */]> {
  let summary = "the sum over all ranks, on every rank";
  let description = [{
    `result = x of rank 0 + x of rank 1 + ...`, in this order, in f32 (f64 on f64), rounded once: the same bytes on
    every rank. Of one rank it is `x`.

    Constraints:
    * (all_reduce_c1) `x` and `result` have one type.

    Example:
    ```mlir
    %y = moe.all_reduce %x ranks 4 : tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, Moe_Ranks:$ranks);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = "$x `ranks` $ranks attr-dict `:` type($x)";
  let hasFolder = 1;
}

def Moe_AllGatherOp : Moe_Op<"all_gather", [Pure]> {
  let summary = "the rows of all ranks, on every rank";
  let description = [{
    `result = x of rank 0 ++ x of rank 1 ++ ...` along the rows: [T, ...] becomes [R*T, ...]. All ranks have the same T.
    Of one rank it is `x`.

    Constraints:
    * (all_gather_c1) `result` has the rank, the element type and the dims after the first of `x`.
    * (all_gather_c2) `result` has R times as many rows as `x`, or both have '?'.

    Example:
    ```mlir
    %all = moe.all_gather %x ranks 4 : tensor<?x128xbf16> -> tensor<?x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Rows:$x, Moe_Ranks:$ranks);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `ranks` $ranks attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Moe_ReduceScatterOp : Moe_Op<"reduce_scatter", [Pure]> {
  let summary = "every rank's part of the sum over all ranks";
  let description = [{
    With `s = x of rank 0 + x of rank 1 + ...` (in this order, in f32, or f64 on f64, rounded once) of [R*T, N]:
    `result = rows r*T .. (r+1)*T - 1 of s` on rank r. The way back from `all_gather`. Of one rank it is `x`.

    Constraints:
    * (reduce_scatter_c1) `result` has the rank, the element type and the dims after the first of `x`.
    * (reduce_scatter_c2) `x` has R times as many rows as `result`, or both have '?'.

    Example:
    ```mlir
    %own = moe.reduce_scatter %y ranks 4 : tensor<?x128xf32> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, Moe_Ranks:$ranks);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = "$x `ranks` $ranks attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

//===----------------------------------------------------------------------===//
// Experts of a rank
//===----------------------------------------------------------------------===//

def Moe_MaskPaddingOp : Moe_Op<"mask_padding", [Pure, AllTypesMatch<["experts", "result"]> /* mask_padding_c1 */]> {
  let summary = "tokens that only fill up a step choose no expert";
  let description = [{
    Where every rank has its own tokens, a rank with fewer than the others gets tokens added, in a sequence slot of
    their own, the last one. `result[t, k] = -1` if `seq[t]` is the last slot, B - 1, else `experts[t, k]`. Only a
    module with `moe.distributed` has such tokens.

    Constraints:
    * (mask_padding_c1) `experts` and `result` have one type.
    * (mask_padding_c2) `seq` has one element per row of `experts`.

    Example:
    ```mlir
    %own = moe.mask_padding %ids at %seq : tensor<?x2xi32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins Moe_ExpertIds:$experts, Moe_Tokens:$seq);
  let results = (outs Moe_ExpertIds:$result);
  let assemblyFormat = "$experts `at` $seq attr-dict `:` type($experts) `,` type($seq)";
  let hasVerifier = 1;
}

def Moe_LocalizeOp : Moe_Op<"localize", [Pure, AllTypesMatch<["experts", "result"]> /* localize_c1 */]> {
  let summary = "from experts to the slots of this rank";
  let description = [{
    Every choice of an expert goes to one of its replicas; `result[t, k]` is the number of that slot on this rank, from
    0 to S/R - 1, or -1 if the slot is on another rank or `experts[t, k]` is -1. All ranks that see the same `experts`
    agree on the slot of every choice, and one rank takes it.

    Which replica: choices are counted in row order. Let n choices of expert e have been counted before, `taken[p]` of
    them for slot p, w[p] its share and W the sum of the shares of e. The choice goes to the slot p of e with the
    largest `(n + 1) * w[p] - taken[p] * W`, the lowest p among equals. A slot never gets a whole choice more than its
    share of those so far, nor, with two replicas, a whole one less.

    Constraints:
    * (localize_c1) `experts` and `result` have one type.

    Example:
    ```mlir
    %slot = moe.localize %ids placement <ranks = 2, slots = [0, 1, 2, 3, 0, 4]> : tensor<?x2xi32>
    ```
  }];
  let arguments = (ins Moe_ExpertIds:$experts, Moe_PlacementAttr:$placement);
  let results = (outs Moe_ExpertIds:$result);
  let assemblyFormat = "$experts `placement` $placement attr-dict `:` type($experts)";
}

def Moe_DispatchOp : Moe_Op<"dispatch", [Pure, AllTypesMatch<["experts", "slots"]> /* dispatch_c1 */]> {
  let summary = "tokens to the ranks of their experts, and only to those";
  let description = [{
    Every rank gives its tokens `x` [T, H] and, the same on all ranks, the choices `experts` [R*T, K] of the tokens of
    all ranks (`all_gather`). Each choice goes to a slot as `localize` says. `rows` are the tokens of all ranks that have
    a choice on this rank, each once, in rank order and, of one rank, in the order of x; `slots` [R*T, K] is what
    `localize` says of them. Both have room for the tokens of all ranks, so that no routing overflows them; behind the
    rows that came, `slots` is -1 and `rows` holds anything.

    Constraints:
    * (dispatch_c1) `experts` and `slots` have one type.
    * (dispatch_c2) `rows` has the element type and H of `x`, and as many rows as `experts`.
    * (dispatch_c3) `experts` has R times as many rows as `x`, or both have '?'.

    Example:
    ```mlir
    %rows, %slots = moe.dispatch %x, %all placement <ranks = 2, slots = [0, 1, 2, 3, 0, 4]> : tensor<?x128xbf16>, tensor<?x2xi32> -> tensor<?x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, Moe_ExpertIds:$experts, Moe_PlacementAttr:$placement);
  let results = (outs Moe_Activation2D:$rows, Moe_ExpertIds:$slots);
  let assemblyFormat = [{
    $x `,` $experts `placement` $placement attr-dict `:` type($x) `,` type($experts) `->` type($rows)
  }];
  let hasVerifier = 1;
}

def Moe_CollectOp : Moe_Op<"collect", [Pure]> {
  let summary = "what experts on other ranks made of this rank's tokens";
  let description = [{
    The way back from the `dispatch` that gave `slots`, which says where rows came from: `y` [R*T, K, H] holds a row per
    choice of the rows that came, and `result` [T, K, H] one per choice of this rank's own tokens, from the rank that
    computed it; zeros where a choice is of nobody. Rows of `y` whose slot is -1 are not read.

    Constraints:
    * (collect_c1) `y` has K and as many rows as `slots`.
    * (collect_c2) `result` has the element type, K and H of `y`.

    Example:
    ```mlir
    %own = moe.collect %y of %slots : tensor<?x2x128xf32>, tensor<?x2xi32> -> tensor<?x2x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation3D:$y, Moe_ExpertIds:$slots);
  let results = (outs Moe_Activation3D:$result);
  let assemblyFormat = "$y `of` $slots attr-dict `:` type($y) `,` type($slots) `->` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Weights of a rank
//===----------------------------------------------------------------------===//

def Moe_PlaceOp : Moe_Op<"place", [Pure]> {
  let summary = "the experts of a stacked weight that lie on this rank";
  let description = [{
    `result[i, ..] = weight[slots[r*s + i], ..]` on rank r, with s = S/R. Not a computation: what reads it reads the
    experts' tensors where they lie.

    Constraints:
    * (place_c1) `weight` has as many experts (dim 0) as `placement`.
    * (place_c2) `result` is [S/R, ...] with the dims after the first and the element type of `weight`.

    Example:
    ```mlir
    %own = moe.place %up placement <ranks = 2, slots = [0, 1, 2, 3, 0, 4]> : tensor<5x384x128xbf16> -> tensor<3x384x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Weight:$weight, Moe_PlacementAttr:$placement);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = "$weight `placement` $placement attr-dict `:` type($weight) `->` type($result)";
  let builders = [OpBuilder<(ins "::mlir::Value":$weight, "PlacementAttr":$placement)>];
  let hasVerifier = 1;
}

def Moe_ShardOp : Moe_Op<"shard", [Pure]> {
  let summary = "the part of a weight along one dimension that is this rank's";
  let description = [{
    `weight` is cut along `dim` into R / `copies` equal parts, and rank r has part r / `copies`: with copies 1 (the
    default) every rank has a part of its own. Rows of a weight of the checkpoint are read where they lie; what else is cut is
    copied once, before the first step.

    Constraints:
    * (shard_c1) `dim` is less than the rank of `weight`.
    * (shard_c2) `result` has the rank and the element type of `weight`, and its dims except along `dim`.
    * (shard_c3) `copies` divides `ranks`, and along `dim` `weight` is R / `copies` times as long as `result`.

    Example:
    ```mlir
    %rows = moe.shard %q dim 0 ranks 4 : tensor<128x128xbf16> -> tensor<32x128xbf16>
    %head = moe.shard %k dim 0 ranks 4 copies 2 : tensor<64x128xbf16> -> tensor<32x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Weight:$weight, ConfinedAttr<I64Attr, [IntNonNegative]>:$dim, Moe_Ranks:$ranks,
                       DefaultValuedAttr<Moe_Ranks, "1">:$copies);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = [{
    $weight `dim` $dim `ranks` $ranks (`copies` $copies^)? attr-dict `:` type($weight) `->` type($result)
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$weight, "int64_t":$dim, "int64_t":$ranks,
                                 CArg<"int64_t", "1">:$copies)>];
  let hasVerifier = 1;
  let hasFolder = 1;
}

#endif // MOE_COLLECTIVE_OPS_TD
