// moe.rope in numbers: the pair (1, 0) at position 1 becomes (cos f, sin f), so sin shows the frequency f. Published
// frequencies of DeepSeek-V3 (yarn), gpt-oss (yarn, not truncated) and Llama 3.1; positions; pair layouts; slices.
// RUN: %python %S/Inputs/run_main.py %s | FileCheck-22 %s

func.func private @printMemrefF32(tensor<*xf32> {bufferization.access = "read"})

func.func @show(%y: tensor<?x64xf32>, %column: index) {
  %part = tensor.extract_slice %y[0, %column] [1, 1] [1, 1] : tensor<?x64xf32> to tensor<1x1xf32>
  %u = tensor.cast %part : tensor<1x1xf32> to tensor<*xf32>
  call @printMemrefF32(%u) : (tensor<*xf32>) -> ()
  return
}

func.func @main() {
  %c32 = arith.constant 32 : index
  %c48 = arith.constant 48 : index
  %c63 = arith.constant 63 : index
  %one = arith.constant 1.0 : f32
  %zero = arith.constant 0.0 : f32
  %x1 = tensor.generate {
  ^bb0(%t: index, %i: index):
    %first = arith.cmpi ult, %i, %c32 : index
    %v = arith.select %first, %one, %zero : f32
    tensor.yield %v : f32
  } : tensor<1x64xf32>
  %x = tensor.cast %x1 : tensor<1x64xf32> to tensor<?x64xf32>
  %p1 = arith.constant dense<1> : tensor<1xi32>
  %pos = tensor.cast %p1 : tensor<1xi32> to tensor<?xi32>

  // sin(0.0055) = 0.00549997; f[31] = 3.333804e-06.
  // CHECK: {{\[\[}}0.00549997]]
  // CHECK: {{\[\[}}3.3338e-06]]
  %v3 = moe.rope %x at %pos heads 1 <kind = yarn, theta = 1.0e+04, dim = 64, factor = 40.0, original_context = 4096>
      : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  call @show(%v3, %c48) : (tensor<?x64xf32>, index) -> ()
  call @show(%v3, %c63) : (tensor<?x64xf32>, index) -> ()

  // gpt-oss: 4.564839e-04 and 3.023511e-07, times the attention factor 1.346574.
  // CHECK: {{\[\[}}0.000614689]]
  // CHECK: {{\[\[}}4.07138e-07]]
  %oss = moe.rope %x at %pos heads 1 <kind = yarn, theta = 1.5e+05, dim = 64, factor = 32.0, original_context = 4096, truncate = false, attention_factor = 1.3465735902799727>
      : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  call @show(%oss, %c48) : (tensor<?x64xf32>, index) -> ()
  call @show(%oss, %c63) : (tensor<?x64xf32>, index) -> ()

  // llama3 (factor 8): f[0] = 1 is kept, f[31] = 5e5^(-62/64) / 8 = 3.76732e-07.
  // CHECK: {{\[\[}}0.841471]]
  // CHECK: {{\[\[}}3.76732e-07]]
  %llama3 = moe.rope %x at %pos heads 1 <kind = llama3, theta = 5.0e+05, dim = 64, factor = 8.0, original_context = 8192, low_freq_factor = 1.0, high_freq_factor = 4.0>
      : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  call @show(%llama3, %c32) : (tensor<?x64xf32>, index) -> ()
  call @show(%llama3, %c63) : (tensor<?x64xf32>, index) -> ()

  // Two heads of width 4, positions 0 and 2, dim 2 from offset 1: elements 1 and 2 turn by 2 radians at position 2.
  // cos 2 = -0.416147, sin 2 = 0.909297: (2, 3) -> (2 cos - 3 sin, 3 cos + 2 sin) = (-3.56019, 0.570154).
  // CHECK: {{\[\[}}1, 2, 3, 4, 5, 6, 7, 8],
  // CHECK-NEXT: [1, -3.56019, 0.570154, 4, 5, -8.86196, 2.54276, 8]]
  %h2 = arith.constant dense<[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]> : tensor<2x8xf32>
  %p2 = arith.constant dense<[0, 2]> : tensor<2xi32>
  %hd = tensor.cast %h2 : tensor<2x8xf32> to tensor<?x8xf32>
  %pd = tensor.cast %p2 : tensor<2xi32> to tensor<?xi32>
  %slice = moe.rope %hd at %pd heads 2 <kind = default, theta = 1.0e+04, dim = 2, offset = 1>
      : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %su = tensor.cast %slice : tensor<?x8xf32> to tensor<*xf32>
  call @printMemrefF32(%su) : (tensor<*xf32>) -> ()

  // One head of width 4 interleaved, theta 1 (every frequency 1): pairs are (x0, x1) and (x2, x3).
  // (1, 2) -> (cos 2 - 2 sin 2, 2 cos 2 + sin 2) = (-2.23474, 0.0770037); (3, 4) -> (-4.88563, 1.0633).
  // CHECK: {{\[\[}}-2.23474, 0.0770037, -4.88563, 1.0633]]
  %i1 = arith.constant dense<[[1.0, 2.0, 3.0, 4.0]]> : tensor<1x4xf32>
  %p3 = arith.constant dense<[2]> : tensor<1xi32>
  %i = tensor.cast %i1 : tensor<1x4xf32> to tensor<?x4xf32>
  %q3 = tensor.cast %p3 : tensor<1xi32> to tensor<?xi32>
  %turned = moe.rope %i at %q3 heads 1 <kind = default, theta = 1.0e+00, dim = 4, interleaved = true>
      : tensor<?x4xf32>, tensor<?xi32> -> tensor<?x4xf32>
  %tu = tensor.cast %turned : tensor<?x4xf32> to tensor<*xf32>
  call @printMemrefF32(%tu) : (tensor<*xf32>) -> ()
  return
}
