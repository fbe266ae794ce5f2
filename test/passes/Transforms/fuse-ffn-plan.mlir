// Two layers as one, in the three forms. Layers are numbered by moe.layers afterwards, so the same plan again does nothing.
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-r.json})' -o %t.r 2> %t.r.remarks && FileCheck %s --check-prefix=REMOVED < %t.r && FileCheck %s --check-prefix=REMOVED-SAYS < %t.r.remarks
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-d.json})' -o %t.d 2> %t.d.remarks && FileCheck %s --check-prefix=DEFERRED < %t.d && FileCheck %s --check-prefix=DEFERRED-SAYS < %t.d.remarks
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-p.json})' -o %t.p 2> %t.p.remarks && FileCheck %s --check-prefix=PAIR < %t.p && FileCheck %s --check-prefix=PAIR-SAYS < %t.p.remarks
// RUN: moe-opt %t.r --verify-diagnostics --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-r.json})' | diff %t.r -
// RUN: moe-opt %t.d --verify-diagnostics --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-d.json})' | diff %t.d -
// RUN: moe-opt %t.p --verify-diagnostics --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-p.json})' | diff %t.p -

// REMOVED-SAYS: remark: layers 0 to 1 fused in form R, 3 sub-layers fewer: the result approximates the model
// DEFERRED-SAYS: remark: layers 0 to 1 fused in form D, 1 sub-layers fewer: the result approximates the model
// PAIR-SAYS: remark: layers 0 to 1 fused in form P, 2 sub-layers fewer: the result approximates the model

// Removed: no attention, nor its weights and states; one FFN on what the first layer read.
// REMOVED-NOT:  @kv0
// REMOVED-NOT:  @l0.q
// REMOVED:      %[[H:.*]] = moe.embedding
// REMOVED-NOT:  moe.attention
// REMOVED:      %[[N:.*]] = moe.rms_norm %[[H]]
// REMOVED:      %[[Y:.*]] = moe.ffn %[[N]] {{.*}} gate tensor<16x8xf32>
// REMOVED-NEXT: %[[OUT:.*]] = moe.add %[[H]], %[[Y]] {moe.layers = array<i64: 0, 1>}
// REMOVED-NEXT: return %[[OUT]]

// Deferred: the second attention reads the sum behind the first, the FFN the sum behind the second.
// DEFERRED:      %[[H:.*]] = moe.embedding
// DEFERRED:      moe.attention {{.*}} cache @kv0
// DEFERRED:      %[[O0:.*]] = moe.linear
// DEFERRED:      %[[X0:.*]] = moe.add %[[H]], %[[O0]] {moe.layers = array<i64: 0, 0>}
// DEFERRED:      moe.rms_norm %[[X0]]
// DEFERRED:      moe.attention {{.*}} cache @kv1
// DEFERRED:      %[[O1:.*]] = moe.linear
// DEFERRED:      %[[X1:.*]] = moe.add %[[X0]], %[[O1]] :
// DEFERRED:      %[[N:.*]] = moe.rms_norm %[[X1]]
// DEFERRED:      %[[Y:.*]] = moe.ffn %[[N]] {{.*}} gate tensor<16x8xf32>
// DEFERRED-NEXT: %[[OUT:.*]] = moe.add %[[X1]], %[[Y]] {moe.layers = array<i64: 1, 1>}
// DEFERRED-NEXT: return %[[OUT]]

// Pair: one attention with the heads of both and one state, then one FFN.
// PAIR:      moe.state @"layers.0-1.kv" : !moe.kv_cache<heads = 3, key_dim = 4, value_dim = 4, element = f32>
// PAIR-NOT:  moe.state
// PAIR:      %[[H:.*]] = moe.embedding
// PAIR:      %[[N0:.*]] = moe.rms_norm %[[H]]
// PAIR:      %[[WQ:.*]] = moe.concat {{.*}} dim 0 : tensor<8x8xf32>, tensor<16x8xf32> -> tensor<24x8xf32>
// PAIR-NEXT: moe.linear %[[N0]], %[[WQ]]
// PAIR:      moe.rope {{.*}} heads 6
// PAIR:      moe.rope {{.*}} heads 3
// PAIR:      %[[A:.*]] = moe.attention {{.*}} cache @"layers.0-1.kv" heads 6 kv_heads 3
// PAIR-NEXT: %[[WO:.*]] = moe.concat {{.*}} dim 1 : tensor<8x8xf32>, tensor<8x16xf32> -> tensor<8x24xf32>
// PAIR-NEXT: %[[O:.*]] = moe.linear %[[A]], %[[WO]]
// PAIR-NEXT: %[[X:.*]] = moe.add %[[H]], %[[O]]
// PAIR:      %[[N:.*]] = moe.rms_norm %[[X]]
// PAIR:      %[[Y:.*]] = moe.ffn %[[N]] {{.*}} gate tensor<16x8xf32>
// PAIR-NEXT: %[[OUT:.*]] = moe.add %[[X]], %[[Y]] {moe.layers = array<i64: 0, 1>}
// PAIR-NEXT: return %[[OUT]]
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
