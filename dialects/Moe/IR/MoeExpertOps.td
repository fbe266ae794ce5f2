//===- MoeExpertOps.td - Expert FFNs over routed tokens, and their sum ------===//

#ifndef MOE_EXPERT_OPS_TD
#define MOE_EXPERT_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_ExpertsOp : Moe_Op<"experts", [Pure, AttrSizedOperandSegments]> {
  let summary = "the chosen experts' FFNs, one result row per token and choice";
  let description = [{
    `result[t, k] = ffn_e(x[t])` with `e = experts[t, k]`; the FFN is that of `moe.ffn` with row e of each stacked
    weight. `e = -1` means nobody: the row is 0 and no work is done. An expert that no token chose costs nothing, and
    no weight is gathered. `placement` says on which rank which expert is to lie; the result does not depend on it.

    Constraints:
    * (experts_c1) `x` is [T, H], `up` is [E, I, H], `down` is [E, N, I].
    * (experts_c2) `experts` is [T, K] and `result` is [T, K, N].
    * (experts_c3) `gate`, if present, is [E, I, H].
    * (experts_c4) `gate_bias` and `up_bias`, if present, are [E, I]; `down_bias`, if present, is [E, N].
    * (experts_c5) `gate_bias` and `oss_swiglu` need a `gate`.
    * (experts_c6) `alpha` is finite; `limit` is positive and finite.
    * (experts_c7) `placement`, if present, is one of E experts.

    Example:
    ```mlir
    %y = moe.experts %x, %ids gate %g up %u down %d activation silu
        : tensor<?x128xbf16>, tensor<?x2xi32>, gate tensor<16x96x128xbf16>, up tensor<16x96x128xbf16>, down tensor<16x128x96xbf16>
        -> tensor<?x2x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, Moe_ExpertIds:$experts,
                       Optional<Moe_Weight3D>:$gate, Moe_Weight3D:$up, Moe_Weight3D:$down,
                       Optional<Moe_Weight2D>:$gate_bias, Optional<Moe_Weight2D>:$up_bias,
                       Optional<Moe_Weight2D>:$down_bias,
                       Moe_Activation:$activation,
                       DefaultValuedAttr<F64Attr, "1.702">:$alpha, DefaultValuedAttr<F64Attr, "7.0">:$limit,
                       OptionalAttr<Moe_PlacementAttr>:$placement);
  let results = (outs Moe_Activation3D:$result);
  let assemblyFormat = [{
    $x `,` $experts (`gate` $gate^)? `up` $up `down` $down
    (`gate_bias` $gate_bias^)? (`up_bias` $up_bias^)? (`down_bias` $down_bias^)? `activation` $activation
    (`placement` $placement^)? attr-dict
    `:` type($x) `,` type($experts) `,` (`gate` type($gate)^ `,`)? `up` type($up) `,` `down` type($down)
    `` custom<BiasTypes>(type($gate_bias), type($up_bias), type($down_bias)) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Moe_CombineOp : Moe_Op<"combine", [Pure]> {
  let summary = "the weighted sum of a token's expert outputs";
  let description = [{
    `result[t] = sum_k weights[t, k] * y[t, k]`, in k order, in f32 (f64 on f64 input), rounded to the result type.

    Constraints:
    * (combine_c1) `y` is [T, K, H], `weights` is [T, K] and `result` is [T, H].

    Example:
    ```mlir
    %o = moe.combine %y, %weights : tensor<?x2x128xf32>, tensor<?x2xf32> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation3D:$y, Moe_Scores2D:$weights);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = "$y `,` $weights attr-dict `:` type($y) `,` type($weights) `->` type($result)";
  let hasVerifier = 1;
}

#endif // MOE_EXPERT_OPS_TD
