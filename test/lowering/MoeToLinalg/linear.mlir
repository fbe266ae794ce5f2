// Embedding, linear, add and row gather.
// RUN: moe-opt --moe-to-linalg --split-input-file %s | FileCheck-22 %s

// CHECK-LABEL: func.func @embedding
// CHECK-SAME:    %[[IDS:[a-z0-9_]+]]: tensor<?xi32>, %[[TABLE:[a-z0-9_]+]]: tensor<16x4xbf16>
// CHECK:         linalg.generic {{.*}} ins(%[[IDS]] : tensor<?xi32>)
// CHECK:         %[[ROW:[a-z0-9_]+]] = arith.index_cast %{{.*}} : i32 to index
// CHECK:         %[[COLUMN:[a-z0-9_]+]] = linalg.index 1
// CHECK:         tensor.extract %[[TABLE]][%[[ROW]], %[[COLUMN]]]
// CHECK:         arith.extf {{.*}} : bf16 to f32
func.func @embedding(%ids: tensor<?xi32>, %table: tensor<16x4xbf16>) -> tensor<?x4xf32> {
  %h = moe.embedding %ids, %table : tensor<?xi32>, tensor<16x4xbf16> -> tensor<?x4xf32>
  return %h : tensor<?x4xf32>
}

// -----

// CHECK: #[[$X:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK: #[[$W:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK: #[[$Y:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-LABEL: func.func @linear
// CHECK-SAME:    %[[X:[a-z0-9_]+]]: tensor<?x4xbf16>, %[[W:[a-z0-9_]+]]: tensor<6x4xf16>, %[[B:[a-z0-9_]+]]: tensor<6xf32>
// CHECK:         linalg.fill {{.*}} -> tensor<?x6xf32>
// CHECK:         linalg.generic {indexing_maps = [#[[$X]], #[[$W]], #[[$Y]]], iterator_types = ["parallel", "parallel", "reduction"]} ins(%[[X]], %[[W]] :
// CHECK-DAG:     arith.extf {{.*}} : bf16 to f32
// CHECK-DAG:     arith.extf {{.*}} : f16 to f32
// CHECK:         arith.addf {{.*}} : f32
// CHECK:         linalg.generic {{.*}} ins(%{{.*}}, %[[B]] :
// CHECK:         arith.addf {{.*}} : f32
// CHECK:         arith.truncf {{.*}} : f32 to bf16
func.func @linear(%x: tensor<?x4xbf16>, %w: tensor<6x4xf16>, %b: tensor<6xf32>) -> tensor<?x6xbf16> {
  %y = moe.linear %x, %w bias %b : tensor<?x4xbf16>, tensor<6x4xf16>, tensor<6xf32> -> tensor<?x6xbf16>
  return %y : tensor<?x6xbf16>
}

// -----

// CHECK-LABEL: func.func @linear_in_double
// CHECK:         arith.extf {{.*}} : f32 to f64
// CHECK:         arith.addf {{.*}} : f64
func.func @linear_in_double(%x: tensor<?x4xf64>, %w: tensor<6x4xf32>) -> tensor<?x6xf64> {
  %y = moe.linear %x, %w : tensor<?x4xf64>, tensor<6x4xf32> -> tensor<?x6xf64>
  return %y : tensor<?x6xf64>
}

// -----

// CHECK-LABEL: func.func @add
// CHECK:         %[[L:[a-z0-9_]+]] = arith.extf {{.*}} : bf16 to f32
// CHECK:         arith.addf %{{.*}}, %{{.*}} : f32
// CHECK-NEXT:    arith.truncf {{.*}} : f32 to bf16
func.func @add(%a: tensor<?x4xf32>, %b: tensor<?x4xbf16>) -> tensor<?x4xbf16> {
  %y = moe.add %a, %b : tensor<?x4xf32>, tensor<?x4xbf16> -> tensor<?x4xbf16>
  return %y : tensor<?x4xbf16>
}

// -----

// CHECK-LABEL: func.func @gather_rows
// CHECK-SAME:    %[[X:[a-z0-9_]+]]: tensor<?x4xf32>, %[[ROWS:[a-z0-9_]+]]: tensor<?xi32>
// CHECK:         %[[M:[a-z0-9_]+]] = tensor.dim %[[ROWS]]
// CHECK:         tensor.empty(%[[M]]) : tensor<?x4xf32>
// CHECK:         tensor.extract %[[X]]
func.func @gather_rows(%x: tensor<?x4xf32>, %rows: tensor<?xi32>) -> tensor<?x4xf32> {
  %y = moe.gather_rows %x, %rows : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
