// moe.experts, moe.combine and moe.ffn in numbers: who runs where, ids of -1, no token, the published gpt-oss values.
// RUN: %python %S/Inputs/run_main.py %s | FileCheck-22 %s

func.func private @printMemrefF32(tensor<*xf32> {bufferization.access = "read"})

func.func @print(%y: tensor<?x2x1xf32>, %w: tensor<?x2xf32>) {
  %yu = tensor.cast %y : tensor<?x2x1xf32> to tensor<*xf32>
  call @printMemrefF32(%yu) : (tensor<*xf32>) -> ()
  %o = moe.combine %y, %w : tensor<?x2x1xf32>, tensor<?x2xf32> -> tensor<?x1xf32>
  %ou = tensor.cast %o : tensor<?x1xf32> to tensor<*xf32>
  call @printMemrefF32(%ou) : (tensor<*xf32>) -> ()
  return
}

func.func @main() {
  // Expert e computes 10^e * relu(x) + e; expert 1 gets nobody, and nobody (-1) gets 0, not a bias.
  %up = arith.constant dense<[[[1.0]], [[10.0]], [[100.0]]]> : tensor<3x1x1xf32>
  %down = arith.constant dense<1.0> : tensor<3x1x1xf32>
  %bias = arith.constant dense<[[0.0], [1.0], [2.0]]> : tensor<3x1xf32>
  %x3 = arith.constant dense<[[1.0], [2.0], [3.0]]> : tensor<3x1xf32>
  %ids3 = arith.constant dense<[[2, 0], [0, -1], [2, 0]]> : tensor<3x2xi32>
  %w3 = arith.constant dense<[[0.5, 2.0], [1.0, 1.0], [0.0, 1.0]]> : tensor<3x2xf32>
  %x = tensor.cast %x3 : tensor<3x1xf32> to tensor<?x1xf32>
  %ids = tensor.cast %ids3 : tensor<3x2xi32> to tensor<?x2xi32>
  %w = tensor.cast %w3 : tensor<3x2xf32> to tensor<?x2xf32>
  // CHECK:      sizes = [3, 2, 1]
  // CHECK:      {{\[\[\[}}102],
  // CHECK-NEXT: [1]],
  // CHECK-NEXT: {{\[\[}}2],
  // CHECK-NEXT: [0]],
  // CHECK-NEXT: {{\[\[}}302],
  // CHECK-NEXT: [3]]]
  // CHECK:      sizes = [3, 1]
  // CHECK:      {{\[\[}}53],
  // CHECK-NEXT: [2],
  // CHECK-NEXT: [3]]
  %y = moe.experts %x, %ids up %up down %down down_bias %bias activation relu
      : tensor<?x1xf32>, tensor<?x2xi32>, up tensor<3x1x1xf32>, down tensor<3x1x1xf32>, down_bias tensor<3x1xf32> -> tensor<?x2x1xf32>
  call @print(%y, %w) : (tensor<?x2x1xf32>, tensor<?x2xf32>) -> ()

  // Everything to nobody; no token.
  // CHECK:      sizes = [3, 2, 1]
  // CHECK-COUNT-6: [0]
  // CHECK:      sizes = [0, 2, 1]
  // CHECK:      sizes = [0, 1]
  %nobody = arith.constant dense<-1> : tensor<3x2xi32>
  %ids1 = tensor.cast %nobody : tensor<3x2xi32> to tensor<?x2xi32>
  %y1 = moe.experts %x, %ids1 up %up down %down down_bias %bias activation relu
      : tensor<?x1xf32>, tensor<?x2xi32>, up tensor<3x1x1xf32>, down tensor<3x1x1xf32>, down_bias tensor<3x1xf32> -> tensor<?x2x1xf32>
  call @print(%y1, %w) : (tensor<?x2x1xf32>, tensor<?x2xf32>) -> ()
  %x0 = arith.constant dense<> : tensor<0x1xf32>
  %i0 = arith.constant dense<> : tensor<0x2xi32>
  %n0 = arith.constant dense<> : tensor<0x2xf32>
  %x2 = tensor.cast %x0 : tensor<0x1xf32> to tensor<?x1xf32>
  %ids2 = tensor.cast %i0 : tensor<0x2xi32> to tensor<?x2xi32>
  %w2 = tensor.cast %n0 : tensor<0x2xf32> to tensor<?x2xf32>
  %y2 = moe.experts %x2, %ids2 up %up down %down down_bias %bias activation relu
      : tensor<?x1xf32>, tensor<?x2xi32>, up tensor<3x1x1xf32>, down tensor<3x1x1xf32>, down_bias tensor<3x1xf32> -> tensor<?x2x1xf32>
  call @print(%y2, %w2) : (tensor<?x2x1xf32>, tensor<?x2xf32>) -> ()

  // gpt-oss's activation of (gate, up): the rows of x, taken apart by the two weights.
  // CHECK:      sizes = [6, 1]
  // CHECK:      {{\[\[}}0.845796],
  // CHECK-NEXT: [1.69159],
  // CHECK-NEXT: [55.9996],
  // CHECK-NEXT: [2.43478e-06],
  // CHECK-NEXT: [0],
  // CHECK-NEXT: [-3.90657e-05]]
  %pairs = arith.constant dense<[[1.0, 0.0], [1.0, 1.0], [10.0, 10.0], [-10.0, -10.0], [0.5, -1.0], [-8.0, 3.0]]> : tensor<6x2xf32>
  %takeGate = arith.constant dense<[[1.0, 0.0]]> : tensor<1x2xf32>
  %takeUp = arith.constant dense<[[0.0, 1.0]]> : tensor<1x2xf32>
  %same = arith.constant dense<1.0> : tensor<1x1xf32>
  %z = moe.ffn %pairs gate %takeGate up %takeUp down %same activation oss_swiglu
      : tensor<6x2xf32>, gate tensor<1x2xf32>, up tensor<1x2xf32>, down tensor<1x1xf32> -> tensor<6x1xf32>
  %zu = tensor.cast %z : tensor<6x1xf32> to tensor<*xf32>
  call @printMemrefF32(%zu) : (tensor<*xf32>) -> ()
  return
}
