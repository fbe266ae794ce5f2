//===- MoeWeightOps.td - Weights and states as symbols ----------------------===//
//
// A weight is a name, a shape and a storage type; its bytes stay in the
// checkpoint. A state outlives the step (a KV cache).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_WEIGHT_OPS_TD
#define MOE_WEIGHT_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_WeightOp : Moe_Op<"weight", [Symbol]> {
  let summary = "a tensor of the checkpoint, by name";
  let description = [{
    Declares a weight. Its tensor in the checkpoint is `source` (the symbol's own name when absent). With `stacked`,
    that name holds one `{}` and the symbol stands for E tensors of the trailing shape, E being the leading dim:
    expert e is the tensor whose name has `e` in place of `{}`. One symbol for 256 tensors keeps a module of a
    thousand experts small.

    Constraints:
    * (weight_c1) `type` is a tensor of f32, bf16, f16 or f64 with static dims, none of them 0.
    * (weight_c2) The name in the checkpoint is not empty; if `stacked`, it holds exactly one `{}`.
    * (weight_c3) If `stacked`, the rank is at least 2.
    * (weight_c4) The size is below 2^63 bits.

    Example:
    ```mlir
    moe.weight @model.norm.weight : tensor<128xbf16>
    moe.weight @l0.w1 source "model.layers.0.block_sparse_moe.experts.{}.w1.weight" stacked : tensor<16x128x128xbf16>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, OptionalAttr<StrAttr>:$source, UnitAttr:$stacked,
                       TypeAttrOf<Moe_Weight>:$type); // weight_c1
  let assemblyFormat = "$sym_name (`source` $source^)? (`stacked` $stacked^)? `:` $type attr-dict";
  let extraClassDeclaration = [{
    /// The name in the checkpoint: `source`, or the symbol's own name. Holds `{}` when stacked.
    ::llvm::StringRef getTensorName() { return getSource() ? *getSource() : getSymName(); }
    /// The declared type as a ranked tensor.
    ::mlir::RankedTensorType getTensorType() { return ::llvm::cast<::mlir::RankedTensorType>(getType()); }
  }];
  let hasVerifier = 1;
}

def Moe_GetWeightOp : Moe_Op<"get_weight", [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "the value of a declared weight";
  let description = [{
    `result` = the tensor that the symbol `weight` declares. Pure: weights do not change while a program runs.

    Constraints:
    * (get_weight_c1) `weight` names a `moe.weight`.
    * (get_weight_c2) The type of `result` is the declared type.

    Example:
    ```mlir
    %w = moe.get_weight @model.norm.weight : tensor<128xbf16>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$weight);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = "$weight attr-dict `:` type($result)";
}

def Moe_StateOp : Moe_Op<"state", [Symbol]> {
  let summary = "memory that outlives the step";
  let description = [{
    Declares a state: what a step leaves behind for the steps after it. Ops name it by its symbol; reading and writing
    are memory effects on that symbol.

    Constraints:
    * (state_c1) `type` is a `!moe.kv_cache`.

    Example:
    ```mlir
    moe.state @kv0 : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<Moe_KVCacheType>:$type); // state_c1
  let assemblyFormat = "$sym_name `:` $type attr-dict";
}

def Moe_PartOp : Moe_Op<"part", [Pure]> {
  let summary = "a part of a weight along one dimension";
  let description = [{
    `result[.., i, ..] = weight[.., from + i, ..]` with i the index along `dim`: the gate or the up matrices of experts
    that a checkpoint keeps in one tensor. Not a computation: what reads it reads the tensor where it lies.

    Constraints:
    * (part_c1) `dim` is less than the rank of `weight`.
    * (part_c2) `result` has the rank and the element type of `weight`, and its dims except along `dim`.
    * (part_c3) Along `dim`, `from` and the length of `result` stay within `weight`.

    Example:
    ```mlir
    %up = moe.part %both dim 1 from 384 : tensor<16x768x128xbf16> -> tensor<16x384x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Weight:$weight, ConfinedAttr<I64Attr, [IntNonNegative]>:$dim,
                       ConfinedAttr<I64Attr, [IntNonNegative]>:$from);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = "$weight `dim` $dim `from` $from attr-dict `:` type($weight) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

//===----------------------------------------------------------------------===//
// Computations on weights
//
// They leave the step as initializers. Each computes in f32 (f64 where an operand
// or the result is f64) and rounds once to the result type, so what a chain of
// them loses is one rounding per op of the chain.
//===----------------------------------------------------------------------===//

def Moe_ConcatOp : Moe_Op<"concat", [Pure]> {
  let summary = "weights joined along one dimension";
  let description = [{
    `result = inputs[0] ++ inputs[1] ++ ...` along `dim`. A computation on weights: it leaves the step as an
    initializer, which the runtime performs once.

    Constraints:
    * (concat_c1) There is at least one input.
    * (concat_c2) `dim` is less than the rank of the result.
    * (concat_c3) Every input has the rank and the element type of the result.
    * (concat_c4) Every input has the dims of the result, except along `dim`.
    * (concat_c5) Along `dim` the result is as long as the inputs together.

    Example:
    ```mlir
    %qkv = moe.concat %q, %k, %v dim 0 : tensor<128x128xbf16>, tensor<64x128xbf16>, tensor<64x128xbf16> -> tensor<256x128xbf16>
    ```
  }];
  let arguments = (ins Variadic<Moe_Weight>:$inputs, ConfinedAttr<I64Attr, [IntNonNegative]>:$dim);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = "$inputs `dim` $dim attr-dict `:` type($inputs) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Moe_ScaleOp : Moe_Op<"scale", [Pure]> {
  let summary = "a weight times a vector, along one dimension";
  let description = [{
    With i the index along `dim`: `result[.., i, ..] = weight[.., i, ..] * by[i]`, or `* (by[i] / over[i])` with
    `over`. Along the last dim of a linear's weight this is the product with a diagonal matrix on the right: the scale of
    a norm, moved into what reads the norm. `over` is the scale that the norm keeps. Where the two are equal the factor
    is 1 and the weight stays as it is.

    Constraints:
    * (scale_c1) `dim` is less than the rank of `weight`.
    * (scale_c2) `result` has the shape of `weight`.
    * (scale_c3) `by`, and `over` if present, are as long as `weight` along `dim`.

    Example:
    ```mlir
    %folded = moe.scale %w by %s over %kept dim 1 : tensor<384x128xbf16>, tensor<128xbf16>, tensor<128xf32> -> tensor<384x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Weight:$weight, Moe_Weight1D:$by, Optional<Moe_Weight1D>:$over,
                       ConfinedAttr<I64Attr, [IntNonNegative]>:$dim);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = [{
    $weight `by` $by (`over` $over^)? `dim` $dim attr-dict
    `:` type($weight) `,` type($by) (`,` type($over)^)? `->` type($result)
  }];
  let hasVerifier = 1;
}

def Moe_FloorMagnitudeOp : Moe_Op<"floor_magnitude", [Pure, SameOperandsAndResultShape /* floor_magnitude_c1 */]> {
  let summary = "a weight kept away from zero";
  let description = [{
    `result[i] = floor` where `|weight[i]| < floor`, else `weight[i]`. Makes the scale of a norm one that can be divided
    by (`moe.scale`).

    Constraints:
    * (floor_magnitude_c1) `result` has the shape of `weight`.
    * (floor_magnitude_c2) `floor` is positive and finite.

    Example:
    ```mlir
    %kept = moe.floor_magnitude %s at 0.0009765625 : tensor<128xbf16> -> tensor<128xbf16>
    ```
  }];
  let arguments = (ins Moe_Weight:$weight, F64Attr:$floor);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = "$weight `at` $floor attr-dict `:` type($weight) `->` type($result)";
  let hasVerifier = 1;
}

def Moe_ProductOp : Moe_Op<"product", [Pure]> {
  let summary = "the matrix product of two weights";
  let description = [{
    `result[m, n] = sum_k lhs[m, k] * rhs[k, n]`. Weights are stored [out, in], so a `moe.linear` by the product is one
    by `rhs` and then one by `lhs`: a map of inputs goes to the right of a weight, a map of outputs to its left. One of
    the two may be [E, .., ..], the weights of experts: each of them is multiplied.

    Constraints:
    * (product_c1) `lhs` is [M, K], `rhs` is [K, N] and `result` is [M, N].
    * (product_c2) At most one of `lhs` and `rhs` has E in front of its dims; then `result` has it too.

    Example:
    ```mlir
    %mapped = moe.product %up, %map : tensor<384x128xbf16>, tensor<128x128xf32> -> tensor<384x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Weight2DOr3D:$lhs, Moe_Weight2DOr3D:$rhs);
  let results = (outs Moe_Weight2DOr3D:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
  let hasVerifier = 1;
}

def Moe_SumOp : Moe_Op<"sum", [Pure]> {
  let summary = "the sum of weights of one shape";
  let description = [{
    `result = inputs[0] + inputs[1] + ...`, in this order.

    Constraints:
    * (sum_c1) There is at least one input.
    * (sum_c2) Every input has the shape of the result.

    Example:
    ```mlir
    %bias = moe.sum %b0, %b1 : tensor<128xbf16>, tensor<128xbf16> -> tensor<128xbf16>
    ```
  }];
  let arguments = (ins Variadic<Moe_Weight>:$inputs);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = "$inputs attr-dict `:` type($inputs) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Moe_PadOp : Moe_Op<"pad", [Pure]> {
  let summary = "a weight with zeros behind it along one dimension";
  let description = [{
    `result` begins with `weight` along `dim` and is zero behind it: FFN width that an engine or a tile wants in steps.

    Constraints:
    * (pad_c1) `dim` is less than the rank of `weight`.
    * (pad_c2) `result` has the rank and the element type of `weight`.
    * (pad_c3) `result` has the dims of `weight`, except along `dim`, where it is no shorter.

    Example:
    ```mlir
    %wide = moe.pad %up dim 0 : tensor<300x128xbf16> -> tensor<512x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Weight:$weight, ConfinedAttr<I64Attr, [IntNonNegative]>:$dim);
  let results = (outs Moe_Weight:$result);
  let assemblyFormat = "$weight `dim` $dim attr-dict `:` type($weight) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

#endif // MOE_WEIGHT_OPS_TD
