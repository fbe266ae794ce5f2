//===- MoeRoutingOps.td - From router logits to chosen experts --------------===//
//
// Routing decides, per token, which K of E experts run and with what weight.
// It only decides: running experts and combining them are other ops
// (moe.experts, moe.combine), so that a pass can change where an expert lives
// without touching how it was chosen.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_ROUTING_OPS_TD
#define MOE_ROUTING_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_RouteOp : Moe_Op<"route", [Pure]> {
  let summary = "choose K of E experts for every token";
  let description = [{
    In f32, with `s = score(logits[t])` and `c = s + bias`:

    1. With `groups n keep m by g`: the E experts are n equal groups; a group's score is its largest c (`max`) or the
       sum of its two largest (`top2sum`); c of every group outside the m best becomes -inf.
    2. `experts[t]` = the K largest c in descending order; ties go to the lower index, for groups as well.
    3. `w = s[experts[t]]` (never c: a bias selects and does not weigh), then `renormalize`: `none`; `sum` divides by
       `sum(w) + epsilon`; `softmax` takes the softmax of the K values.
    4. `weights[t] = scale * w`.

    Mixtral and Qwen3 are `softmax` with `sum`; OLMoE `softmax` with `none`; gpt-oss `identity` with `softmax`; the
    textbook layer `softmax` with `softmax`; DeepSeek-V3 `sigmoid` with bias, groups, `sum` and scale 2.5.

    Example:
    ```mlir
    %experts, %weights = moe.route %logits top 2 score softmax renormalize sum
        : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    ```
  }];
  let arguments = (ins 2DTensorOf<[F32, F64]>:$logits, Optional<1DTensorOf<[Moe_Storage]>>:$bias,
                       ConfinedAttr<I64Attr, [IntPositive]>:$k, Moe_Score:$score,
                       DefaultValuedAttr<Moe_Renormalize, "::mlir::moe::Renormalize::None">:$renormalize,
                       DefaultValuedAttr<F64Attr, "0.0">:$epsilon, DefaultValuedAttr<F64Attr, "1.0">:$scale,
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntPositive]>, "1">:$groups,
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntPositive]>, "1">:$keep_groups,
                       DefaultValuedAttr<Moe_GroupScore, "::mlir::moe::GroupScore::Max">:$group_score);
  let results = (outs 2DTensorOf<[I32]>:$experts, 2DTensorOf<[F32, F64]>:$weights);
  let assemblyFormat = [{
    $logits (`bias` $bias^)? `top` $k `score` $score (`renormalize` $renormalize^ (`epsilon` $epsilon^)?)?
    (`scale` $scale^)? (`groups` $groups^ `keep` $keep_groups `by` $group_score)? attr-dict
    `:` type($logits) (`,` type($bias)^)? `->` type($experts) `,` type($weights)
  }];
  let hasVerifier = 1;
}

#endif // MOE_ROUTING_OPS_TD
