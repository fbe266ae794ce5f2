// What cannot be lowered is named, with the reason and what to do.
// RUN: moe-opt --moe-lower-to-linalg --split-input-file --verify-diagnostics %s

moe.state @kv : !moe.kv_cache<heads = 1, key_dim = 2, value_dim = 2, element = f32>

func.func @attention_in_region(%c: i1, %q: tensor<?x2xf32>, %ids: tensor<?xi32>) -> tensor<?x2xf32> {
  %r = scf.if %c -> tensor<?x2xf32> {
    // expected-error @below {{'moe.attention' op cannot be lowered to linalg: it is inside a region, through which the cache cannot be passed; move it to the top level of the function}}
    %o = moe.attention %q, %q, %q at %ids, %ids, %ids cache @kv heads 1 kv_heads 1 scale 1.0
        : tensor<?x2xf32>, tensor<?x2xf32>, tensor<?x2xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x2xf32>
    scf.yield %o : tensor<?x2xf32>
  } else {
    scf.yield %q : tensor<?x2xf32>
  }
  return %r : tensor<?x2xf32>
}

// -----

moe.weight @w : tensor<2xf32>

func.func @callee(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  return %x : tensor<?x2xf32>
}

func.func @caller(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  // expected-error @below {{'func.call' op calls @callee, whose signature changes when weights and states become arguments; inline the call first (--inline)}}
  %y = call @callee(%x) : (tensor<?x2xf32>) -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

// -----

moe.weight @w : tensor<2xf32>

// expected-error @below {{function @two_blocks has 2 blocks, but states can be returned from one block only; use scf ops for control flow}}
func.func @two_blocks(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  cf.br ^bb1
^bb1:
  return %x : tensor<?x2xf32>
}
