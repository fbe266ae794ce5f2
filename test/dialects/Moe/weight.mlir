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
