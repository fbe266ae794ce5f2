// What cannot be fused in form D stays as it is, and a remark says why.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-d.json})' -o %t
// RUN: moe-opt %s --split-input-file -o %t.before
// RUN: diff %t.before %t

// Statistics of the norms.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-06 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the eps of the norms of layers 0 and 1 differ: 1e-05 and 1e-06}}
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Activations.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation gelu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the activations of layers 0 and 1 differ: silu and gelu}}
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Gated and plain.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 up %l1_up down %l1_down activation silu : tensor<?x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the gates of layers 0 and 1 differ: f32 and none}}
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// A bias on one side only would need zeros on the other.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
moe.weight @l1.bias : tensor<8xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %l1_bias = moe.get_weight @l1.bias : tensor<8xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down down_bias %l1_bias activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32>, down_bias tensor<8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the down biases of layers 0 and 1 differ: none and f32}}
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Storage types.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xbf16>
moe.weight @l1.up : tensor<6x8xbf16>
moe.weight @l1.down : tensor<8x6xbf16>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xbf16>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xbf16>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xbf16>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xbf16>, up tensor<6x8xbf16>, down tensor<8x6xbf16> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the gates of layers 0 and 1 differ: f32 and bf16}}
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// A norm behind the FFN is not linear: norm(a) + norm(b) is no norm of a + b.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
moe.weight @l1.post : tensor<8xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %l1_post = moe.get_weight @l1.post : tensor<8xf32>
  %pf1 = moe.rms_norm %f1, %l1_post eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the FFN of layer 1: its output is normed before it is added (post-norm), which is not linear}}
  %h2 = moe.add %h1, %pf1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Experts.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.eup source "l1.eup.{}" stacked : tensor<4x6x8xf32>
moe.weight @l1.edown source "l1.edown.{}" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %wt1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_eup = moe.get_weight @l1.eup : tensor<4x6x8xf32>
  %l1_edown = moe.get_weight @l1.edown : tensor<4x8x6xf32>
  %e1 = moe.experts %m1, %id1 up %l1_eup down %l1_edown activation silu : tensor<?x8xf32>, tensor<?x2xi32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %f1 = moe.combine %e1, %wt1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the FFN of layer 1: it routes to experts, and that of layer 0 is dense}}
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// A tap: a draft head, a probe or an early exit reads the stream between two layers.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the FFN of layer 0: its 'moe.add' is also read by 'moe.gather_rows' outside of the window (a tap)}}
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %tap = moe.gather_rows %h1, %rows : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  return %h2, %tap : tensor<?x8xf32>, tensor<?x8xf32>
}
