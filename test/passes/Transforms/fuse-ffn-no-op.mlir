// What is not fused without a plan: FFNs that follow each other, FFNs that differ, and functions of several blocks, where
// nothing says which add comes first.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-fuse-ffn -o %t
// RUN: moe-opt %s --split-input-file | diff %t -

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
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 up %l0_up down %l0_down activation silu : tensor<?x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 up %l1_up down %l1_down activation relu : tensor<?x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  // expected-remark @below {{2 FFNs on one input not fused: the activations of layers 0 and 1 differ: silu and relu}}
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %f0 = moe.ffn %m0 up %l0_up down %l0_down activation silu : tensor<?x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %f1 = moe.ffn %m1 up %l1_up down %l1_down activation silu : tensor<?x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  cf.br ^next(%h1 : tensor<?x8xf32>)
  ^next(%h3: tensor<?x8xf32>):
  %h2 = moe.add %h3, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}
