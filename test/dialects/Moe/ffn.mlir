// Round trip of moe.ffn, through the generic form as well.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func @ffn
func.func @ffn(%x: tensor<?x64xbf16>, %g: tensor<96x64xbf16>, %d: tensor<64x96xbf16>, %bi: tensor<96xbf16>, %bo: tensor<64xbf16>) {
  // CHECK: moe.ffn %{{.*}} gate %{{.*}} up %{{.*}} down %{{.*}} activation silu : tensor<?x64xbf16>, gate tensor<96x64xbf16>, up tensor<96x64xbf16>, down tensor<64x96xbf16> -> tensor<?x64xf32>
  moe.ffn %x gate %g up %g down %d activation silu : tensor<?x64xbf16>, gate tensor<96x64xbf16>, up tensor<96x64xbf16>, down tensor<64x96xbf16> -> tensor<?x64xf32>
  // CHECK: moe.ffn %{{.*}} up %{{.*}} down %{{.*}} up_bias %{{.*}} down_bias %{{.*}} activation gelu_tanh : tensor<?x64xbf16>, up tensor<96x64xbf16>, down tensor<64x96xbf16>, up_bias tensor<96xbf16>, down_bias tensor<64xbf16> -> tensor<?x64xf32>
  moe.ffn %x up %g down %d up_bias %bi down_bias %bo activation gelu_tanh : tensor<?x64xbf16>, up tensor<96x64xbf16>, down tensor<64x96xbf16>, up_bias tensor<96xbf16>, down_bias tensor<64xbf16> -> tensor<?x64xf32>
  // CHECK: moe.ffn %{{.*}} gate %{{.*}} gate_bias %{{.*}} activation oss_swiglu {limit = 5.000000e+00 : f64}
  moe.ffn %x gate %g up %g down %d gate_bias %bi activation oss_swiglu {limit = 5.0 : f64} : tensor<?x64xbf16>, gate tensor<96x64xbf16>, up tensor<96x64xbf16>, down tensor<64x96xbf16>, gate_bias tensor<96xbf16> -> tensor<?x64xf32>
  // CHECK: activation relu
  moe.ffn %x up %g down %d activation relu : tensor<?x64xbf16>, up tensor<96x64xbf16>, down tensor<64x96xbf16> -> tensor<?x64xf32>
  // CHECK: activation gelu :
  moe.ffn %x up %g down %d activation gelu : tensor<?x64xbf16>, up tensor<96x64xbf16>, down tensor<64x96xbf16> -> tensor<?x64xf32>
  return
}
