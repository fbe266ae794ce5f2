// Every refusal names the op, what it has and what to do.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-lower-to-sched="targets=x86-64-v3"
// RUN: not moe-opt %s --split-input-file --moe-lower-to-sched="max-tokens=-5" 2>&1 | FileCheck-22 %s --check-prefix=TOKENS
// TOKENS: error: max-tokens (-5), few-tokens (8) and streams (2) must be at least 1

// The contract of the moe level is checked first.
// expected-error @below {{the module has no function @step with a body}}
module {
}

// -----

moe.weight @w : tensor<16x16xf64>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  // expected-error @below {{is a weight of type 'tensor<16x16xf64>', but kernels read f32, bf16 and f16; store the checkpoint in one of them}}
  %w = moe.get_weight @w : tensor<16x16xf64>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf64> -> tensor<?x16xf32>
  return %h : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  // expected-error @below {{has a value of type 'tensor<?x16xf64>', but kernels compute in f32 or bf16}}
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf64>
  %l = moe.linear %h, %w : tensor<?x16xf64>, tensor<16x16xf32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
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
  // expected-error @below {{takes a part of a weight, which only moe.experts does in kernels}}
  %h = moe.embedding %tokens, %part : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  return %h : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
moe.weight @r : tensor<4x16xf32>
moe.weight @e : tensor<4x16x32xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %r = moe.get_weight @r : tensor<4x16xf32>
  %e = moe.get_weight @e : tensor<4x16x32xf32>
  // expected-error @below {{cuts dim 2 of experts' weights, but kernels read parts along dim 1 only}}
  %part = moe.part %e dim 2 from 0 : tensor<4x16x32xf32> -> tensor<4x16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %l = moe.linear %h, %r : tensor<?x16xf32>, tensor<4x16xf32> -> tensor<?x4xf32>
  %ids, %p = moe.route %l top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %y = moe.experts %h, %ids up %part down %part activation silu : tensor<?x16xf32>, tensor<?x2xi32>, up tensor<4x16x16xf32>, down tensor<4x16x16xf32> -> tensor<?x2x16xf32>
  %c = moe.combine %y, %p : tensor<?x2x16xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
  return %c : tensor<?x16xf32>
}

// -----

// expected-error @below {{the module has no function @step with a body}}
module {
  func.func private @step(tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>) -> tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  // expected-error @below {{must take the input 'tokens' of @step (argument #0): the runtime checks its values, and no others}}
  %h = moe.embedding %seq, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  // expected-error @below {{must take the input 'rows' of @step (argument #4)}}
  %l = moe.gather_rows %h, %runs : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  // expected-error @below {{must take the input 'pos' of @step (argument #2)}}
  %r = moe.rope %h at %seq heads 1 <kind = default, theta = 1.0e+04, dim = 16> : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %l = moe.gather_rows %r, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
moe.state @kv : !moe.kv_cache<heads = 1, key_dim = 16, value_dim = 16, element = f32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  // expected-error @below {{must take the input 'seq' of @step (argument #1)}}
  %a = moe.attention %h, %h, %h at %pos, %pos, %runs cache @kv heads 1 kv_heads 1 scale 0.25
      : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x16xf32>
  %l = moe.gather_rows %a, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  // expected-error @below {{takes 'tensor<16x16xf32>' as an activation, but those of @step have '?' rows; a weight is none}}
  %l = moe.gather_rows %w, %rows : tensor<16x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  // expected-error @below {{takes a row per wanted logit beside a row per token: gather the rows of both, or of neither}}
  %a = moe.add %l, %h : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
  return %a : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  // expected-error @below {{takes a row per wanted logit, but 'rows' of @step numbers tokens: gather once}}
  %m = moe.gather_rows %l, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %m : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  // expected-error @below {{takes a row per wanted logit beside a position per token: gather rows after it}}
  %r = moe.rope %l at %pos heads 1 <kind = default, theta = 1.0e+04, dim = 16> : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %r : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
moe.weight @v : tensor<1073741824x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %v = moe.get_weight @v : tensor<1073741824x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  // expected-error @below {{has a result whose row takes more than 2147483648 bytes, the most that kernels address}}
  %y = moe.linear %h, %v : tensor<?x16xf32>, tensor<1073741824x16xf32> -> tensor<?x1073741824xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
moe.weight @u : tensor<1073741824x16xf32>
moe.weight @d : tensor<16x1073741824xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %u = moe.get_weight @u : tensor<1073741824x16xf32>
  %d = moe.get_weight @d : tensor<16x1073741824xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  // expected-error @below {{has a hidden activation whose row takes more than 2147483648 bytes}}
  %y = moe.ffn %h up %u down %d activation silu
      : tensor<?x16xf32>, up tensor<1073741824x16xf32>, down tensor<16x1073741824xf32> -> tensor<?x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
moe.weight @u : tensor<4x16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %u = moe.get_weight @u : tensor<4x16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %p = moe.linear %h, %w : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
  // expected-note @below {{the route is here}}
  %ids, %s = moe.route %p top 2 score softmax : tensor<?x16xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // expected-error @below {{has weights of E = 4 experts, but its ids are chosen of 16}}
  %y = moe.experts %h, %ids up %u down %u activation silu
      : tensor<?x16xf32>, tensor<?x2xi32>, up tensor<4x16x16xf32>, down tensor<4x16x16xf32> -> tensor<?x2x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
moe.weight @v : tensor<120000x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %v = moe.get_weight @v : tensor<120000x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %p = moe.linear %h, %v : tensor<?x16xf32>, tensor<120000x16xf32> -> tensor<?x120000xf32>
  // expected-error @below {{chooses of E = 120000 experts, for which the CPU kernel needs 2400320 bytes of scratch, but has 2097152; use the linalg path (--emit linalg)}}
  %ids, %s = moe.route %p top 2 score softmax : tensor<?x120000xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w source "t" : tensor<16x16xf32>
moe.weight @v source "t" : tensor<8x32xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %v = moe.get_weight @v : tensor<8x32xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  // expected-error @below {{takes the tensor 't' of the checkpoint as 'tensor<8x32xf32>', which another weight declares as 'tensor<16x16xf32>'; a tensor has one type}}
  %e = moe.embedding %tokens, %v : tensor<?xi32>, tensor<8x32xf32> -> tensor<?x32xf32>
  return %l : tensor<?x16xf32>
}

// -----

moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  // expected-error @below {{gives 'tensor<144115188075855872x16xf32>', whose size must be below 2^63 bits}}
  %p = moe.pad %w dim 0 : tensor<16x16xf32> -> tensor<144115188075855872x16xf32>
  %h = moe.embedding %tokens, %p : tensor<?xi32>, tensor<144115188075855872x16xf32> -> tensor<?x16xf32>
  %l = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}
