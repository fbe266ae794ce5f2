// Round trip of moe.experts and moe.combine, through the generic form as well.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func @experts
func.func @experts(%x: tensor<?x64xbf16>, %ids: tensor<?x2xi32>, %g: tensor<8x96x64xbf16>, %d: tensor<8x64x96xbf16>, %bi: tensor<8x96xbf16>, %bo: tensor<8x64xbf16>) {
  // CHECK: moe.experts %{{.*}}, %{{.*}} gate %{{.*}} up %{{.*}} down %{{.*}} activation silu : tensor<?x64xbf16>, tensor<?x2xi32>, gate tensor<8x96x64xbf16>, up tensor<8x96x64xbf16>, down tensor<8x64x96xbf16> -> tensor<?x2x64xf32>
  moe.experts %x, %ids gate %g up %g down %d activation silu : tensor<?x64xbf16>, tensor<?x2xi32>, gate tensor<8x96x64xbf16>, up tensor<8x96x64xbf16>, down tensor<8x64x96xbf16> -> tensor<?x2x64xf32>
  // CHECK: moe.experts %{{.*}}, %{{.*}} up %{{.*}} down %{{.*}} up_bias %{{.*}} down_bias %{{.*}} activation relu : tensor<?x64xbf16>, tensor<?x2xi32>, up tensor<8x96x64xbf16>, down tensor<8x64x96xbf16>, up_bias tensor<8x96xbf16>, down_bias tensor<8x64xbf16> -> tensor<?x2x64xf32>
  moe.experts %x, %ids up %g down %d up_bias %bi down_bias %bo activation relu : tensor<?x64xbf16>, tensor<?x2xi32>, up tensor<8x96x64xbf16>, down tensor<8x64x96xbf16>, up_bias tensor<8x96xbf16>, down_bias tensor<8x64xbf16> -> tensor<?x2x64xf32>
  // CHECK: moe.experts {{.*}} gate_bias %{{.*}} activation oss_swiglu {alpha = 1.500000e+00 : f64}
  moe.experts %x, %ids gate %g up %g down %d gate_bias %bi activation oss_swiglu {alpha = 1.5 : f64} : tensor<?x64xbf16>, tensor<?x2xi32>, gate tensor<8x96x64xbf16>, up tensor<8x96x64xbf16>, down tensor<8x64x96xbf16>, gate_bias tensor<8x96xbf16> -> tensor<?x2x64xf32>
  return
}

// CHECK-LABEL: func @combine
// CHECK: moe.combine %{{.*}}, %{{.*}} : tensor<?x2x64xf32>, tensor<?x2xf32> -> tensor<?x64xf32>
func.func @combine(%y: tensor<?x2x64xf32>, %weights: tensor<?x2xf32>) -> tensor<?x64xf32> {
  %o = moe.combine %y, %weights : tensor<?x2x64xf32>, tensor<?x2xf32> -> tensor<?x64xf32>
  return %o : tensor<?x64xf32>
}
