//===- MoeExpertOps.td - Expert FFNs over routed tokens, and their sum ------===//

#ifndef MOE_EXPERT_OPS_TD
#define MOE_EXPERT_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_ExpertsOp : Moe_Op<"experts", [Pure, AttrSizedOperandSegments]> {
  let summary = "the chosen experts' FFNs, one result row per token and choice";
  let description = [{
    `result[t, k] = ffn_e(x[t])` with `e = experts[t, k]`; the FFN is that of `moe.ffn` with row e of each stacked
    weight. `e = -1` means nobody: the row is 0 and no work is done.

    Example:
    ```mlir
    %y = moe.experts %x, %ids gate %g up %u down %d activation silu
        : tensor<?x128xbf16>, tensor<?x2xi32>, gate tensor<16x96x128xbf16>, up tensor<16x96x128xbf16>, down tensor<16x128x96xbf16>
        -> tensor<?x2x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, 2DTensorOf<[I32]>:$experts,
                       Optional<3DTensorOf<[Moe_Storage]>>:$gate, 3DTensorOf<[Moe_Storage]>:$up, 3DTensorOf<[Moe_Storage]>:$down,
                       Optional<2DTensorOf<[Moe_Storage]>>:$gate_bias, Optional<2DTensorOf<[Moe_Storage]>>:$up_bias,
                       Optional<2DTensorOf<[Moe_Storage]>>:$down_bias,
                       Moe_Activation:$activation,
                       DefaultValuedAttr<F64Attr, "1.702">:$alpha, DefaultValuedAttr<F64Attr, "7.0">:$limit);
  let results = (outs 3DTensorOf<[Moe_Float]>:$result);
  let assemblyFormat = [{
    $x `,` $experts (`gate` $gate^)? `up` $up `down` $down
    (`gate_bias` $gate_bias^)? (`up_bias` $up_bias^)? (`down_bias` $down_bias^)? `activation` $activation attr-dict
    `:` type($x) `,` type($experts) `,` (`gate` type($gate)^ `,`)? `up` type($up) `,` `down` type($down)
    custom<BiasTypes>(type($gate_bias), type($up_bias), type($down_bias)) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Moe_CombineOp : Moe_Op<"combine", [Pure]> {
  let summary = "the weighted sum of a token's expert outputs";
  let description = [{
    `result[t] = sum_k weights[t, k] * y[t, k]`, in k order, in f32 (f64 on f64 input).

    Example:
    ```mlir
    %o = moe.combine %y, %weights : tensor<?x2x128xf32>, tensor<?x2xf32> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins 3DTensorOf<[Moe_Float]>:$y, 2DTensorOf<[F32, F64]>:$weights);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = "$y `,` $weights attr-dict `:` type($y) `,` type($weights) `->` type($result)";
  let hasVerifier = 1;
}

#endif // MOE_EXPERT_OPS_TD
