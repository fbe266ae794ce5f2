// Weights and states: trailing arguments in the order of declaration, states first; computations on weights.
// RUN: moe-opt --moe-to-linalg %s | FileCheck-22 %s
// RUN: moe-opt --moe-to-linalg %s | mlir-opt-22 -o /dev/null

moe.weight @second source "model.layers.{}.w" stacked : tensor<3x2x4xbf16>
moe.weight @first : tensor<4xf32>
moe.state @kv1 : !moe.kv_cache<heads = 2, key_dim = 4, value_dim = 4, element = f32>
moe.state @kv0 : !moe.kv_cache<heads = 1, key_dim = 8, value_dim = 6, element = bf16>

// CHECK-NOT: moe.weight @
// CHECK-LABEL: func.func @step
// CHECK-SAME:    (%[[X:[a-z0-9_]+]]: tensor<?x4xf32>,
// CHECK-SAME:    %[[K1:[a-z0-9_]+]]: tensor<?x?x2x4xf32> {moe.state = "kv1.keys"}, %[[V1:[a-z0-9_]+]]: tensor<?x?x2x4xf32> {moe.state = "kv1.values"},
// CHECK-SAME:    %[[K0:[a-z0-9_]+]]: tensor<?x?x1x8xbf16> {moe.state = "kv0.keys"}, %[[V0:[a-z0-9_]+]]: tensor<?x?x1x6xbf16> {moe.state = "kv0.values"},
// CHECK-SAME:    %[[SECOND:[a-z0-9_]+]]: tensor<3x2x4xbf16> {moe.weight = "model.layers.{}.w"}, %[[FIRST:[a-z0-9_]+]]: tensor<4xf32> {moe.weight = "first"})
// CHECK-SAME:    -> (tensor<?x4xf32>, tensor<3x5x4xbf16>, tensor<?x?x2x4xf32>, tensor<?x?x2x4xf32>, tensor<?x?x1x8xbf16>, tensor<?x?x1x6xbf16>)
// CHECK:         linalg.generic {{.*}} ins(%{{.*}}, %{{.*}}, %[[FIRST]] :
// CHECK:         %[[EMPTY:[a-z0-9_]+]] = tensor.empty() : tensor<3x5x4xbf16>
// CHECK:         %[[PART:[a-z0-9_]+]] = tensor.insert_slice %[[SECOND]] into %[[EMPTY]][0, 0, 0] [3, 2, 4] [1, 1, 1]
// CHECK:         %[[JOINED:[a-z0-9_]+]] = tensor.insert_slice %{{.*}} into %[[PART]][0, 2, 0] [3, 3, 4] [1, 1, 1]
// CHECK:         return %{{.*}}, %[[JOINED]], %[[K1]], %[[V1]], %[[K0]], %[[V0]]
func.func @step(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<3x5x4xbf16>) {
  %first = moe.get_weight @first : tensor<4xf32>
  %second = moe.get_weight @second : tensor<3x2x4xbf16>
  %third = arith.constant dense<1.0> : tensor<3x3x4xbf16>
  %y = moe.rms_norm %x, %first eps 1.0e-05 : tensor<?x4xf32>, tensor<4xf32> -> tensor<?x4xf32>
  %joined = moe.concat %second, %third dim 1 : tensor<3x2x4xbf16>, tensor<3x3x4xbf16> -> tensor<3x5x4xbf16>
  return %y, %joined : tensor<?x4xf32>, tensor<3x5x4xbf16>
}

// CHECK-LABEL: func.func @computations
// CHECK:         arith.divf
// CHECK:         arith.mulf
// CHECK:         math.absf
// CHECK:         arith.cmpf olt
// CHECK:         linalg.generic {{.*}}iterator_types = ["parallel", "parallel", "reduction"]
// CHECK-SAME:      ins(%{{.*}}, %{{.*}} : tensor<2x3xbf16>, tensor<3x5xf64>) outs(%{{.*}} : tensor<2x5xf64>)
// CHECK:         tensor.insert_slice %{{.*}} into %{{.*}}[0, 0] [2, 5] [1, 1] : tensor<2x5xf32> into tensor<4x5xf32>
func.func @computations(%w: tensor<2x3xbf16>, %s: tensor<3xf32>, %o: tensor<3xf32>, %m: tensor<3x5xf64>) -> (tensor<4x5xf32>, tensor<3xf32>) {
  %scaled = moe.scale %w by %s over %o dim 1 : tensor<2x3xbf16>, tensor<3xf32>, tensor<3xf32> -> tensor<2x3xbf16>
  %kept = moe.floor_magnitude %s at 1.0e-3 : tensor<3xf32> -> tensor<3xf32>
  %mapped = moe.product %scaled, %m : tensor<2x3xbf16>, tensor<3x5xf64> -> tensor<2x5xf32>
  %wide = moe.pad %mapped dim 0 : tensor<2x5xf32> -> tensor<4x5xf32>
  %sum = moe.sum %kept, %o : tensor<3xf32>, tensor<3xf32> -> tensor<3xf32>
  return %wide, %sum : tensor<4x5xf32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @part
// CHECK:         tensor.extract_slice %{{.*}}[0, 3, 0] [2, 5, 4] [1, 1, 1] : tensor<2x8x4xbf16> to tensor<2x5x4xbf16>
func.func @part(%w: tensor<2x8x4xbf16>) -> tensor<2x5x4xbf16> {
  %a = moe.part %w dim 1 from 3 : tensor<2x8x4xbf16> -> tensor<2x5x4xbf16>
  return %a : tensor<2x5x4xbf16>
}
