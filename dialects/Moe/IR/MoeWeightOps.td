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
    `source` holds one `{}` and the symbol stands for E tensors of the trailing shape, E being the leading dim:
    expert e is the tensor whose name has `e` in place of `{}`.

    Example:
    ```mlir
    moe.weight @model.norm.weight : tensor<128xbf16>
    moe.weight @l0.w1 source "model.layers.0.block_sparse_moe.experts.{}.w1.weight" stacked : tensor<16x128x128xbf16>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, OptionalAttr<StrAttr>:$source, UnitAttr:$stacked,
                       TypeAttrOf<RankedTensorOf<[Moe_Storage]>>:$type);
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
    Example:
    ```mlir
    %w = moe.get_weight @model.norm.weight : tensor<128xbf16>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$weight);
  let results = (outs RankedTensorOf<[Moe_Storage]>:$result);
  let assemblyFormat = "$weight attr-dict `:` type($result)";
}

def Moe_StateOp : Moe_Op<"state", [Symbol]> {
  let summary = "memory that outlives the step";
  let description = [{
    Example:
    ```mlir
    moe.state @kv0 : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = bf16>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<Moe_KVCacheType>:$type);
  let assemblyFormat = "$sym_name `:` $type attr-dict";
}

def Moe_ConcatOp : Moe_Op<"concat", [Pure]> {
  let summary = "weights joined along one dimension";
  let description = [{
    `result = inputs[0] ++ inputs[1] ++ ...` along `dim`; the other dims and the storage type agree. A computation on
    weights: `moe-hoist-initializers` moves it out of the step, and the runtime performs it once.

    Example:
    ```mlir
    %qkv = moe.concat %q, %k, %v dim 0 : tensor<128x128xbf16>, tensor<64x128xbf16>, tensor<64x128xbf16> -> tensor<256x128xbf16>
    ```
  }];
  let arguments = (ins Variadic<RankedTensorOf<[Moe_Storage]>>:$inputs, ConfinedAttr<I64Attr, [IntNonNegative]>:$dim);
  let results = (outs RankedTensorOf<[Moe_Storage]>:$result);
  let assemblyFormat = "$inputs `dim` $dim attr-dict `:` type($inputs) `->` type($result)";
  let hasVerifier = 1;
}

#endif // MOE_WEIGHT_OPS_TD
