// Round trip of weights and states, through the generic form as well; what folds and what stays.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --canonicalize --cse | FileCheck %s --check-prefix=FOLD

// CHECK: moe.weight @model.norm.weight : tensor<128xbf16>
moe.weight @model.norm.weight : tensor<128xbf16>
// CHECK: moe.weight @table source "model.embed_tokens.weight" : tensor<96x64xf16>
moe.weight @table source "model.embed_tokens.weight" : tensor<96x64xf16>
// CHECK: moe.weight @l0.w1 source "layers.0.experts.{}.w1.weight" stacked : tensor<16x96x128xf32>
moe.weight @l0.w1 source "layers.0.experts.{}.w1.weight" stacked : tensor<16x96x128xf32>
// CHECK: moe.weight @"experts.{}.w2" stacked : tensor<16x128x96xf64>
moe.weight @"experts.{}.w2" stacked : tensor<16x128x96xf64>
// CHECK: moe.state @kv0 : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 16, element = bf16>
moe.state @kv0 : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 16, element = bf16>

// CHECK-LABEL: func @get
// CHECK: moe.get_weight @model.norm.weight : tensor<128xbf16>
func.func @get() -> tensor<128xbf16> {
  %w = moe.get_weight @model.norm.weight : tensor<128xbf16>
  return %w : tensor<128xbf16>
}

// CHECK-LABEL: func @part
// CHECK: moe.part %{{.*}} dim 1 from 3 : tensor<2x8x4xbf16> -> tensor<2x5x4xbf16>
// FOLD-LABEL: func @part
// FOLD: moe.part
func.func @part(%w: tensor<2x8x4xbf16>) -> tensor<2x5x4xbf16> {
  %a = moe.part %w dim 1 from 3 : tensor<2x8x4xbf16> -> tensor<2x5x4xbf16>
  return %a : tensor<2x5x4xbf16>
}

// CHECK-LABEL: func @part_of_all
// CHECK: moe.part %{{.*}} dim 0 from 0 : tensor<8xf32> -> tensor<8xf32>
// FOLD-LABEL: func @part_of_all(
// FOLD-SAME: %[[A:.*]]: tensor<8xf32>
// FOLD-NEXT: return %[[A]]
func.func @part_of_all(%w: tensor<8xf32>) -> tensor<8xf32> {
  %a = moe.part %w dim 0 from 0 : tensor<8xf32> -> tensor<8xf32>
  return %a : tensor<8xf32>
}

// CHECK-LABEL: func @concat
// CHECK: moe.concat %{{.*}}, %{{.*}} dim 1 : tensor<8x3xf32>, tensor<8x5xf32> -> tensor<8x8xf32>
// FOLD-LABEL: func @concat
// FOLD: moe.concat
func.func @concat(%a: tensor<8x3xf32>, %b: tensor<8x5xf32>) -> tensor<8x8xf32> {
  %c = moe.concat %a, %b dim 1 : tensor<8x3xf32>, tensor<8x5xf32> -> tensor<8x8xf32>
  return %c : tensor<8x8xf32>
}

// CHECK-LABEL: func @concat_of_one
// CHECK: moe.concat %{{.*}} dim 0 : tensor<8xf32> -> tensor<8xf32>
// FOLD-LABEL: func @concat_of_one(
// FOLD-SAME: %[[A:.*]]: tensor<8xf32>
// FOLD-NEXT: return %[[A]]
func.func @concat_of_one(%a: tensor<8xf32>) -> tensor<8xf32> {
  %c = moe.concat %a dim 0 : tensor<8xf32> -> tensor<8xf32>
  return %c : tensor<8xf32>
}

// CHECK-LABEL: func @scale
// CHECK: moe.scale %{{.*}} by %{{.*}} dim 0 : tensor<8x3xf32>, tensor<8xbf16> -> tensor<8x3xbf16>
// CHECK: moe.scale %{{.*}} by %{{.*}} over %{{.*}} dim 1 : tensor<8x3xf32>, tensor<3xf32>, tensor<3xf16> -> tensor<8x3xf32>
func.func @scale(%w: tensor<8x3xf32>, %rows: tensor<8xbf16>, %columns: tensor<3xf32>, %over: tensor<3xf16>) -> (tensor<8x3xbf16>, tensor<8x3xf32>) {
  %a = moe.scale %w by %rows dim 0 : tensor<8x3xf32>, tensor<8xbf16> -> tensor<8x3xbf16>
  %b = moe.scale %w by %columns over %over dim 1 : tensor<8x3xf32>, tensor<3xf32>, tensor<3xf16> -> tensor<8x3xf32>
  return %a, %b : tensor<8x3xbf16>, tensor<8x3xf32>
}

// CHECK-LABEL: func @floor_magnitude
// CHECK: moe.floor_magnitude %{{.*}} at 5.000000e-01 : tensor<8xbf16> -> tensor<8xf32>
func.func @floor_magnitude(%w: tensor<8xbf16>) -> tensor<8xf32> {
  %a = moe.floor_magnitude %w at 0.5 : tensor<8xbf16> -> tensor<8xf32>
  return %a : tensor<8xf32>
}

// CHECK-LABEL: func @product_of_experts
// CHECK: moe.product %{{.*}}, %{{.*}} : tensor<4x8x3xbf16>, tensor<3x5xf32> -> tensor<4x8x5xbf16>
// CHECK: moe.product %{{.*}}, %{{.*}} : tensor<5x3xf32>, tensor<4x3x8xbf16> -> tensor<4x5x8xbf16>
func.func @product_of_experts(%a: tensor<4x8x3xbf16>, %b: tensor<3x5xf32>, %c: tensor<5x3xf32>, %d: tensor<4x3x8xbf16>) {
  moe.product %a, %b : tensor<4x8x3xbf16>, tensor<3x5xf32> -> tensor<4x8x5xbf16>
  moe.product %c, %d : tensor<5x3xf32>, tensor<4x3x8xbf16> -> tensor<4x5x8xbf16>
  return
}

// CHECK-LABEL: func @product(
// CHECK: moe.product %{{.*}}, %{{.*}} : tensor<8x3xbf16>, tensor<3x5xf32> -> tensor<8x5xbf16>
func.func @product(%a: tensor<8x3xbf16>, %b: tensor<3x5xf32>) -> tensor<8x5xbf16> {
  %c = moe.product %a, %b : tensor<8x3xbf16>, tensor<3x5xf32> -> tensor<8x5xbf16>
  return %c : tensor<8x5xbf16>
}

// CHECK-LABEL: func @sum
// CHECK: moe.sum %{{.*}}, %{{.*}}, %{{.*}} : tensor<8xbf16>, tensor<8xf32>, tensor<8xbf16> -> tensor<8xbf16>
// FOLD-LABEL: func @sum(
// FOLD: moe.sum
func.func @sum(%a: tensor<8xbf16>, %b: tensor<8xf32>) -> tensor<8xbf16> {
  %c = moe.sum %a, %b, %a : tensor<8xbf16>, tensor<8xf32>, tensor<8xbf16> -> tensor<8xbf16>
  return %c : tensor<8xbf16>
}

// A sum of one folds unless it converts.
// FOLD-LABEL: func @sum_of_one(
// FOLD-SAME: %[[A:.*]]: tensor<8xf32>
// FOLD-NEXT: %[[B:.*]] = moe.sum %[[A]] : tensor<8xf32> -> tensor<8xbf16>
// FOLD-NEXT: return %[[A]], %[[B]]
func.func @sum_of_one(%a: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xbf16>) {
  %b = moe.sum %a : tensor<8xf32> -> tensor<8xf32>
  %c = moe.sum %a : tensor<8xf32> -> tensor<8xbf16>
  return %b, %c : tensor<8xf32>, tensor<8xbf16>
}

// CHECK-LABEL: func @pad
// CHECK: moe.pad %{{.*}} dim 1 : tensor<8x3xf32> -> tensor<8x4xf32>
// FOLD-LABEL: func @pad(
// FOLD-SAME: %[[A:.*]]: tensor<8x3xf32>
// FOLD-NEXT: %[[B:.*]] = moe.pad
// FOLD-NEXT: return %[[B]], %[[A]]
func.func @pad(%a: tensor<8x3xf32>) -> (tensor<8x4xf32>, tensor<8x3xf32>) {
  %b = moe.pad %a dim 1 : tensor<8x3xf32> -> tensor<8x4xf32>
  %c = moe.pad %a dim 0 : tensor<8x3xf32> -> tensor<8x3xf32>
  return %b, %c : tensor<8x4xf32>, tensor<8x3xf32>
}

// Equal reads of a weight are one; a read that nobody uses is none.
// FOLD-LABEL: func @weights_are_pure
// FOLD-COUNT-1: moe.get_weight
// FOLD-NOT: moe.get_weight
// FOLD: return
func.func @weights_are_pure() -> (tensor<128xbf16>, tensor<128xbf16>) {
  %a = moe.get_weight @model.norm.weight : tensor<128xbf16>
  %b = moe.get_weight @model.norm.weight : tensor<128xbf16>
  %c = moe.get_weight @table : tensor<96x64xf16>
  return %a, %b : tensor<128xbf16>, tensor<128xbf16>
}
