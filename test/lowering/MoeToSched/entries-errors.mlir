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
// expected-error @below {{is public and thus an entry, but does not begin with the five arguments of @step and have a body; make it private, or give it the arguments that docs/spec.md names}}
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
