// Round trip of embedding, linear, add and gather_rows, through the generic form as well.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func @embedding
// CHECK: moe.embedding %{{.*}}, %{{.*}} : tensor<?xi32>, tensor<96x64xbf16> -> tensor<?x64xf32>
func.func @embedding(%tokens: tensor<?xi32>, %table: tensor<96x64xbf16>) -> tensor<?x64xf32> {
  %h = moe.embedding %tokens, %table : tensor<?xi32>, tensor<96x64xbf16> -> tensor<?x64xf32>
  return %h : tensor<?x64xf32>
}

// CHECK-LABEL: func @linear
func.func @linear(%x: tensor<?x64xbf16>, %w: tensor<96x64xf16>, %b: tensor<96xf32>) {
  // CHECK: moe.linear %{{.*}}, %{{.*}} : tensor<?x64xbf16>, tensor<96x64xf16> -> tensor<?x96xf32>
  moe.linear %x, %w : tensor<?x64xbf16>, tensor<96x64xf16> -> tensor<?x96xf32>
  // CHECK: moe.linear %{{.*}}, %{{.*}} bias %{{.*}} : tensor<?x64xbf16>, tensor<96x64xf16>, tensor<96xf32> -> tensor<?x96xbf16>
  moe.linear %x, %w bias %b : tensor<?x64xbf16>, tensor<96x64xf16>, tensor<96xf32> -> tensor<?x96xbf16>
  return
}

// CHECK-LABEL: func @add
// CHECK: moe.add %{{.*}}, %{{.*}} : tensor<7x64xf32>, tensor<7x64xbf16> -> tensor<7x64xf32>
func.func @add(%a: tensor<7x64xf32>, %b: tensor<7x64xbf16>) -> tensor<7x64xf32> {
  %c = moe.add %a, %b : tensor<7x64xf32>, tensor<7x64xbf16> -> tensor<7x64xf32>
  return %c : tensor<7x64xf32>
}

// CHECK-LABEL: func @gather_rows
// CHECK: moe.gather_rows %{{.*}}, %{{.*}} : tensor<?x64xf32>, tensor<3xi32> -> tensor<3x64xf32>
func.func @gather_rows(%x: tensor<?x64xf32>, %rows: tensor<3xi32>) -> tensor<3x64xf32> {
  %l = moe.gather_rows %x, %rows : tensor<?x64xf32>, tensor<3xi32> -> tensor<3x64xf32>
  return %l : tensor<3x64xf32>
}
