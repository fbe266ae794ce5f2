// One module per label that moe-verify-moe-level refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-verify-moe-level

// expected-error @below {{the module has no function @step with a body; a model at the moe level is one step}}
module @moe_level_c1 {
  func.func private @other()
}

// -----

// expected-error @below {{the module has no function @step with a body}}
module @moe_level_c1_external {
  func.func private @step()
}

// -----

module @moe_level_c1_arguments {
  moe.weight @w : tensor<96x64xf32>
  // expected-error @below {{@step has 4 arguments, but takes 5: tokens, seq, pos, runs, rows}}
  func.func @step(%seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
}

// -----

module @moe_level_c1_type {
  moe.weight @w : tensor<96x64xf32>
  // expected-error @below {{argument 'pos' of @step is 'tensor<?xi64>', but must be 'tensor<?xi32>'}}
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi64>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
}

// -----

module @moe_level_c1_static {
  moe.weight @w : tensor<96x64xf32>
  // expected-error @below {{argument 'runs' of @step is 'tensor<5xi32>', but must be 'tensor<?xi32>'}}
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<5xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
}

// -----

module @moe_level_c1_result {
  moe.weight @w : tensor<96x64xf32>
  // expected-error @below {{@step returns 'tensor<?x96xbf16>', but must return the logits as tensor<?xVxf32>}}
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xbf16> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xbf16>
    return %l : tensor<?x96xbf16>
  }
}

// -----

module @moe_level_c1_private {
  moe.weight @w : tensor<96x64xf32>
  // expected-error @below {{@step is private, but is the entry point and must be public}}
  func.func private @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
}

// -----

module @moe_level_c2 {
  moe.weight @w : tensor<96x64xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
  func.func private @f(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>) {
    // expected-error @below {{'math.exp' op is not of the moe level, which has moe ops, func.func, func.return and arith.constant only}}
    math.exp %x : tensor<?x8xf32>
    return
  }
}

// -----

module @moe_level_c3 {
  moe.weight @w : tensor<96x64xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
  // expected-error @below {{'func.func' op argument #0 is 'tensor<?x?xf32>': dim 1 is dynamic, but only dim 0 may be}}
  func.func private @f(%x: tensor<?x?xf32>) {
    return
  }
}

// -----

module @moe_level_c3_rank {
  moe.weight @w : tensor<96x64xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
  // expected-error @below {{'func.func' op argument #0 is 'tensor<*xf32>', but every tensor has a rank here}}
  func.func private @f(%x: tensor<*xf32>) {
    return
  }
}

// -----

// expected-error @below {{'builtin.module' op has the attribute 'llvm.target_triple', but the moe level holds no fact of a target}}
module @moe_level_c5 attributes {llvm.target_triple = "x86_64"} {
  moe.weight @w : tensor<96x64xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
}

// -----

module @moe_level_c6 {
  moe.weight @w : tensor<96x64xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x96xf32> {
    %w = moe.get_weight @w : tensor<96x64xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x64xf32>
    %l = moe.linear %h, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x96xf32>
    return %l : tensor<?x96xf32>
  }
  moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
  func.func private @f(%q: tensor<?x64xf32>, %at: tensor<?xi32>) {
    // expected-note @below {{the other op is here; every layer needs a state of its own}}
    %a = moe.attention %q, %q, %q at %at, %at, %at cache @kv heads 2 kv_heads 2 scale 0.25
        : tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
    // expected-error @below {{'moe.attention' op writes the state @kv, which another op of the same function writes}}
    %b = moe.attention %a, %a, %a at %at, %at, %at cache @kv heads 2 kv_heads 2 scale 0.25
        : tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
    return
  }
}

// -----

// moe_level_c7
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %w = moe.get_weight @w : tensor<8x4xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
  %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
  return %l : tensor<?x8xf32>
}
moe.weight @w : tensor<8x4xf32>
// expected-error @below {{@head is public and has the arguments 'tensor<?x4xf32>', but an entry has a body and begins with the 5 of @step: tokens, seq, pos, runs, rows; else make it private}}
func.func @head(%x: tensor<?x4xf32>) -> tensor<?x8xf32> {
  %w = moe.get_weight @w : tensor<8x4xf32>
  %l = moe.linear %x, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
  return %l : tensor<?x8xf32>
}

// -----

// moe_level_c7: an argument of a fixed size
moe.weight @w : tensor<8x4xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %w = moe.get_weight @w : tensor<8x4xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
  %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
  return %l : tensor<?x8xf32>
}
// expected-error @below {{@head has an argument or result of type 'tensor<4x4xf32>', but those of an entry are tensors with a row per token or per logit row}}
func.func @head(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>, %x: tensor<4x4xf32>) -> tensor<?x4xf32> {
  %w = moe.get_weight @w : tensor<8x4xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
  return %h : tensor<?x4xf32>
}

// -----

// moe_level_c8
module attributes {moe.ranks = 2 : i64} {
  moe.weight @w : tensor<8x4xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    // expected-error @below {{'moe.all_reduce' op is for 4 ranks, but the module is for 2 (moe.ranks)}}
    %s = moe.all_reduce %h ranks 4 : tensor<?x4xf32>
    %l = moe.linear %s, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
}

// -----

// moe_level_c8: tokens that fill up
module attributes {moe.ranks = 2 : i64} {
  moe.weight @w : tensor<8x4xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    %ids, %scores = moe.route %l top 2 score softmax renormalize sum : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    // expected-error @below {{'moe.mask_padding' op looks for tokens that fill up a step, which only a module with moe.distributed has}}
    %m = moe.mask_padding %ids at %seq : tensor<?x2xi32>, tensor<?xi32>
    return %l : tensor<?x8xf32>
  }
}

// -----

// moe_level_c8: a number
// expected-error @below {{moe.ranks is 0 : i64, but must be a number of ranks from 1 to 65535}}
module attributes {moe.ranks = 0 : i64} {
  moe.weight @w : tensor<8x4xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
}

// -----

// moe_level_c8: tokens to ranks that have them
module attributes {moe.ranks = 2 : i64} {
  moe.weight @w : tensor<8x4xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    %ids, %scores = moe.route %l top 2 score softmax renormalize sum : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    // expected-error @below {{'moe.dispatch' op sends tokens that other ranks lack, which only a module with moe.distributed has}}
    %r, %s = moe.dispatch %h, %ids placement <ranks = 2, slots = [0, 1, 2, 3, 4, 5, 6, 7]> : tensor<?x4xf32>, tensor<?x2xi32> -> tensor<?x4xf32>
    return %l : tensor<?x8xf32>
  }
}

// -----

// moe_level_c9: a number of tokens
module {
  moe.weight @w : tensor<8x4xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
  // expected-error @below {{moe.step_from is 1 : i64, but must be a number of tokens from 2 on}}
  func.func private @large(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> attributes {moe.step_from = 1 : i64} {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
}

// -----

// moe_level_c9: private
module {
  moe.weight @w : tensor<8x4xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
  // expected-error @below {{@large has moe.step_from, but is not what it says: a private function with a body and the type of @step}}
  func.func @large(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> attributes {moe.step_from = 9 : i64} {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
}

// -----

// moe_level_c9: twice
module {
  moe.weight @w : tensor<8x4xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
  func.func private @large(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> attributes {moe.step_from = 9 : i64} {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
  // expected-error @below {{@larger is the second step from T = 9 on}}
  func.func private @larger(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> attributes {moe.step_from = 9 : i64} {
    %w = moe.get_weight @w : tensor<8x4xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<8x4xf32> -> tensor<?x4xf32>
    %l = moe.linear %h, %w : tensor<?x4xf32>, tensor<8x4xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
}
