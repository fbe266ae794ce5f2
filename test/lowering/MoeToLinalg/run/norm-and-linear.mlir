// Norm, linear, embedding, add and row gather in numbers, among them the two roundings of a norm.
// RUN: %python %S/Inputs/run_main.py %s | FileCheck-22 %s

func.func private @printMemrefF32(tensor<*xf32> {bufferization.access = "read"})

func.func @print(%y: tensor<?x2xf32>) {
  %u = tensor.cast %y : tensor<?x2xf32> to tensor<*xf32>
  call @printMemrefF32(%u) : (tensor<*xf32>) -> ()
  return
}

func.func @main() {
  // mean of squares 12.5; 3 / sqrt(12.5) = 0.848528, 4 / sqrt(12.5) = 1.13137; the second row has mean 0 and eps 0.25.
  // CHECK:      {{\[\[}}0.840168, 2.24045],
  // CHECK-NEXT: [0, 0]]
  %rows = arith.constant dense<[[3.0, 4.0], [0.0, 0.0]]> : tensor<2x2xf32>
  %x = tensor.cast %rows : tensor<2x2xf32> to tensor<?x2xf32>
  %w = arith.constant dense<[1.0, 2.0]> : tensor<2xbf16>
  %n = moe.rms_norm %x, %w eps 0.25 : tensor<?x2xf32>, tensor<2xbf16> -> tensor<?x2xf32>
  call @print(%n) : (tensor<?x2xf32>) -> ()

  // Two groups of one: every element becomes its sign.
  // CHECK:      {{\[\[}}1, -1]]
  %signs = arith.constant dense<[[0.5, -8.0]]> : tensor<1x2xf32>
  %s = tensor.cast %signs : tensor<1x2xf32> to tensor<?x2xf32>
  %one = arith.constant dense<1.0> : tensor<1xf32>
  %g = moe.rms_norm %s, %one eps 0.0 groups 2 : tensor<?x2xf32>, tensor<1xf32> -> tensor<?x2xf32>
  call @print(%g) : (tensor<?x2xf32>) -> ()

  // In bf16 (step 2^-6 here): 4 / sqrt(12.5) = 1.13137 is rounded to 1.13281 first, and 3 * 1.13281 = 3.39844, a tie, to
  // 3.40625; in one rounding 3 * 1.13137 = 3.39411 becomes 3.39062. 3 / sqrt(12.5) gives 2.54688 either way.
  // CHECK:      {{\[\[}}2.54688, 3.40625]]
  // CHECK:      {{\[\[}}2.54688, 3.39062]]
  %t = arith.constant dense<[[3.0, 4.0]]> : tensor<1x2xf32>
  %three = arith.constant dense<3.0> : tensor<2xbf16>
  %td = tensor.cast %t : tensor<1x2xf32> to tensor<?x2xf32>
  %before = moe.rms_norm %td, %three eps 0.0 : tensor<?x2xf32>, tensor<2xbf16> -> tensor<?x2xbf16>
  %after = moe.rms_norm %td, %three eps 0.0 rounding after_weight : tensor<?x2xf32>, tensor<2xbf16> -> tensor<?x2xbf16>
  %zero = arith.constant dense<0.0> : tensor<1x2xf32>
  %zd = tensor.cast %zero : tensor<1x2xf32> to tensor<?x2xf32>
  %b32 = moe.add %before, %zd : tensor<?x2xbf16>, tensor<?x2xf32> -> tensor<?x2xf32>
  %a32 = moe.add %after, %zd : tensor<?x2xbf16>, tensor<?x2xf32> -> tensor<?x2xf32>
  call @print(%b32) : (tensor<?x2xf32>) -> ()
  call @print(%a32) : (tensor<?x2xf32>) -> ()

  // x W^T + b: [3, 4] . [1, 2] + 0.5 = 11.5, [3, 4] . [-1, 1] - 0.5 = 0.5.
  // CHECK:      {{\[\[}}11.5, 0.5],
  // CHECK-NEXT: [0.5, -0.5]]
  %m = arith.constant dense<[[1.0, 2.0], [-1.0, 1.0]]> : tensor<2x2xf16>
  %bias = arith.constant dense<[0.5, -0.5]> : tensor<2xf32>
  %y = moe.linear %x, %m bias %bias : tensor<?x2xf32>, tensor<2x2xf16>, tensor<2xf32> -> tensor<?x2xf32>
  call @print(%y) : (tensor<?x2xf32>) -> ()

  // The sum is f32 although x is bf16: 512 * (0.5 + 2^-10) = 256.5 needs 10 bits.
  // CHECK:      {{\[\[}}256.5, 256.5]]
  %long = arith.constant dense<1.0> : tensor<1x512xbf16>
  %half = arith.constant dense<0.5009765625> : tensor<2x512xf32>
  %ld = tensor.cast %long : tensor<1x512xbf16> to tensor<?x512xbf16>
  %sum = moe.linear %ld, %half : tensor<?x512xbf16>, tensor<2x512xf32> -> tensor<?x2xf32>
  call @print(%sum) : (tensor<?x2xf32>) -> ()

  // Rows by id, twice the same, in any order; then rows of the result; then none.
  // CHECK:      {{\[\[}}5, 6],
  // CHECK-NEXT: [1, 2],
  // CHECK-NEXT: [5, 6]]
  // CHECK:      {{\[\[}}1, 2]]
  // CHECK:      sizes = [0, 2]
  %ids = arith.constant dense<[2, 0, 2]> : tensor<3xi32>
  %table = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xbf16>
  %idsd = tensor.cast %ids : tensor<3xi32> to tensor<?xi32>
  %h = moe.embedding %idsd, %table : tensor<?xi32>, tensor<3x2xbf16> -> tensor<?x2xf32>
  call @print(%h) : (tensor<?x2xf32>) -> ()
  %r1 = arith.constant dense<[1]> : tensor<1xi32>
  %rows1 = tensor.cast %r1 : tensor<1xi32> to tensor<?xi32>
  %l = moe.gather_rows %h, %rows1 : tensor<?x2xf32>, tensor<?xi32> -> tensor<?x2xf32>
  call @print(%l) : (tensor<?x2xf32>) -> ()
  %r0 = arith.constant dense<> : tensor<0xi32>
  %rows0 = tensor.cast %r0 : tensor<0xi32> to tensor<?xi32>
  %none = moe.gather_rows %h, %rows0 : tensor<?x2xf32>, tensor<?xi32> -> tensor<?x2xf32>
  call @print(%none) : (tensor<?x2xf32>) -> ()
  return
}
