//===- MoeFFNOps.td - The dense feed-forward network ------------------------===//

#ifndef MOE_FFN_OPS_TD
#define MOE_FFN_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_FFNOp : Moe_Op<"ffn", [Pure, AttrSizedOperandSegments]> {
  let summary = "a dense feed-forward network, gated or plain";
  let description = [{
    ```
    gated:  result = down( act(gate(x)) * up(x) )
    plain:  result = down( act(up(x)) )
    ```

    with `f(x)[n] = sum_k x[k] f[n, k] + f_bias[n]`, weights stored [out, in], sums in f32. `oss_swiglu` is gated only:
    `g = min(gate, limit)`, `u = clamp(up, -limit, limit)`, `act = g * sigmoid(alpha * g) * (u + 1)`.
    The hidden activation is rounded to the element type of `x` before `down`. `alpha` and `limit` mean something to
    `oss_swiglu` only.

    Constraints:
    * (ffn_c1) `x` is [T, H], `up` is [I, H], `down` is [N, I] and `result` is [T, N] (N = H in every known model).
    * (ffn_c2) `gate`, if present, is [I, H].
    * (ffn_c3) `gate_bias` and `up_bias`, if present, are [I]; `down_bias`, if present, is [N].
    * (ffn_c4) `gate_bias` and `oss_swiglu` need a `gate`.
    * (ffn_c5) `alpha` is finite; `limit` is positive and finite.

    Example:
    ```mlir
    %y = moe.ffn %x gate %g up %u down %d activation silu
        : tensor<?x128xbf16>, gate tensor<384x128xbf16>, up tensor<384x128xbf16>, down tensor<128x384xbf16> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x,
                       Optional<Moe_Weight2D>:$gate, Moe_Weight2D:$up, Moe_Weight2D:$down,
                       Optional<Moe_Weight1D>:$gate_bias, Optional<Moe_Weight1D>:$up_bias,
                       Optional<Moe_Weight1D>:$down_bias,
                       Moe_Activation:$activation,
                       DefaultValuedAttr<F64Attr, "1.702">:$alpha, DefaultValuedAttr<F64Attr, "7.0">:$limit);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = [{
    $x (`gate` $gate^)? `up` $up `down` $down (`gate_bias` $gate_bias^)? (`up_bias` $up_bias^)? (`down_bias` $down_bias^)?
    `activation` $activation attr-dict
    `:` type($x) `,` (`gate` type($gate)^ `,`)? `up` type($up) `,` `down` type($down)
    `` custom<BiasTypes>(type($gate_bias), type($up_bias), type($down_bias)) `->` type($result)
  }];
  let hasVerifier = 1;
}

#endif // MOE_FFN_OPS_TD
