// Both blocks read the input; the stream adds up what they add. The FFN of the second reads the input and its own attention.
// RUN: moe-opt %s --moe-parallelize-blocks=windows=0:2 -o %t 2> %t.remarks && FileCheck %s < %t && FileCheck %s --check-prefix=SAYS < %t.remarks
// RUN: moe-opt %t --verify-diagnostics --moe-parallelize-blocks=windows=0:2 | diff %t -
// RUN: moe-opt %s --verify-diagnostics --moe-parallelize-blocks=windows=1:1 -o %t.one && moe-opt %s | diff - %t.one
// RUN: moe-opt %s --moe-parallelize-blocks=windows=1:4 -o %t.more 2> %t.remarks && moe-opt %s | diff - %t.more && FileCheck %s --check-prefix=MORE < %t.remarks
// RUN: not moe-opt %s --moe-parallelize-blocks=windows=all 2>&1 | FileCheck %s --check-prefix=BAD
// RUN: not moe-opt %s --moe-parallelize-blocks=windows=9223372036854775807:2 2>&1 | FileCheck %s --check-prefix=LARGE

// SAYS: remark: layers 0 to 1 read one input: the result approximates the model
// MORE: remark: layers 1 to 4 not parallelized: the model has only layers 0 to 1
// BAD: error: window 'all' of moe-parallelize-blocks must be the first layer and the number of layers, such as 38:4, both at most 65536
// LARGE: error: window '9223372036854775807:2' of moe-parallelize-blocks must be the first layer and the number of layers, such as 38:4, both at most 65536

// CHECK:     %[[H:.*]] = moe.embedding
// CHECK:     moe.rms_norm %[[H]]
// CHECK:     moe.attention {{.*}} cache @kv0
// CHECK:     %[[O0:.*]] = moe.linear
// CHECK:     %[[S0:.*]] = moe.add %[[H]], %[[O0]]
// CHECK:     moe.rms_norm %[[S0]]
// CHECK:     %[[F0:.*]] = moe.ffn
// CHECK:     %[[S1:.*]] = moe.add %[[S0]], %[[F0]]
// CHECK:     moe.rms_norm %[[H]]
// CHECK:     moe.attention {{.*}} cache @kv1
// CHECK:     %[[O1:.*]] = moe.linear
// CHECK-DAG: %[[S2:.*]] = moe.add %[[S1]], %[[O1]]
// CHECK-DAG: %[[X1:.*]] = moe.add %[[H]], %[[O1]]
// CHECK:     moe.rms_norm %[[X1]]
// CHECK:     %[[F1:.*]] = moe.ffn
// CHECK:     %[[S3:.*]] = moe.add %[[S2]], %[[F1]]
// CHECK:     return %[[S3]]
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.input : tensor<8xf32>
moe.weight @l0.q : tensor<8x8xf32>
moe.weight @l0.k : tensor<4x8xf32>
moe.weight @l0.v : tensor<4x8xf32>
moe.state @kv0 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l0.o : tensor<8x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.input : tensor<8xf32>
moe.weight @l1.q : tensor<16x8xf32>
moe.weight @l1.k : tensor<8x8xf32>
moe.weight @l1.v : tensor<8x8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 2, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.o : tensor<8x16xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<10x8xf32>
moe.weight @l1.up : tensor<10x8xf32>
moe.weight @l1.down : tensor<8x10xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_input = moe.get_weight @l0.input : tensor<8xf32>
  %n0 = moe.rms_norm %h, %l0_input eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_q = moe.get_weight @l0.q : tensor<8x8xf32>
  %q0 = moe.linear %n0, %l0_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l0_k = moe.get_weight @l0.k : tensor<4x8xf32>
  %k0 = moe.linear %n0, %l0_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l0_v = moe.get_weight @l0.v : tensor<4x8xf32>
  %v0 = moe.linear %n0, %l0_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr0 = moe.rope %q0 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr0 = moe.rope %k0 at %pos heads 1 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %a0 = moe.attention %qr0, %kr0, %v0 at %seq, %pos, %runs cache @kv0 heads 2 kv_heads 1 scale 0.5 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  %l0_o = moe.get_weight @l0.o : tensor<8x8xf32>
  %o0 = moe.linear %a0, %l0_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %x0 = moe.add %h, %o0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %x0, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %x0, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_input = moe.get_weight @l1.input : tensor<8xf32>
  %n1 = moe.rms_norm %h1, %l1_input eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_q = moe.get_weight @l1.q : tensor<16x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
  %l1_k = moe.get_weight @l1.k : tensor<8x8xf32>
  %k1 = moe.linear %n1, %l1_k : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_v = moe.get_weight @l1.v : tensor<8x8xf32>
  %v1 = moe.linear %n1, %l1_v : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %qr1 = moe.rope %q1 at %pos heads 4 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %kr1 = moe.rope %k1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs cache @kv1 heads 4 kv_heads 2 scale 0.5 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x16xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x16xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x16xf32>, tensor<8x16xf32> -> tensor<?x8xf32>
  %x1 = moe.add %h1, %o1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<10x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<10x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x10xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<10x8xf32>, up tensor<10x8xf32>, down tensor<8x10xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}
