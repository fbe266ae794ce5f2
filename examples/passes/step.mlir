// A step of one linear layer with a residual add: the input of docs/passes.md.
moe.weight @embed : tensor<64x16xf32>
moe.weight @up : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
  %embed = moe.get_weight @embed : tensor<64x16xf32>
  %up = moe.get_weight @up : tensor<16x16xf32>
  %x = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x16xf32> -> tensor<?x16xf32>
  %y = moe.linear %x, %up : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %h = moe.add %x, %y : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %logits = moe.linear %l, %embed : tensor<?x16xf32>, tensor<64x16xf32> -> tensor<?x64xf32>
  return %logits : tensor<?x64xf32>
}
