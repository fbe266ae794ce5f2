// What no kernel of GPUs serves is an error at the op that needs it.
// RUN: moe-opt %s --moe-lower-to-sched="targets=cuda:sm_80" --split-input-file --verify-diagnostics

moe.weight @w : tensor<16x16xf32>
moe.weight @v : tensor<1025x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %v = moe.get_weight @v : tensor<1025x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %p = moe.linear %h, %v : tensor<?x16xf32>, tensor<1025x16xf32> -> tensor<?x1025xf32>
  // expected-error @below {{chooses of E = 1025 experts, but the kernels of GPUs have room for 1024 (those of CPUs, --target cpu, for more); use the linalg path (--emit linalg)}}
  %ids, %s = moe.route %p top 2 score softmax : tensor<?x1025xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x4096xf32>
moe.state @kv : !moe.kv_cache<heads = 1, key_dim = 4096, value_dim = 4096, element = f32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x4096xf32> {
  %w = moe.get_weight @w : tensor<16x4096xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x4096xf32> -> tensor<?x4096xf32>
  // expected-error @below {{has heads of key_dim 4096 and value_dim 4096, for which the GPU kernel needs 81952 bytes of shared memory, but has 49152: compile with --target cpu}}
  %a = moe.attention %h, %h, %h at %seq, %pos, %runs cache @kv heads 1 kv_heads 1 scale 0.5
      : tensor<?x4096xf32>, tensor<?x4096xf32>, tensor<?x4096xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x4096xf32>
  %l = moe.gather_rows %a, %rows : tensor<?x4096xf32>, tensor<?xi32> -> tensor<?x4096xf32>
  return %l : tensor<?x4096xf32>
}
