// moe.route: scores, ranks with ties to the lower index, -inf group masks, weights without the bias.
// RUN: moe-opt --moe-to-linalg --split-input-file %s | FileCheck-22 %s

// CHECK-LABEL: func.func @softmax_sum
// CHECK:         math.exp
// CHECK:         arith.divf
// The rank of an expert counts those that are larger, or equal and earlier.
// CHECK:         linalg.generic {{.*}}"parallel", "parallel", "reduction"{{.*}} outs(%{{.*}} : tensor<?x4xi32>)
// CHECK:         arith.cmpf ogt
// CHECK:         arith.cmpf oeq
// CHECK:         %[[OWN:[a-z0-9_]+]] = linalg.index 1
// CHECK:         %[[RIVAL:[a-z0-9_]+]] = linalg.index 2
// CHECK:         arith.cmpi ult, %[[RIVAL]], %[[OWN]]
// CHECK:         linalg.generic {{.*}} outs(%{{.*}} : tensor<?x2xi32>)
// CHECK:         linalg.generic {{.*}} outs(%{{.*}} : tensor<?x2xf32>)
// CHECK:         arith.select
// CHECK:         arith.divf
func.func @softmax_sum(%l: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %e, %w = moe.route %l top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %e, %w : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @sigmoid_groups
// CHECK-SAME:    %[[L:[a-z0-9_]+]]: tensor<?x8xf32>, %[[B:[a-z0-9_]+]]: tensor<8xf32>
// CHECK:         %[[SCORES:[a-z0-9_]+]] = linalg.generic {{.*}} ins(%[[L]] : tensor<?x8xf32>)
// CHECK:         %[[CHOICES:[a-z0-9_]+]] = linalg.generic {{.*}} ins(%[[SCORES]], %[[B]] :
// CHECK:         %[[GROUPED:[a-z0-9_]+]] = tensor.expand_shape %[[CHOICES]] {{.*}} into tensor<?x4x2xf32>
// CHECK:         arith.select %{{.*}}, %{{.*}}, %[[NEGATIVE:[a-z0-9_]+]] : f32
// CHECK:         tensor.collapse_shape
// The weights come from the scores, not from the choices.
// CHECK:         linalg.generic {{.*}} ins(%{{.*}}, %[[SCORES]] : tensor<?x8xi32>, tensor<?x8xf32>) outs(%{{.*}} : tensor<?x3xf32>)
func.func @sigmoid_groups(%l: tensor<?x8xf32>, %b: tensor<8xf32>) -> (tensor<?x3xi32>, tensor<?x3xf32>) {
  %e, %w = moe.route %l bias %b top 3 score sigmoid renormalize sum epsilon 1.0e-20 scale 2.5 groups 4 keep 2 by top2sum
      : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  return %e, %w : tensor<?x3xi32>, tensor<?x3xf32>
}
