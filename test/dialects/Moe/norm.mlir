// Round trip of moe.rms_norm, through the generic form as well.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func @rms_norm
func.func @rms_norm(%x: tensor<?x128xf32>, %w: tensor<128xbf16>, %head: tensor<32xf16>) {
  // CHECK: moe.rms_norm %{{.*}}, %{{.*}} eps 1.000000e-05 : tensor<?x128xf32>, tensor<128xbf16> -> tensor<?x128xbf16>
  moe.rms_norm %x, %w eps 1.0e-5 : tensor<?x128xf32>, tensor<128xbf16> -> tensor<?x128xbf16>
  // CHECK: moe.rms_norm %{{.*}}, %{{.*}} eps 0.000000e+00 groups 4 : tensor<?x128xf32>, tensor<32xf16> -> tensor<?x128xf32>
  moe.rms_norm %x, %head eps 0.0 groups 4 : tensor<?x128xf32>, tensor<32xf16> -> tensor<?x128xf32>
  // CHECK: moe.rms_norm %{{.*}}, %{{.*}} eps 5.000000e-01 rounding after_weight : tensor<?x128xf32>, tensor<128xbf16> -> tensor<?x128xbf16>
  moe.rms_norm %x, %w eps 0.5 rounding after_weight : tensor<?x128xf32>, tensor<128xbf16> -> tensor<?x128xbf16>
  return
}
