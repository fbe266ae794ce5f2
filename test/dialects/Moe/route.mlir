// Round trip of moe.route, through the generic form as well.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func @mixtral
// CHECK: moe.route %{{.*}} top 2 score softmax renormalize sum : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
func.func @mixtral(%logits: tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %experts, %weights = moe.route %logits top 2 score softmax renormalize sum
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %experts, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}
