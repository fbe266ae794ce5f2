// moe.rms_norm: statistics in f32 (f64 on f64 input), groups, and when it rounds.
// RUN: moe-opt --moe-to-linalg --split-input-file %s | FileCheck-22 %s

// CHECK-LABEL: func.func @rounds_before_weight
// CHECK-SAME:    %[[X:[a-z0-9_]+]]: tensor<?x8xf32>, %[[W:[a-z0-9_]+]]: tensor<8xbf16>
// CHECK:         %[[SQUARES:[a-z0-9_]+]] = linalg.generic {{.*}}iterator_types = ["parallel", "parallel", "reduction"]
// CHECK:         arith.mulf {{.*}} : f32
// CHECK:         arith.addf {{.*}} : f32
// CHECK:         arith.divf %{{.*}}, %{{.*}} : f32
// CHECK:         math.sqrt {{.*}} : f32
// CHECK:         arith.divf {{.*}} : f32
// CHECK-NEXT:    %[[ROUNDED:[a-z0-9_]+]] = arith.truncf {{.*}} : f32 to bf16
// CHECK-NEXT:    %[[BACK:[a-z0-9_]+]] = arith.extf %[[ROUNDED]] : bf16 to f32
// CHECK:         arith.mulf %[[BACK]], %{{.*}} : f32
// CHECK-NEXT:    arith.truncf {{.*}} : f32 to bf16
func.func @rounds_before_weight(%x: tensor<?x8xf32>, %w: tensor<8xbf16>) -> tensor<?x8xbf16> {
  %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<?x8xf32>, tensor<8xbf16> -> tensor<?x8xbf16>
  return %y : tensor<?x8xbf16>
}

// -----

// CHECK-LABEL: func.func @rounds_after_weight
// CHECK:         math.sqrt
// CHECK:         arith.divf
// CHECK-NOT:     arith.truncf
// CHECK:         arith.mulf
// CHECK-NEXT:    arith.truncf {{.*}} : f32 to bf16
func.func @rounds_after_weight(%x: tensor<?x8xf32>, %w: tensor<8xbf16>) -> tensor<?x8xbf16> {
  %y = moe.rms_norm %x, %w eps 1.0e-05 rounding after_weight : tensor<?x8xf32>, tensor<8xbf16> -> tensor<?x8xbf16>
  return %y : tensor<?x8xbf16>
}

// -----

// CHECK-LABEL: func.func @groups
// CHECK:         tensor.expand_shape %{{.*}} {{\[\[}}0], [1, 2]] output_shape [%{{.*}}, 4, 2] : tensor<?x8xf32> into tensor<?x4x2xf32>
// CHECK:         tensor.collapse_shape %{{.*}} {{\[\[}}0], [1, 2]] : tensor<?x4x2xf32> into tensor<?x8xf32>
func.func @groups(%x: tensor<?x8xf32>, %w: tensor<2xf32>) -> tensor<?x8xf32> {
  %y = moe.rms_norm %x, %w eps 1.0e-05 groups 4 : tensor<?x8xf32>, tensor<2xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// CHECK-LABEL: func.func @double_precision
// CHECK:         math.sqrt {{.*}} : f64
// CHECK-NOT:     f32
func.func @double_precision(%x: tensor<?x8xf64>, %w: tensor<8xf64>) -> tensor<?x8xf64> {
  %y = moe.rms_norm %x, %w eps 1.0e-05 : tensor<?x8xf64>, tensor<8xf64> -> tensor<?x8xf64>
  return %y : tensor<?x8xf64>
}
