//===- MoeAttentionOps.td - Rotary embedding and attention over a cache -----===//

#ifndef MOE_ATTENTION_OPS_TD
#define MOE_ATTENTION_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_RopeOp : Moe_Op<"rope", [Pure]> {
  let summary = "rotary position embedding of every head";
  let description = [{
    `x[t]` is `heads` heads of width D. In each head the `dim` elements from `offset` on are turned by the angle
    `pos[t] * inv_freq[i]` (angles in f32); pair i is `(x[i], x[i + dim/2])`, or `(x[2i], x[2i+1])` if interleaved:

    ```
    (a, b) -> attention_factor * (a cos - b sin, b cos + a sin)
    ```

    Elements outside of the `dim` pass through. Computed in f32 (f64 on f64 input), rounded to the result type.

    Constraints:
    * (rope_c1) `x` and `result` have one shape.
    * (rope_c2) `pos` has one element per row of `x`.
    * (rope_c3) `heads` is positive and divides the width of `x`.
    * (rope_c4) `offset + dim` of `rope` is at most the head dim D.

    Example:
    ```mlir
    %r = moe.rope %q at %pos heads 4 <kind = default, theta = 1.0e+04, dim = 32>
        : tensor<?x128xf32>, tensor<?xi32> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, Moe_Tokens:$pos, ConfinedAttr<I64Attr, [IntPositive]>:$heads, // rope_c3
                       Moe_RopeAttr:$rope);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = "$x `at` $pos `heads` $heads $rope attr-dict `:` type($x) `,` type($pos) `->` type($result)";
  let hasVerifier = 1;
}

def Moe_AttentionOp : Moe_Op<"attention", [DeclareOpInterfaceMethods<SymbolUserOpInterface>,
                                           DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "causal grouped-query attention over a KV cache";
  let description = [{
    Token t belongs to sequence slot `seq[t]` at position `pos[t]`. First every token's key and value are written to
    `cache[seq[t], pos[t]]`; then head h of token t attends to the positions `p <= pos[t]` of its slot (and
    `pos[t] - p < window` when `window` is given), with kv head `g = h / (Q / G)`:

    ```
    a_p      = scale * dot(q[t, h], K[seq[t], p, g])
    result   = sum_p exp(a_p) V[seq[t], p, g] / (sum_p exp(a_p) + exp(sinks[h]))     # the sink term only with `sinks`
    ```

    Scores, softmax and sums are f32 (f64 on f64 input); the result is rounded once. Tokens are sorted by (seq, pos)
    and no pair occurs twice, so the writes never collide; slot b's tokens of this step are `runs[b] .. runs[b+1] - 1`.
    A step leaves the cache as if its tokens had come one at a time.

    Constraints:
    * (attention_c1) `kv_heads` (G) and `heads` (Q) are positive and G divides Q.
    * (attention_c2) `q` is [T, Q * key_dim], `k` is [T, G * key_dim], for one key_dim.
    * (attention_c3) `v` is [T, G * value_dim], `result` is [T, Q * value_dim], for one value_dim.
    * (attention_c4) `q`, `k`, `v`, `seq`, `pos` and `result` have one T.
    * (attention_c5) `q`, `k` and `v` have one element type.
    * (attention_c6) `sinks`, if present, is [Q].
    * (attention_c7) `scale` is positive and finite; `window`, if given, is positive.
    * (attention_c8) `cache` names a `moe.state` of type `!moe.kv_cache`.
    * (attention_c9) The cache has `kv_heads` heads, this key_dim and value_dim, and the element type of `k`.

    Example:
    ```mlir
    %o = moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv0 heads 4 kv_heads 2 scale 0.17677669529663687
        : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$q, Moe_Activation2D:$k, Moe_Activation2D:$v,
                       Moe_Tokens:$seq, Moe_Tokens:$pos, Moe_Tokens:$runs, Optional<Moe_Weight1D>:$sinks,
                       FlatSymbolRefAttr:$cache,
                       ConfinedAttr<I64Attr, [IntPositive]>:$heads, ConfinedAttr<I64Attr, [IntPositive]>:$kv_heads, // attention_c1
                       F64Attr:$scale, OptionalAttr<ConfinedAttr<I64Attr, [IntPositive]>>:$window); // attention_c7
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = [{
    $q `,` $k `,` $v `at` $seq `,` $pos `,` $runs (`sinks` $sinks^)? `cache` $cache `heads` $heads `kv_heads` $kv_heads
    `scale` $scale (`window` $window^)? attr-dict
    `:` type($q) `,` type($k) `,` type($v) `,` type($seq) `,` type($pos) `,` type($runs) (`,` type($sinks)^)? `->` type($result)
  }];
  let hasVerifier = 1;
}

#endif // MOE_ATTENTION_OPS_TD
