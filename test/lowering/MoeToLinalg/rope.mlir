// moe.rope: frequencies rounded to f32, angles in f32 whatever the activations are; both pair layouts; a rotary slice.
// RUN: moe-opt --moe-to-linalg --split-input-file %s | FileCheck-22 %s

// CHECK-LABEL: func.func @half_split
// CHECK:         arith.constant dense<[1.000000e+00, 0.00999999977]> : tensor<2xf32>
// CHECK:         %[[POSITION:[a-z0-9_]+]] = arith.sitofp %{{.*}} : i32 to f32
// CHECK:         %[[ANGLE:[a-z0-9_]+]] = arith.mulf %[[POSITION]], %{{.*}} : f32
// CHECK:         math.cos %{{.*}} : f32
// CHECK:         math.sin %{{.*}} : f32
// CHECK:         tensor.expand_shape {{.*}} : tensor<?x3x4xbf16> into tensor<?x3x2x2xbf16>
// CHECK:         tensor.extract_slice %{{.*}}[0, 0, 0, 0] [%{{.*}}, 3, 1, 2] [1, 1, 1, 1]
// CHECK:         tensor.extract_slice %{{.*}}[0, 0, 1, 0] [%{{.*}}, 3, 1, 2] [1, 1, 1, 1]
// CHECK:         arith.subf {{.*}} : f32
// CHECK-NEXT:    arith.truncf {{.*}} : f32 to bf16
// CHECK:         arith.addf {{.*}} : f32
// CHECK-NEXT:    arith.truncf {{.*}} : f32 to bf16
func.func @half_split(%x: tensor<?x12xbf16>, %pos: tensor<?xi32>) -> tensor<?x12xbf16> {
  %y = moe.rope %x at %pos heads 3 <kind = default, theta = 1.0e+04, dim = 4> : tensor<?x12xbf16>, tensor<?xi32> -> tensor<?x12xbf16>
  return %y : tensor<?x12xbf16>
}

// -----

// The pair is the last dim, and only 4 of 6 elements of a head turn.
// CHECK-LABEL: func.func @interleaved_slice
// CHECK:         arith.mulf %{{.*}}, %cst{{.*}} : f32
// CHECK:         tensor.extract_slice %{{.*}}[0, 0, 2] [%{{.*}}, 2, 4] [1, 1, 1] : tensor<?x2x6xf32> to tensor<?x2x4xf32>
// CHECK:         tensor.expand_shape {{.*}} : tensor<?x2x4xf32> into tensor<?x2x2x2xf32>
// CHECK:         tensor.extract_slice %{{.*}}[0, 0, 0, 1] [%{{.*}}, 2, 2, 1] [1, 1, 1, 1]
// CHECK:         tensor.insert_slice %{{.*}} into %{{.*}}[0, 0, 2] [%{{.*}}, 2, 4] [1, 1, 1] : tensor<?x2x4xf32> into tensor<?x2x6xf32>
func.func @interleaved_slice(%x: tensor<?x12xf32>, %pos: tensor<?xi32>) -> tensor<?x12xf32> {
  %y = moe.rope %x at %pos heads 2 <kind = default, theta = 1.0e+04, dim = 4, offset = 2, interleaved = true, attention_factor = 1.5>
      : tensor<?x12xf32>, tensor<?xi32> -> tensor<?x12xf32>
  return %y : tensor<?x12xf32>
}

// -----

// CHECK-LABEL: func.func @double_precision
// CHECK:         math.cos %{{.*}} : f32
// CHECK:         arith.extf %{{.*}} : f32 to f64
// CHECK:         arith.mulf {{.*}} : f64
func.func @double_precision(%x: tensor<?x4xf64>, %pos: tensor<?xi32>) -> tensor<?x4xf64> {
  %y = moe.rope %x at %pos heads 1 <kind = default, theta = 1.0e+04, dim = 4> : tensor<?x4xf64>, tensor<?xi32> -> tensor<?x4xf64>
  return %y : tensor<?x4xf64>
}
