// The stream goes past the attention of layer 0; its state and weights go, layer 1 stays.
// RUN: moe-opt %s --moe-remove-attention=layers=0 -o %t 2> %t.remarks && FileCheck %s < %t && FileCheck %s --check-prefix=SAYS < %t.remarks
// RUN: moe-opt %t --verify-diagnostics --moe-remove-attention=layers=0 | diff %t -
// RUN: moe-opt %s --moe-remove-attention=layers=7 -o %t.none 2> %t.remarks && moe-opt %s | diff - %t.none && FileCheck %s --check-prefix=NONE < %t.remarks

// SAYS: remark: attention of layer 0 removed: the result approximates the model
// NONE: remark: attention of layer 7 not removed: the model has no ops for layer 7 (it has layers 0 to 1)

// CHECK-NOT:   @kv0
// CHECK-NOT:   @l0.q
// CHECK:       moe.weight @l0.post_attention
// CHECK:       %[[H:.*]] = moe.embedding
// CHECK:       %[[N:.*]] = moe.rms_norm %[[H]], %{{.*}}
// CHECK:       %[[F:.*]] = moe.ffn %[[N]]
// CHECK-NEXT:  moe.add %[[H]], %[[F]]
// CHECK:       moe.attention {{.*}} cache @kv1
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
