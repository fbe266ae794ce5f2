//===- MoeLinearOps.td - Embedding, linear, residual add, row gather --------===//

#ifndef MOE_LINEAR_OPS_TD
#define MOE_LINEAR_OPS_TD

include "dialects/Moe/IR/MoeDialect.td"

def Moe_EmbeddingOp : Moe_Op<"embedding", [Pure]> {
  let summary = "a row of the table for every token";
  let description = [{
    `result[t] = table[tokens[t]]`, rounded to the result type. `0 <= tokens[t] < V` is checked where tokens enter the
    program, not here.

    Constraints:
    * (embedding_c1) `result` has as many rows as there are `tokens`.
    * (embedding_c2) `table` is [V, H] and `result` is [T, H].

    Example:
    ```mlir
    %h = moe.embedding %tokens, %table : tensor<?xi32>, tensor<2048x128xbf16> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Tokens:$tokens, Moe_Weight2D:$table);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = "$tokens `,` $table attr-dict `:` type($tokens) `,` type($table) `->` type($result)";
  let hasVerifier = 1;
}

def Moe_LinearOp : Moe_Op<"linear", [Pure]> {
  let summary = "matrix product with a weight stored [out, in]";
  let description = [{
    `result[t, n] = sum_k x[t, k] * weight[n, k] + bias[n]`, accumulated in f32 (f64 on f64 input),
    rounded once to the result type.

    Constraints:
    * (linear_c1) `x` is [T, K] and `weight` is [N, K].
    * (linear_c2) `result` is [T, N].
    * (linear_c3) `bias`, if present, is [N].

    Example:
    ```mlir
    %y = moe.linear %x, %w : tensor<?x128xbf16>, tensor<64x128xbf16> -> tensor<?x64xbf16>
    %z = moe.linear %x, %w bias %b : tensor<?x128xbf16>, tensor<64x128xbf16>, tensor<64xbf16> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, Moe_Weight2D:$weight, Optional<Moe_Weight1D>:$bias);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = [{
    $x `,` $weight (`bias` $bias^)? attr-dict `:` type($x) `,` type($weight) (`,` type($bias)^)? `->` type($result)
  }];
  let hasVerifier = 1;
}

def Moe_AddOp : Moe_Op<"add", [Pure, Commutative, SameOperandsAndResultShape /* add_c1 */]> {
  let summary = "the sum of two activations (a residual connection)";
  let description = [{
    `result = lhs + rhs`, computed in f32 (f64 if an operand is f64), rounded to the result type.

    Constraints:
    * (add_c1) `lhs`, `rhs` and `result` have one shape.

    Example:
    ```mlir
    %h1 = moe.add %h, %y : tensor<?x128xf32>, tensor<?x128xf32> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$lhs, Moe_Activation2D:$rhs);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
}

// ANCHOR: docs/adding-an-op.md quotes this.
def Moe_GatherRowsOp : Moe_Op<"gather_rows", [Pure]> {
  let summary = "the rows whose logits are wanted";
  let description = [{
    `result[m] = x[rows[m]]`. `0 <= rows[m] < T` is checked where rows enter the program, not here.

    Constraints:
    * (gather_rows_c1) `result` has as many rows as `rows` has elements.
    * (gather_rows_c2) `x` and `result` have one width and one element type.

    Example:
    ```mlir
    %l = moe.gather_rows %h, %rows : tensor<?x128xf32>, tensor<?xi32> -> tensor<?x128xf32>
    ```
  }];
  let arguments = (ins Moe_Activation2D:$x, Moe_Tokens:$rows);
  let results = (outs Moe_Activation2D:$result);
  let assemblyFormat = "$x `,` $rows attr-dict `:` type($x) `,` type($rows) `->` type($result)";
  let hasVerifier = 1;
}

#endif // MOE_LINEAR_OPS_TD
