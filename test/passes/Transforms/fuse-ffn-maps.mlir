// Maps of a plan: of the second layer's input in place of its scale, of the sum from the left of both down weights. A map
// of the sum would leave out a bias.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-map.json})' | FileCheck %s

// CHECK-LABEL: func.func @step
// CHECK:       moe.ffn {{.*}} gate tensor<6x8xf32>
// CHECK:       moe.ffn {{.*}} gate tensor<6x8xf32>

// CHECK:       moe.weight @t : tensor<8x8xf32>
// CHECK:       moe.weight @f : tensor<8x8xf32>
// CHECK-LABEL: func.func @step
// CHECK-DAG:   %[[U0:.*]] = moe.get_weight @l0.up
// CHECK-DAG:   %[[U1:.*]] = moe.get_weight @l1.up
// CHECK-DAG:   %[[D0:.*]] = moe.get_weight @l0.down
// CHECK-DAG:   %[[D1:.*]] = moe.get_weight @l1.down
// CHECK-DAG:   %[[F:.*]] = moe.get_weight @f
// CHECK-DAG:   %[[T:.*]] = moe.get_weight @t
// CHECK-DAG:   %[[A0:.*]] = moe.scale %[[U0]] by
// CHECK-DAG:   %[[A1:.*]] = moe.product %[[U1]], %[[F]]
// CHECK-DAG:   moe.concat %[[A0]], %[[A1]] dim 0
// CHECK-DAG:   %[[B0:.*]] = moe.product %[[T]], %[[D0]] : tensor<8x8xf32>, tensor<8x6xf32> -> tensor<8x6xf32>
// CHECK-DAG:   %[[B1:.*]] = moe.product %[[T]], %[[D1]]
// CHECK:       moe.concat %[[B0]], %[[B1]] dim 1
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.post_attention : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l0.bias : tensor<8xf32>
moe.weight @l1.post_attention : tensor<8xf32>
moe.weight @l1.gate : tensor<6x8xf32>
moe.weight @l1.up : tensor<6x8xf32>
moe.weight @l1.down : tensor<8x6xf32>
moe.weight @l1.bias : tensor<8xf32>
// expected-remark @below {{layers 0 to 1 not fused: the map of the FFNs' sum does not reach their down biases}}
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_post_attention = moe.get_weight @l0.post_attention : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %l0_bias = moe.get_weight @l0.bias : tensor<8xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down down_bias %l0_bias activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32>, down_bias tensor<8xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_post_attention = moe.get_weight @l1.post_attention : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_post_attention eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x6xf32>
  %l1_bias = moe.get_weight @l1.bias : tensor<8xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down down_bias %l1_bias activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32>, down_bias tensor<8xf32> -> tensor<?x8xf32>
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

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
  // expected-remark @below {{layers 0 to 1 fused in form D, 1 sub-layers fewer: the result approximates the model}}
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}
