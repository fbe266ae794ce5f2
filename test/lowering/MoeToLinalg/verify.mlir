// moe-verify-linalg: what the hand-off may hold.
// RUN: moe-opt --moe-verify-linalg --split-input-file --verify-diagnostics %s

func.func @matmul(%a: tensor<2x3xf32>, %b: tensor<3x4xf32>, %c: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %r = linalg.matmul ins(%a, %b : tensor<2x3xf32>, tensor<3x4xf32>) outs(%c : tensor<2x4xf32>) -> tensor<2x4xf32>
  return %r : tensor<2x4xf32>
}

// -----

func.func @leftover(%a: tensor<?x2xf32>) -> tensor<?x2xf32> {
  // expected-error @below {{'moe.add' op is not in the linalg hand-off (func, arith, math, scf, tensor and linalg.generic, matmul, batch_matmul, fill, reduce, transpose); run moe-lower-to-linalg first}}
  %r = moe.add %a, %a : tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x2xf32>
  return %r : tensor<?x2xf32>
}

// -----

func.func @other_linalg(%a: tensor<2xf32>, %b: tensor<2xf32>) -> tensor<2xf32> {
  // expected-error @below {{'linalg.copy' op is not in the linalg hand-off}}
  %r = linalg.copy ins(%a : tensor<2xf32>) outs(%b : tensor<2xf32>) -> tensor<2xf32>
  return %r : tensor<2xf32>
}
