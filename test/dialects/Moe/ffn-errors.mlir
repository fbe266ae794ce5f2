// One function per label that the ffn family refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @ffn_c1(%x: tensor<?x64xf32>, %up: tensor<96x32xf32>, %down: tensor<64x96xf32>) {
  // expected-error @below {{'moe.ffn' op up must be [I, H] with the width H of x}}
  // expected-note @below {{expected: 96x64}}
  // expected-note @below {{actual: 96x32}}
  moe.ffn %x up %up down %down activation silu
      : tensor<?x64xf32>, up tensor<96x32xf32>, down tensor<64x96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c1_down(%x: tensor<?x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x95xf32>) {
  // expected-error @below {{'moe.ffn' op down must be [N, I] with the rows I of up}}
  // expected-note @below {{expected: 64x96}}
  // expected-note @below {{actual: 64x95}}
  moe.ffn %x up %up down %down activation silu
      : tensor<?x64xf32>, up tensor<96x64xf32>, down tensor<64x95xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c1_result(%x: tensor<?x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>) {
  // expected-error @below {{'moe.ffn' op result must be [T, N] with the rows N of down}}
  // expected-note @below {{expected: ?x64}}
  // expected-note @below {{actual: ?x96}}
  moe.ffn %x up %up down %down activation silu
      : tensor<?x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32> -> tensor<?x96xf32>
  return
}

// -----

func.func @ffn_c2(%x: tensor<?x64xf32>, %gate: tensor<64x96xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>) {
  // expected-error @below {{'moe.ffn' op gate must be [I, H], as up}}
  // expected-note @below {{expected: 96x64}}
  // expected-note @below {{actual: 64x96}}
  moe.ffn %x gate %gate up %up down %down activation silu
      : tensor<?x64xf32>, gate tensor<64x96xf32>, up tensor<96x64xf32>, down tensor<64x96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c3(%x: tensor<?x64xf32>, %gate: tensor<96x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>, %gate_bias: tensor<64xf32>) {
  // expected-error @below {{'moe.ffn' op gate_bias must be [I]}}
  // expected-note @below {{expected: 96}}
  // expected-note @below {{actual: 64}}
  moe.ffn %x gate %gate up %up down %down gate_bias %gate_bias activation silu
      : tensor<?x64xf32>, gate tensor<96x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32>, gate_bias tensor<64xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c3_up(%x: tensor<?x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>, %up_bias: tensor<64xf32>) {
  // expected-error @below {{'moe.ffn' op up_bias must be [I]}}
  // expected-note @below {{expected: 96}}
  // expected-note @below {{actual: 64}}
  moe.ffn %x up %up down %down up_bias %up_bias activation silu
      : tensor<?x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32>, up_bias tensor<64xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c3_down(%x: tensor<?x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>, %down_bias: tensor<96xf32>) {
  // expected-error @below {{'moe.ffn' op down_bias must be [N]}}
  // expected-note @below {{expected: 64}}
  // expected-note @below {{actual: 96}}
  moe.ffn %x up %up down %down down_bias %down_bias activation silu
      : tensor<?x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32>, down_bias tensor<96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c4(%x: tensor<?x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>, %gate_bias: tensor<96xf32>) {
  // expected-error @below {{'moe.ffn' op gate_bias is given, but no gate: add `gate %g`}}
  moe.ffn %x up %up down %down gate_bias %gate_bias activation silu
      : tensor<?x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32>, gate_bias tensor<96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c4_oss(%x: tensor<?x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>) {
  // expected-error @below {{'moe.ffn' op activation oss_swiglu is given, but no gate: add `gate %g`}}
  moe.ffn %x up %up down %down activation oss_swiglu
      : tensor<?x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c5(%x: tensor<?x64xf32>, %gate: tensor<96x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>) {
  // expected-error @below {{'moe.ffn' op limit (-7.000000e+00 : f64) must be positive and finite}}
  moe.ffn %x gate %gate up %up down %down activation oss_swiglu {alpha = 1.702 : f64, limit = -7.0 : f64}
      : tensor<?x64xf32>, gate tensor<96x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c5_alpha(%x: tensor<?x64xf32>, %gate: tensor<96x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>) {
  // expected-error @below {{'moe.ffn' op alpha (0x7FF8000000000000 : f64) must be finite}}
  moe.ffn %x gate %gate up %up down %down activation oss_swiglu {alpha = 0x7FF8000000000000 : f64}
      : tensor<?x64xf32>, gate tensor<96x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_c5_inf(%x: tensor<?x64xf32>, %gate: tensor<96x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>) {
  // expected-error @below {{'moe.ffn' op limit (0x7FF0000000000000 : f64) must be positive and finite}}
  moe.ffn %x gate %gate up %up down %down activation oss_swiglu {limit = 0x7FF0000000000000 : f64}
      : tensor<?x64xf32>, gate tensor<96x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_bias_name(%x: tensor<?x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>, %b: tensor<96xf32>) {
  moe.ffn %x up %up down %down up_bias %b activation silu
      // expected-error @below {{expected gate_bias, up_bias or down_bias, each at most once, but got 'side_bias'}}
      : tensor<?x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32>, side_bias tensor<96xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @ffn_bias_twice(%x: tensor<?x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>, %b: tensor<96xf32>) {
  moe.ffn %x up %up down %down up_bias %b activation silu
      // expected-error @below {{expected gate_bias, up_bias or down_bias, each at most once, but got 'up_bias'}}
      : tensor<?x64xf32>, up tensor<96x64xf32>, down tensor<64x96xf32>, up_bias tensor<96xf32>, up_bias tensor<96xf32> -> tensor<?x64xf32>
  return
}
