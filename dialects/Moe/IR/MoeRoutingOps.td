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
       A NaN counts as -inf.
    3. `w = s[experts[t]]` (never c: a bias selects and does not weigh), then `renormalize`: `none`; `sum` divides by
       `sum(w) + epsilon`; `softmax` takes the softmax of the K values.
    4. `weights[t] = scale * w`.

    With `routers n` the logits are those of n routers side by side, as layers have that were fused into one. Each
    chooses K/n of its own E/n experts by the steps above, as if it were alone: its softmax, groups and sums are over its
    own experts. Their choices stand side by side; expert i of router r has the id r*E/n + i.

    Mixtral and Qwen3 are `softmax` with `sum`; OLMoE `softmax` with `none`; gpt-oss `identity` with `softmax`; the
    textbook layer `softmax` with `softmax`; DeepSeek-V3 `sigmoid` with bias, groups, `sum` and scale 2.5.

    Constraints:
    * (route_c1) `logits` is [T, E] and `1 <= K <= E`.
    * (route_c2) `bias`, if present, is [E].
    * (route_c3) `experts` and `weights` are [T, K]; `weights` has the element type of `logits`.
    * (route_c4) `groups` is positive and divides the experts of a router; `1 <= keep_groups <= groups`.
    * (route_c5) The kept groups hold at least the experts that a router chooses; `top2sum` needs at least two experts
      per group.
    * (route_c6) `epsilon` is finite, not negative, and 0 unless `renormalize` is `sum`; `scale` is finite.
    * (route_c7) `routers` is positive and divides E and K.

    Example:
    ```mlir
    %experts, %weights = moe.route %logits top 2 score softmax renormalize sum
        : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    ```
  }];
  let arguments = (ins Moe_Scores2D:$logits, Optional<Moe_Weight1D>:$bias,
                       ConfinedAttr<I64Attr, [IntPositive]>:$k, // route_c1
                       Moe_Score:$score,
                       DefaultValuedAttr<Moe_Renormalize, "::mlir::moe::Renormalize::None">:$renormalize,
                       DefaultValuedAttr<F64Attr, "0.0">:$epsilon, DefaultValuedAttr<F64Attr, "1.0">:$scale,
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntPositive]>, "1">:$groups,
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntPositive]>, "1">:$keep_groups, // route_c4
                       DefaultValuedAttr<Moe_GroupScore, "::mlir::moe::GroupScore::Max">:$group_score,
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntPositive]>, "1">:$routers); // route_c7
  let results = (outs Moe_ExpertIds:$experts, Moe_Scores2D:$weights);
  let assemblyFormat = [{
    $logits (`bias` $bias^)? `top` $k `score` $score (`renormalize` $renormalize^ (`epsilon` $epsilon^)?)?
    (`scale` $scale^)? (`groups` $groups^ `keep` $keep_groups `by` $group_score)? (`routers` $routers^)? attr-dict
    `:` type($logits) (`,` type($bias)^)? `->` type($experts) `,` type($weights)
  }];
  let hasVerifier = 1;
}

#endif // MOE_ROUTING_OPS_TD
