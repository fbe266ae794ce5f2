//===- MoeNormOps.td - RMSNorm ----------------------------------------------===//

#ifndef MOE_NORM_OPS_TD
#define MOE_NORM_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_RMSNormOp : Moe_Op<"rms_norm", [Pure]> {
  let summary = "root-mean-square normalisation of every token";
  let description = [{
    The row `x[t]` of width N is cut into `groups` equal parts of width n = N / groups (1: whole row; Q: per head).
    For each part, with statistics in f32 (f64 on f64 input):

    ```
    y = x / sqrt(mean(x^2) + eps) * weight
    ```

    `rounding before_weight` rounds the quotient to the result type before the product (Llama); `after_weight`
    multiplies first (gpt-oss). `weight` [n] is shared by the parts.

    Constraints:
    * (rms_norm_c1) `x` and `result` are [T, N], N static.
    * (rms_norm_c2) `groups` is positive and divides N.
    * (rms_norm_c3) `weight` is [N / groups].
    * (rms_norm_c4) `eps` is finite and not negative.

    Example:
    ```mlir
    %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<?x128xf32>, tensor<128xbf16> -> tensor<?x128xbf16>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, Moe_Weight1D:$weight, F64Attr:$eps, // rms_norm_c1, rms_norm_c3
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntPositive]>, "1">:$groups, // rms_norm_c2
                       DefaultValuedAttr<Moe_ScaleRounding, "::mlir::moe::ScaleRounding::BeforeWeight">:$rounding);
  let results = (outs Moe_Activation2D:$result); // rms_norm_c1
  let assemblyFormat = [{
    $x `,` $weight `eps` $eps (`groups` $groups^)? (`rounding` $rounding^)? attr-dict
    `:` type($x) `,` type($weight) `->` type($result)
  }];
  let hasVerifier = 1;
}

#endif // MOE_NORM_OPS_TD
