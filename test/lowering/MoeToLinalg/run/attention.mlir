// moe.attention in numbers. With q = 0 every score is 0, so the result is the mean of the values seen (a sink of 0 counts
// as one more value, 0). The caches start with 100s, which no token may see; main is in Inputs.
// RUN: %python %S/Inputs/run_main.py %s --with %S/Inputs/attention-main.mlir | FileCheck-22 %s

moe.state @kv : !moe.kv_cache<heads = 1, key_dim = 1, value_dim = 1, element = f32>

func.func @full(%q: tensor<?x1xf32>, %k: tensor<?x1xf32>, %v: tensor<?x1xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>) -> tensor<?x1xf32> {
  %o = moe.attention %q, %k, %v at %seq, %pos, %seq cache @kv heads 1 kv_heads 1 scale 2.0
      : tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x1xf32>
  return %o : tensor<?x1xf32>
}

func.func @window(%q: tensor<?x1xf32>, %k: tensor<?x1xf32>, %v: tensor<?x1xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>) -> tensor<?x1xf32> {
  %o = moe.attention %q, %k, %v at %seq, %pos, %seq cache @kv heads 1 kv_heads 1 scale 2.0 window 2
      : tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x1xf32>
  return %o : tensor<?x1xf32>
}

func.func @sinks(%q: tensor<?x1xf32>, %k: tensor<?x1xf32>, %v: tensor<?x1xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>) -> tensor<?x1xf32> {
  %sink = arith.constant dense<0.0> : tensor<1xf32>
  %o = moe.attention %q, %k, %v at %seq, %pos, %seq sinks %sink cache @kv heads 1 kv_heads 1 scale 2.0
      : tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<1xf32> -> tensor<?x1xf32>
  return %o : tensor<?x1xf32>
}

// Slot 0 has tokens 0, 1, 2 with values 3, 6, 9; slot 1 has token 0 with value 7.
// Full: means 3, 4.5, 6 and 7.
// CHECK: sizes = [4, 1]
// CHECK: {{\[\[}}3],
// CHECK-NEXT: [4.5],
// CHECK-NEXT: [6],
// CHECK-NEXT: [7]]
// The cache after it: 3, 6, 9 and 7 where written, 100 elsewhere.
// CHECK: sizes = [2, 4, 1, 1]
// CHECK: 3
// CHECK-NEXT: 6
// CHECK-NEXT: 9
// CHECK-NEXT: 100
// CHECK-NEXT: 7
// CHECK-NEXT: 100
// Window 2: the last two.
// CHECK: sizes = [4, 1]
// CHECK: {{\[\[}}3],
// CHECK-NEXT: [4.5],
// CHECK-NEXT: [7.5],
// CHECK-NEXT: [7]]
// Sinks: one more 0.
// CHECK: sizes = [4, 1]
// CHECK: {{\[\[}}1.5],
// CHECK-NEXT: [3],
// CHECK-NEXT: [4.5],
// CHECK-NEXT: [3.5]]
// A further token at position 3 of slot 0, value 12, over the cache that is there: (3 + 6 + 9 + 12) / 4.
// CHECK: sizes = [1, 1]
// CHECK: {{\[\[}}7.5]]
// Scores 2 q k with q = 1, k = 0 for the three cached, ln(3) / 2 for the new one: weights 1/6, 1/6, 1/6, 3/6.
// CHECK: sizes = [1, 1]
// CHECK: {{\[\[}}9]]
// No token: nothing, and the cache as it was.
// CHECK: sizes = [0, 1]
