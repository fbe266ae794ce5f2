// What cannot be fused in form P stays as it is, and a remark says why.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-p.json})' -o %t
// RUN: moe-opt %s --split-input-file -o %t.before
// RUN: diff %t.before %t

// Sliding windows.
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
moe.weight @l1.q : tensor<8x8xf32>
moe.weight @l1.k : tensor<4x8xf32>
moe.weight @l1.v : tensor<4x8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.o : tensor<8x8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
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
  %l1_q = moe.get_weight @l1.q : tensor<8x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_k = moe.get_weight @l1.k : tensor<4x8xf32>
  %k1 = moe.linear %n1, %l1_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l1_v = moe.get_weight @l1.v : tensor<4x8xf32>
  %v1 = moe.linear %n1, %l1_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr1 = moe.rope %q1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr1 = moe.rope %k1 at %pos heads 1 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs cache @kv1 heads 2 kv_heads 1 scale 0.5 window 4 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x8xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the windows of layers 0 and 1 differ: 0 and 4}}
  %x1 = moe.add %h1, %o1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Sinks.
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
moe.weight @l1.q : tensor<8x8xf32>
moe.weight @l1.k : tensor<4x8xf32>
moe.weight @l1.v : tensor<4x8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.sinks : tensor<2xf32>
moe.weight @l1.o : tensor<8x8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
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
  %l1_q = moe.get_weight @l1.q : tensor<8x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_k = moe.get_weight @l1.k : tensor<4x8xf32>
  %k1 = moe.linear %n1, %l1_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l1_v = moe.get_weight @l1.v : tensor<4x8xf32>
  %v1 = moe.linear %n1, %l1_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr1 = moe.rope %q1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr1 = moe.rope %k1 at %pos heads 1 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %l1_sinks = moe.get_weight @l1.sinks : tensor<2xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs sinks %l1_sinks cache @kv1 heads 2 kv_heads 1 scale 0.5 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<2xf32> -> tensor<?x8xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x8xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the sinks of layers 0 and 1 differ: none and f32}}
  %x1 = moe.add %h1, %o1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Rotations.
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
moe.weight @l1.q : tensor<8x8xf32>
moe.weight @l1.k : tensor<4x8xf32>
moe.weight @l1.v : tensor<4x8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.o : tensor<8x8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
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
  %l1_q = moe.get_weight @l1.q : tensor<8x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_k = moe.get_weight @l1.k : tensor<4x8xf32>
  %k1 = moe.linear %n1, %l1_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l1_v = moe.get_weight @l1.v : tensor<4x8xf32>
  %v1 = moe.linear %n1, %l1_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr1 = moe.rope %q1 at %pos heads 2 <kind = default, theta = 1.0e+05 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr1 = moe.rope %k1 at %pos heads 1 <kind = default, theta = 1.0e+05 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs cache @kv1 heads 2 kv_heads 1 scale 0.5 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x8xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the rotations of q of layers 0 and 1 differ}}
  %x1 = moe.add %h1, %o1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Queries per key head; the number of heads may differ.
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
moe.weight @l1.q : tensor<8x8xf32>
moe.weight @l1.k : tensor<8x8xf32>
moe.weight @l1.v : tensor<8x8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 2, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.o : tensor<8x8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
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
  %l1_q = moe.get_weight @l1.q : tensor<8x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_k = moe.get_weight @l1.k : tensor<8x8xf32>
  %k1 = moe.linear %n1, %l1_k : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_v = moe.get_weight @l1.v : tensor<8x8xf32>
  %v1 = moe.linear %n1, %l1_v : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %qr1 = moe.rope %q1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr1 = moe.rope %k1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs cache @kv1 heads 2 kv_heads 2 scale 0.5 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x8xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the queries per key head of layers 0 and 1 differ: 2 and 1}}
  %x1 = moe.add %h1, %o1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Norms of q and k have one scale for all heads, which cannot differ by layer.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.input : tensor<8xf32>
moe.weight @l0.q : tensor<8x8xf32>
moe.weight @l0.q_norm : tensor<4xf32>
moe.weight @l0.k : tensor<4x8xf32>
moe.weight @l0.k_norm : tensor<4xf32>
moe.weight @l0.v : tensor<4x8xf32>
moe.state @kv0 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l0.o : tensor<8x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.input : tensor<8xf32>
moe.weight @l1.q : tensor<8x8xf32>
moe.weight @l1.q_norm : tensor<4xf32>
moe.weight @l1.k : tensor<4x8xf32>
moe.weight @l1.k_norm : tensor<4xf32>
moe.weight @l1.v : tensor<4x8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.o : tensor<8x8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_input = moe.get_weight @l0.input : tensor<8xf32>
  %n0 = moe.rms_norm %h, %l0_input eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_q = moe.get_weight @l0.q : tensor<8x8xf32>
  %q0 = moe.linear %n0, %l0_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l0_q_norm = moe.get_weight @l0.q_norm : tensor<4xf32>
  %qh0 = moe.rms_norm %q0, %l0_q_norm eps 1.0e-05 groups 2 : tensor<?x8xf32>, tensor<4xf32> -> tensor<?x8xf32>
  %l0_k = moe.get_weight @l0.k : tensor<4x8xf32>
  %k0 = moe.linear %n0, %l0_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l0_k_norm = moe.get_weight @l0.k_norm : tensor<4xf32>
  %kh0 = moe.rms_norm %k0, %l0_k_norm eps 1.0e-05 groups 1 : tensor<?x4xf32>, tensor<4xf32> -> tensor<?x4xf32>
  %l0_v = moe.get_weight @l0.v : tensor<4x8xf32>
  %v0 = moe.linear %n0, %l0_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr0 = moe.rope %qh0 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr0 = moe.rope %kh0 at %pos heads 1 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
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
  %l1_q = moe.get_weight @l1.q : tensor<8x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_q_norm = moe.get_weight @l1.q_norm : tensor<4xf32>
  %qh1 = moe.rms_norm %q1, %l1_q_norm eps 1.0e-05 groups 2 : tensor<?x8xf32>, tensor<4xf32> -> tensor<?x8xf32>
  %l1_k = moe.get_weight @l1.k : tensor<4x8xf32>
  %k1 = moe.linear %n1, %l1_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l1_k_norm = moe.get_weight @l1.k_norm : tensor<4xf32>
  %kh1 = moe.rms_norm %k1, %l1_k_norm eps 1.0e-05 groups 1 : tensor<?x4xf32>, tensor<4xf32> -> tensor<?x4xf32>
  %l1_v = moe.get_weight @l1.v : tensor<4x8xf32>
  %v1 = moe.linear %n1, %l1_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr1 = moe.rope %qh1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr1 = moe.rope %kh1 at %pos heads 1 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs cache @kv1 heads 2 kv_heads 1 scale 0.5 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x8xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the scales of the q norms of layers 0 and 1 differ: @l0.q_norm and @l1.q_norm (they do not fold: one weight serves all heads)}}
  %x1 = moe.add %h1, %o1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Low-rank keys and values (MLA).
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
moe.weight @l1.q : tensor<8x8xf32>
moe.weight @l1.k : tensor<4x8xf32>
moe.weight @l1.kc : tensor<8x8xf32>
moe.weight @l1.kcn : tensor<8xf32>
moe.weight @l1.v : tensor<4x8xf32>
moe.weight @l1.vc : tensor<8x8xf32>
moe.weight @l1.vcn : tensor<8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.o : tensor<8x8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
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
  %l1_q = moe.get_weight @l1.q : tensor<8x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_k = moe.get_weight @l1.k : tensor<4x8xf32>
  %l1_kc = moe.get_weight @l1.kc : tensor<8x8xf32>
  %kc1 = moe.linear %n1, %l1_kc : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_kcn = moe.get_weight @l1.kcn : tensor<8xf32>
  %kcn1 = moe.rms_norm %kc1, %l1_kcn eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %k1 = moe.linear %kcn1, %l1_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l1_v = moe.get_weight @l1.v : tensor<4x8xf32>
  %l1_vc = moe.get_weight @l1.vc : tensor<8x8xf32>
  %vc1 = moe.linear %n1, %l1_vc : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_vcn = moe.get_weight @l1.vcn : tensor<8xf32>
  %vcn1 = moe.rms_norm %vc1, %l1_vcn eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %v1 = moe.linear %vcn1, %l1_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr1 = moe.rope %q1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr1 = moe.rope %k1 at %pos heads 1 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs cache @kv1 heads 2 kv_heads 1 scale 0.5 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x8xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the attention of layer 1: its q, k and v do not read one value}}
  %x1 = moe.add %h1, %o1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// A norm behind the attention.
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
moe.weight @l1.q : tensor<8x8xf32>
moe.weight @l1.k : tensor<4x8xf32>
moe.weight @l1.v : tensor<4x8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.o : tensor<8x8xf32>
moe.weight @l1.post : tensor<8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
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
  %l1_q = moe.get_weight @l1.q : tensor<8x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_k = moe.get_weight @l1.k : tensor<4x8xf32>
  %k1 = moe.linear %n1, %l1_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l1_v = moe.get_weight @l1.v : tensor<4x8xf32>
  %v1 = moe.linear %n1, %l1_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr1 = moe.rope %q1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr1 = moe.rope %k1 at %pos heads 1 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs cache @kv1 heads 2 kv_heads 1 scale 0.5 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x8xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_post = moe.get_weight @l1.post : tensor<8xf32>
  %po1 = moe.rms_norm %o1, %l1_post eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the attention of layer 1: its output is normed before it is added (post-norm), which is not linear}}
  %x1 = moe.add %h1, %po1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// A state that a named piece of the model works on too.
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
moe.weight @l1.q : tensor<8x8xf32>
moe.weight @l1.k : tensor<4x8xf32>
moe.weight @l1.v : tensor<4x8xf32>
moe.state @kv1 : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
moe.weight @l1.o : tensor<8x8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
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
  %l1_q = moe.get_weight @l1.q : tensor<8x8xf32>
  %q1 = moe.linear %n1, %l1_q : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %l1_k = moe.get_weight @l1.k : tensor<4x8xf32>
  %k1 = moe.linear %n1, %l1_k : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l1_v = moe.get_weight @l1.v : tensor<4x8xf32>
  %v1 = moe.linear %n1, %l1_v : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %qr1 = moe.rope %q1 at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %kr1 = moe.rope %k1 at %pos heads 1 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %a1 = moe.attention %qr1, %kr1, %v1 at %seq, %pos, %runs cache @kv1 heads 2 kv_heads 1 scale 0.5 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  %l1_o = moe.get_weight @l1.o : tensor<8x8xf32>
  %o1 = moe.linear %a1, %l1_o : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the attention of layer 1: its state is shared with @last, which is not fused}}
  %x1 = moe.add %h1, %o1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %x1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %x1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}
func.func @last(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>, %q: tensor<?x8xf32>, %k: tensor<?x4xf32>) -> tensor<?x8xf32> {
  %a = moe.attention %q, %k, %k at %seq, %pos, %runs cache @kv1 heads 2 kv_heads 1 scale 0.5 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  return %a : tensor<?x8xf32>
}
