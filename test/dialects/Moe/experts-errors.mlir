// One function per label that the expert family refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @experts_c1(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %up: tensor<8x96x32xf32>, %down: tensor<8x64x96xf32>) {
  // expected-error @below {{'moe.experts' op up must be [E, I, H] with the width H of x}}
  // expected-note @below {{expected: 8x96x64}}
  // expected-note @below {{actual: 8x96x32}}
  moe.experts %x, %ids up %up down %down activation silu
      : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<8x96x32xf32>, down tensor<8x64x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c1_count(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %up: tensor<8x96x64xf32>, %down: tensor<7x64x96xf32>) {
  // expected-error @below {{'moe.experts' op down must be [E, N, I] with E and I of up}}
  // expected-note @below {{expected: 8x64x96}}
  // expected-note @below {{actual: 7x64x96}}
  moe.experts %x, %ids up %up down %down activation silu
      : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<8x96x64xf32>, down tensor<7x64x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c2(%x: tensor<?x64xf32>, %ids: tensor<5x2xi32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>) {
  // expected-error @below {{'moe.experts' op experts must be [T, K] with the rows T of x}}
  // expected-note @below {{expected: ?x2}}
  // expected-note @below {{actual: 5x2}}
  moe.experts %x, %ids up %up down %down activation silu
      : tensor<?x64xf32>, tensor<5x2xi32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c2_result(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>) {
  // expected-error @below {{'moe.experts' op result must be [T, K, N] with K of experts and N of down}}
  // expected-note @below {{expected: ?x2x64}}
  // expected-note @below {{actual: ?x3x64}}
  moe.experts %x, %ids up %up down %down activation silu
      : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32> -> tensor<?x3x64xf32>
  return
}

// -----

func.func @experts_c3(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %gate: tensor<9x96x64xf32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>) {
  // expected-error @below {{'moe.experts' op gate must be [E, I, H], as up}}
  // expected-note @below {{expected: 8x96x64}}
  // expected-note @below {{actual: 9x96x64}}
  moe.experts %x, %ids gate %gate up %up down %down activation silu
      : tensor<?x64xf32>, tensor<?x2xi32>, gate tensor<9x96x64xf32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c4(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %gate: tensor<8x96x64xf32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>, %gate_bias: tensor<8x64xf32>) {
  // expected-error @below {{'moe.experts' op gate_bias must be [E, I]}}
  // expected-note @below {{expected: 8x96}}
  // expected-note @below {{actual: 8x64}}
  moe.experts %x, %ids gate %gate up %up down %down gate_bias %gate_bias activation silu
      : tensor<?x64xf32>, tensor<?x2xi32>, gate tensor<8x96x64xf32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32>, gate_bias tensor<8x64xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c4_up(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>, %up_bias: tensor<1x96xf32>) {
  // expected-error @below {{'moe.experts' op up_bias must be [E, I]}}
  // expected-note @below {{expected: 8x96}}
  // expected-note @below {{actual: 1x96}}
  moe.experts %x, %ids up %up down %down up_bias %up_bias activation silu
      : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32>, up_bias tensor<1x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c4_down(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>, %down_bias: tensor<8x96xf32>) {
  // expected-error @below {{'moe.experts' op down_bias must be [E, N]}}
  // expected-note @below {{expected: 8x64}}
  // expected-note @below {{actual: 8x96}}
  moe.experts %x, %ids up %up down %down down_bias %down_bias activation silu
      : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32>, down_bias tensor<8x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c5(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>, %gate_bias: tensor<8x96xf32>) {
  // expected-error @below {{'moe.experts' op gate_bias is given, but no gate: add `gate %g`}}
  moe.experts %x, %ids up %up down %down gate_bias %gate_bias activation silu
      : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32>, gate_bias tensor<8x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c5_oss(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>) {
  // expected-error @below {{'moe.experts' op activation oss_swiglu is given, but no gate: add `gate %g`}}
  moe.experts %x, %ids up %up down %down activation oss_swiglu
      : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c6(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %gate: tensor<8x96x64xf32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>) {
  // expected-error @below {{'moe.experts' op alpha (0x7FF0000000000000 : f64) must be finite}}
  moe.experts %x, %ids gate %gate up %up down %down activation oss_swiglu {alpha = 0x7FF0000000000000 : f64, limit = 7.0 : f64}
      : tensor<?x64xf32>, tensor<?x2xi32>, gate tensor<8x96x64xf32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @experts_c6_limit(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %gate: tensor<8x96x64xf32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>) {
  // expected-error @below {{'moe.experts' op limit (0.000000e+00 : f64) must be positive and finite}}
  moe.experts %x, %ids gate %gate up %up down %down activation oss_swiglu {limit = 0.0 : f64}
      : tensor<?x64xf32>, tensor<?x2xi32>, gate tensor<8x96x64xf32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32> -> tensor<?x2x64xf32>
  return
}

// -----

func.func @combine_c1(%y: tensor<?x2x64xf32>, %w: tensor<?x3xf32>) {
  // expected-error @below {{'moe.combine' op weights must be [T, K] with T and K of y}}
  // expected-note @below {{expected: ?x2}}
  // expected-note @below {{actual: ?x3}}
  moe.combine %y, %w : tensor<?x2x64xf32>, tensor<?x3xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @combine_c1_result(%y: tensor<?x2x64xf32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{'moe.combine' op result must be [T, H] with T and H of y}}
  // expected-note @below {{expected: ?x64}}
  // expected-note @below {{actual: ?x32}}
  moe.combine %y, %w : tensor<?x2x64xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return
}

// -----

func.func @experts_c7(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %up: tensor<8x96x64xf32>, %down: tensor<8x64x96xf32>) {
  // expected-error @below {{'moe.experts' op E of placement (2) must equal the experts E of up (8)}}
  moe.experts %x, %ids up %up down %down activation relu placement <ranks = 2, slots = [0, 1]>
      : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<8x96x64xf32>, down tensor<8x64x96xf32> -> tensor<?x2x64xf32>
  return
}
