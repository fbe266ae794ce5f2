// moe.ffn: gated and plain, biases, the rounding of the hidden activation, the clamps of oss_swiglu.
// RUN: moe-opt --moe-to-linalg --split-input-file %s | FileCheck-22 %s

// CHECK-LABEL: func.func @gated
// CHECK-SAME:    %[[X:[a-z0-9_]+]]: tensor<?x4xbf16>, %[[G:[a-z0-9_]+]]: tensor<6x4xbf16>, %[[U:[a-z0-9_]+]]: tensor<6x4xbf16>, %[[D:[a-z0-9_]+]]: tensor<4x6xbf16>
// CHECK:         linalg.generic {{.*}} ins(%[[X]], %[[U]] :
// CHECK:         linalg.generic {{.*}} ins(%[[X]], %[[G]] :
// silu(gate) * up
// CHECK:         arith.negf
// CHECK:         math.exp
// CHECK:         arith.addf
// CHECK:         arith.divf
// CHECK:         arith.mulf
// CHECK:         arith.mulf
// CHECK-NEXT:    arith.truncf {{.*}} : f32 to bf16
// CHECK:         linalg.generic {{.*}} ins(%{{.*}}, %[[D]] : tensor<?x6xbf16>,
func.func @gated(%x: tensor<?x4xbf16>, %g: tensor<6x4xbf16>, %u: tensor<6x4xbf16>, %d: tensor<4x6xbf16>) -> tensor<?x4xf32> {
  %y = moe.ffn %x gate %g up %u down %d activation silu
      : tensor<?x4xbf16>, gate tensor<6x4xbf16>, up tensor<6x4xbf16>, down tensor<4x6xbf16> -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// CHECK-LABEL: func.func @plain_with_biases
// CHECK-SAME:    %[[X:[a-z0-9_]+]]: tensor<?x4xf32>, %[[U:[a-z0-9_]+]]: tensor<6x4xf32>, %[[D:[a-z0-9_]+]]: tensor<4x6xf32>, %[[BU:[a-z0-9_]+]]: tensor<6xf32>, %[[BD:[a-z0-9_]+]]: tensor<4xf32>
// CHECK:         linalg.generic {{.*}} ins(%{{.*}}, %[[BU]] :
// CHECK:         math.erf
// CHECK:         linalg.generic {{.*}} ins(%{{.*}}, %[[BD]] :
func.func @plain_with_biases(%x: tensor<?x4xf32>, %u: tensor<6x4xf32>, %d: tensor<4x6xf32>, %bu: tensor<6xf32>, %bd: tensor<4xf32>) -> tensor<?x4xf32> {
  %y = moe.ffn %x up %u down %d up_bias %bu down_bias %bd activation gelu
      : tensor<?x4xf32>, up tensor<6x4xf32>, down tensor<4x6xf32>, up_bias tensor<6xf32>, down_bias tensor<4xf32> -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// The gate is clamped from above only.
// CHECK-LABEL: func.func @oss_swiglu
// CHECK-DAG:     %[[LIMIT:[a-z0-9_]+]] = arith.constant 5.000000e+00 : f32
// CHECK-DAG:     %[[LOW:[a-z0-9_]+]] = arith.constant -5.000000e+00 : f32
// CHECK-DAG:     %[[ALPHA:[a-z0-9_]+]] = arith.constant 2.000000e+00 : f32
// CHECK:         %[[GATE:[a-z0-9_]+]] = arith.minimumf %{{.*}}, %[[LIMIT]]
// CHECK-NEXT:    %[[UP:[a-z0-9_]+]] = arith.minimumf %{{.*}}, %[[LIMIT]]
// CHECK-NEXT:    arith.maximumf %[[UP]], %[[LOW]]
// CHECK:         arith.mulf %[[GATE]], %[[ALPHA]]
func.func @oss_swiglu(%x: tensor<?x4xf32>, %g: tensor<6x4xf32>, %u: tensor<6x4xf32>, %d: tensor<4x6xf32>) -> tensor<?x4xf32> {
  %y = moe.ffn %x gate %g up %u down %d activation oss_swiglu {alpha = 2.0 : f64, limit = 5.0 : f64}
      : tensor<?x4xf32>, gate tensor<6x4xf32>, up tensor<6x4xf32>, down tensor<4x6xf32> -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
