// A small model keeps the contract of the moe level, and the pass changes nothing.
// RUN: moe-opt %s > %t.before.mlir
// RUN: moe-opt %s --moe-verify-moe-level > %t.after.mlir
// RUN: diff %t.before.mlir %t.after.mlir

moe.weight @embed : tensor<96x64xf32>
moe.weight @norm : tensor<64xf32>
moe.weight @qkv : tensor<64x64xf32>
moe.state @l0.kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
moe.state @l1.kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>

func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
  %embed = moe.get_weight @embed : tensor<96x64xf32>
  %norm = moe.get_weight @norm : tensor<64xf32>
  %w = moe.get_weight @qkv : tensor<64x64xf32>
  %h0 = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
  %n0 = moe.rms_norm %h0, %norm eps 1.0e-5 : tensor<?x64xf32>, tensor<64xf32> -> tensor<?x64xf32>
  %q = moe.linear %n0, %w : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32>
  %a = moe.attention %q, %q, %q at %seq, %pos, %runs cache @l0.kv heads 2 kv_heads 2 scale 0.25
      : tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
  %b = moe.attention %a, %a, %a at %seq, %pos, %runs cache @l1.kv heads 2 kv_heads 2 scale 0.25
      : tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
  %h1 = moe.add %h0, %b : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  %l = moe.gather_rows %h1, %rows : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  %logits = moe.linear %l, %embed : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
  return %logits : tensor<?x96xf32>
}
