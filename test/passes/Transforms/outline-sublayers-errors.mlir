// What cannot be outlined.
// RUN: moe-opt %s --moe-outline-sublayers --split-input-file --verify-diagnostics

// expected-error @below {{has no function @step, whose sub-layers could become entries}}
module {
}

// -----

moe.weight @embed : tensor<64x32xf32>
// expected-error @below {{has no residual sub-layer: nothing adds to the stream that the embedding begins}}
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
  %embed = moe.get_weight @embed : tensor<64x32xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %r = moe.gather_rows %h, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}

// -----

moe.weight @embed : tensor<64x32xf32>
moe.weight @up : tensor<48x32xf32>
moe.weight @down : tensor<32x48xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
  %embed = moe.get_weight @embed : tensor<64x32xf32>
  %up = moe.get_weight @up : tensor<48x32xf32>
  %down = moe.get_weight @down : tensor<32x48xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %f = moe.ffn %h up %up down %down activation relu : tensor<?x32xf32>, up tensor<48x32xf32>, down tensor<32x48xf32> -> tensor<?x32xf32>
  // expected-error @below {{sub-layer ffn.0 reads the residual stream through 1 ops that are not one norm, but only a pre-norm sub-layer can be an entry}}
  %y = moe.add %h, %f : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  %r = moe.gather_rows %y, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}

// -----

moe.weight @table : tensor<64x32xf32>
moe.weight @scale : tensor<32xf32>
moe.weight @up : tensor<48x32xf32>
moe.weight @down : tensor<32x48xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
  %embed = moe.get_weight @table : tensor<64x32xf32>
  %scale = moe.get_weight @scale : tensor<32xf32>
  %up = moe.get_weight @up : tensor<48x32xf32>
  %down = moe.get_weight @down : tensor<32x48xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  %n = moe.rms_norm %h, %scale eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
  %f = moe.ffn %n up %up down %down activation relu : tensor<?x32xf32>, up tensor<48x32xf32>, down tensor<32x48xf32> -> tensor<?x32xf32>
  %y = moe.add %h, %f : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
  %r = moe.gather_rows %y, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
  %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
// expected-error @below {{@ffn.0 is the name of an entry to be added; rename this symbol}}
func.func private @ffn.0()
