// Every refusal names the op, what it has and what to do.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-lower-to-sched="targets=x86-64-v3"
// RUN: not moe-opt %s --split-input-file --moe-lower-to-sched="max-tokens=-5" 2>&1 | FileCheck-22 %s --check-prefix=TOKENS
// TOKENS: error: max-tokens (-5) and few-tokens ({{[0-9]+}}) must be at least 1

// expected-error @below {{has no function @step}}
module {
}

// -----

moe.weight @w : tensor<16x16xf64>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf64> {
  // expected-error @below {{is a weight of type 'tensor<16x16xf64>', but CPU kernels read f32, bf16 and f16; store the checkpoint in one of them}}
  %w = moe.get_weight @w : tensor<16x16xf64>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf64> -> tensor<?x16xf64>
  return %h : tensor<?x16xf64>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf64> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  // expected-error @below {{has a value of type 'tensor<?x16xf64>', but CPU kernels compute in f32 or bf16}}
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf64>
  return %h : tensor<?x16xf64>
}

// -----

moe.weight @w source "w.{}" stacked : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  // expected-error @below {{takes weight 'w' as one tensor, but it is stacked from 16 checkpoint tensors}}
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  return %h : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  // expected-error @below {{returns 'tensor<?x16xf32>'; the runtime needs f32 logits with one row per element of rows}}
  return %h : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<32x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<32x16xf32>
  %part = moe.part %w dim 0 from 16 : tensor<32x16xf32> -> tensor<16x16xf32>
  // expected-error @below {{takes a part of a weight, which on CPUs only moe.experts does}}
  %h = moe.embedding %tokens, %part : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  return %h : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
moe.weight @e : tensor<4x16x32xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %e = moe.get_weight @e : tensor<4x16x32xf32>
  // expected-error @below {{cuts dim 2 of experts' weights, but CPU kernels read parts along dim 1 only}}
  %part = moe.part %e dim 2 from 0 : tensor<4x16x32xf32> -> tensor<4x16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %l = moe.linear %h, %w : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %ids, %p = moe.route %l top 2 score softmax renormalize sum : tensor<?x16xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %y = moe.experts %h, %ids up %part down %part activation silu : tensor<?x16xf32>, tensor<?x2xi32>, up tensor<4x16x16xf32>, down tensor<4x16x16xf32> -> tensor<?x2x16xf32>
  %c = moe.combine %y, %p : tensor<?x2x16xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
  return %c : tensor<?x16xf32>
}
