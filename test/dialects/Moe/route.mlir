// Round trip of moe.route as the families write it, through the generic form as well.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func @mixtral
// CHECK: moe.route %{{.*}} top 2 score softmax renormalize sum : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
func.func @mixtral(%logits: tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %experts, %weights = moe.route %logits top 2 score softmax renormalize sum
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %experts, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// CHECK-LABEL: func @olmoe
// CHECK: moe.route %{{.*}} top 8 score softmax : tensor<?x64xf32> -> tensor<?x8xi32>, tensor<?x8xf32>
func.func @olmoe(%logits: tensor<?x64xf32>) {
  moe.route %logits top 8 score softmax renormalize none : tensor<?x64xf32> -> tensor<?x8xi32>, tensor<?x8xf32>
  return
}

// CHECK-LABEL: func @gpt_oss
// CHECK: moe.route %{{.*}} top 4 score identity renormalize softmax : tensor<?x32xf32> -> tensor<?x4xi32>, tensor<?x4xf32>
func.func @gpt_oss(%logits: tensor<?x32xf32>) {
  moe.route %logits top 4 score identity renormalize softmax : tensor<?x32xf32> -> tensor<?x4xi32>, tensor<?x4xf32>
  return
}

// CHECK-LABEL: func @deepseek_v3
// CHECK: moe.route %{{.*}} bias %{{.*}} top 8 score sigmoid renormalize sum epsilon 9.9999999999999995E-21 scale 2.500000e+00 groups 8 keep 4 by top2sum : tensor<?x256xf32>, tensor<256xf32> -> tensor<?x8xi32>, tensor<?x8xf32>
func.func @deepseek_v3(%logits: tensor<?x256xf32>, %bias: tensor<256xf32>) {
  moe.route %logits bias %bias top 8 score sigmoid renormalize sum epsilon 1.0e-20 scale 2.5 groups 8 keep 4 by top2sum
      : tensor<?x256xf32>, tensor<256xf32> -> tensor<?x8xi32>, tensor<?x8xf32>
  return
}

// CHECK-LABEL: func @deepseek_v2
// CHECK: moe.route %{{.*}} top 6 score softmax scale 1.600000e+01 groups 8 keep 3 by max : tensor<?x160xf32> -> tensor<?x6xi32>, tensor<?x6xf32>
func.func @deepseek_v2(%logits: tensor<?x160xf32>) {
  moe.route %logits top 6 score softmax scale 16.0 groups 8 keep 3 by max : tensor<?x160xf32> -> tensor<?x6xi32>, tensor<?x6xf32>
  return
}

// CHECK-LABEL: func @two_fused_layers
// CHECK: moe.route %{{.*}} bias %{{.*}} top 4 score sigmoid renormalize sum groups 2 keep 1 by max routers 2 : tensor<?x16xf32>, tensor<16xf32> -> tensor<?x4xi32>, tensor<?x4xf32>
func.func @two_fused_layers(%logits: tensor<?x16xf32>, %bias: tensor<16xf32>) {
  moe.route %logits bias %bias top 4 score sigmoid renormalize sum groups 2 keep 1 by max routers 2
      : tensor<?x16xf32>, tensor<16xf32> -> tensor<?x4xi32>, tensor<?x4xf32>
  return
}
