// moe.route in numbers: exact ties, the -inf group mask, what a bias does, renormalisations, no token, NaN.
// RUN: %python %S/Inputs/run_main.py %s | FileCheck-22 %s

func.func private @printMemrefF32(tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(tensor<*xi32> {bufferization.access = "read"})

func.func @print2(%e: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  %eu = tensor.cast %e : tensor<?x2xi32> to tensor<*xi32>
  %wu = tensor.cast %w : tensor<?x2xf32> to tensor<*xf32>
  call @printMemrefI32(%eu) : (tensor<*xi32>) -> ()
  call @printMemrefF32(%wu) : (tensor<*xf32>) -> ()
  return
}

func.func @main() {
  // Ties go to the lower index; the best comes first.
  // softmax then division by the sum: 1/2 each where tied, e/(1+e) = 0.731059 a step apart.
  // CHECK:      sizes = [3, 2]
  // CHECK:      [1, 2],
  // CHECK-NEXT: [0, 1],
  // CHECK-NEXT: [3, 2]
  // CHECK:      [0.5, 0.5],
  // CHECK-NEXT: [0.5, 0.5],
  // CHECK-NEXT: [0.731059, 0.268941]
  %ties = arith.constant dense<[[0.0, 1.0, 1.0, -1.0], [2.0, 2.0, 2.0, 2.0], [-5.0, -4.0, -3.0, -2.0]]> : tensor<3x4xf32>
  %l0 = tensor.cast %ties : tensor<3x4xf32> to tensor<?x4xf32>
  %e0, %w0 = moe.route %l0 top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  call @print2(%e0, %w0) : (tensor<?x2xi32>, tensor<?x2xf32>) -> ()

  // Negative biases: a mask of 0.0 in place of -inf would choose 2 and 3. The weights are the scores, not score + bias.
  // CHECK:      sizes = [1, 2]
  // CHECK:      [0, 1]
  // CHECK:      [0.6, 0.5]
  %s = arith.constant dense<[[0.6, 0.5, 0.55, 0.1]]> : tensor<1x4xf32>
  %minus = arith.constant dense<-1.0> : tensor<4xf32>
  %l1 = tensor.cast %s : tensor<1x4xf32> to tensor<?x4xf32>
  %e1, %w1 = moe.route %l1 bias %minus top 2 score identity groups 2 keep 1 by top2sum
      : tensor<?x4xf32>, tensor<4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  call @print2(%e1, %w1) : (tensor<?x2xi32>, tensor<?x2xf32>) -> ()

  // By maximum the same group; tied groups go to the lower index.
  // CHECK:      sizes = [2, 2]
  // CHECK:      [0, 1],
  // CHECK-NEXT: [0, 1]
  %t = arith.constant dense<[[0.6, 0.5, 0.55, 0.1], [0.5, 0.0, 0.25, 0.5]]> : tensor<2x4xf32>
  %l2 = tensor.cast %t : tensor<2x4xf32> to tensor<?x4xf32>
  %e2, %w2 = moe.route %l2 top 2 score identity groups 2 keep 1 by max : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  call @print2(%e2, %w2) : (tensor<?x2xi32>, tensor<?x2xf32>) -> ()

  // A bias changes who is chosen, and not the weight of who is. sigmoid(0) = 0.5; sum with epsilon 1: / (1 + 1); scale 3.
  // CHECK:      sizes = [1, 2]
  // CHECK:      [3, 1]
  // CHECK:      [0.75, 0.75]
  %zero = arith.constant dense<0.0> : tensor<1x4xf32>
  %bias = arith.constant dense<[0.0, 1.0, 0.5, 2.0]> : tensor<4xbf16>
  %l3 = tensor.cast %zero : tensor<1x4xf32> to tensor<?x4xf32>
  %e3, %w3 = moe.route %l3 bias %bias top 2 score sigmoid renormalize sum epsilon 1.0 scale 3.0
      : tensor<?x4xf32>, tensor<4xbf16> -> tensor<?x2xi32>, tensor<?x2xf32>
  call @print2(%e3, %w3) : (tensor<?x2xi32>, tensor<?x2xf32>) -> ()

  // K = E with a second softmax: the softmax of [2, 1] is [0.731059, 0.268941], and the softmax of that [0.613516, 0.386484].
  // CHECK:      sizes = [1, 2]
  // CHECK:      [1, 0]
  // CHECK:      [0.613516, 0.386484]
  %two = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
  %l4 = tensor.cast %two : tensor<1x2xf32> to tensor<?x2xf32>
  %e4, %w4 = moe.route %l4 top 2 score softmax renormalize softmax : tensor<?x2xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  call @print2(%e4, %w4) : (tensor<?x2xi32>, tensor<?x2xf32>) -> ()

  // A NaN is never chosen before a number, and every id stays in range.
  // CHECK:      sizes = [1, 2]
  // CHECK:      [2, 3]
  // CHECK:      [5, 4]
  %nan = arith.constant dense<[[0x7FC00000, 1.0, 5.0, 4.0]]> : tensor<1x4xf32>
  %l5 = tensor.cast %nan : tensor<1x4xf32> to tensor<?x4xf32>
  %e5, %w5 = moe.route %l5 top 2 score identity : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  call @print2(%e5, %w5) : (tensor<?x2xi32>, tensor<?x2xf32>) -> ()

  // Two routers of two experts each: 1 of its own each, whatever the other's logits; the weights are of each one's softmax.
  // Of the second router the bias turns the choice; the weight stays that of the score.
  // CHECK:      sizes = [2, 2]
  // CHECK:      [1, 2],
  // CHECK-NEXT: [0, 2]
  // CHECK:      [0.731059, 0.731059],
  // CHECK-NEXT: [0.5, 0.268941]
  %sides = arith.constant dense<[[0.0, 1.0, 9.0, 8.0], [3.0, 3.0, -1.0, 0.0]]> : tensor<2x4xf32>
  %turn = arith.constant dense<[0.0, 0.0, 1.0, 0.0]> : tensor<4xf32>
  %l7 = tensor.cast %sides : tensor<2x4xf32> to tensor<?x4xf32>
  %e7, %w7 = moe.route %l7 bias %turn top 2 score softmax routers 2
      : tensor<?x4xf32>, tensor<4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  call @print2(%e7, %w7) : (tensor<?x2xi32>, tensor<?x2xf32>) -> ()

  // No token.
  // CHECK:      sizes = [0, 2]
  // CHECK:      sizes = [0, 2]
  %none = arith.constant dense<> : tensor<0x4xf32>
  %l6 = tensor.cast %none : tensor<0x4xf32> to tensor<?x4xf32>
  %e6, %w6 = moe.route %l6 top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  call @print2(%e6, %w6) : (tensor<?x2xi32>, tensor<?x2xf32>) -> ()
  return
}
