// What an entry must be.
// RUN: moe-opt %s --moe-lower-to-sched --split-input-file --verify-diagnostics

moe.weight @embed : tensor<64x32xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
  %embed = moe.get_weight @embed : tensor<64x32xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %r = moe.gather_rows %h, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
// expected-error @below {{@norm is public and has the arguments 'tensor<?x32xf32>', but an entry has a body and begins with the 5 of @step: tokens, seq, pos, runs, rows; else make it private}}
func.func @norm(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  return %x : tensor<?x32xf32>
}

// -----

moe.weight @embed : tensor<64x32xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
  %embed = moe.get_weight @embed : tensor<64x32xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %r = moe.gather_rows %h, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
func.func @pass(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>, %x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // expected-error @below {{returns 'tensor<?x32xf32>' that is an argument or returned twice; @pass must compute every result}}
  return %x : tensor<?x32xf32>
}

// -----

moe.weight @embed : tensor<64x32xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
  %embed = moe.get_weight @embed : tensor<64x32xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %r = moe.gather_rows %h, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
// expected-error @below {{has an argument whose row takes more than 2147483648 bytes}}
func.func @wide(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>, %x: tensor<?x1073741824xf32>) {
  return
}

// -----

moe.weight @embed : tensor<64x32xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
  %embed = moe.get_weight @embed : tensor<64x32xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %r = moe.gather_rows %h, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
moe.weight @up : tensor<4x32x32xf32>
func.func @moe(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>, %x: tensor<?x32xf32>, %ids: tensor<?x2xi32>) -> tensor<?x2x32xf32> {
  %up = moe.get_weight @up : tensor<4x32x32xf32>
  // expected-error @below {{takes expert ids from the caller, which nothing checks: take them from a moe.route}}
  %y = moe.experts %x, %ids up %up down %up activation silu
      : tensor<?x32xf32>, tensor<?x2xi32>, up tensor<4x32x32xf32>, down tensor<4x32x32xf32> -> tensor<?x2x32xf32>
  return %y : tensor<?x2x32xf32>
}
