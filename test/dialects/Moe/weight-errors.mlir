// One function or module per label that the weight family refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

module @weight_c1 {
  // expected-error @below {{'moe.weight' op attribute 'type' failed to satisfy constraint: type attribute of static tensor}}
  moe.weight @w : tensor<?x8xf32>
}

// -----

module @weight_c1_element {
  // expected-error @below {{'moe.weight' op attribute 'type' failed to satisfy constraint: type attribute of static tensor of f32, bf16, f16 or f64}}
  moe.weight @w : tensor<8xi8>
}

// -----

module @weight_c1_zero {
  // expected-error @below {{'moe.weight' op type 'tensor<4x0xf32>' has a dim of 0, but every dim must be at least 1}}
  moe.weight @w : tensor<4x0xf32>
}

// -----

module @weight_c2 {
  // expected-error @below {{'moe.weight' op the stacked name 'a.{}.b.{}' has 2 places for the expert's number; write exactly one '{}'}}
  moe.weight @w source "a.{}.b.{}" stacked : tensor<4x8xf32>
}

// -----

module @weight_c2_empty {
  // expected-error @below {{'moe.weight' op the name in the checkpoint must not be empty}}
  moe.weight @w source "" : tensor<4x8xf32>
}

// -----

module @weight_c3 {
  // expected-error @below {{'moe.weight' op stacked type 'tensor<4xf32>' has rank 1, but the experts' dim and a tensor's own dims make at least 2}}
  moe.weight @w source "a.{}" stacked : tensor<4xf32>
}

// -----

func.func @get_weight_c1() {
  // expected-error @below {{'moe.get_weight' op @w is not a moe.weight of this module}}
  moe.get_weight @w : tensor<8xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 1, key_dim = 8, value_dim = 8, element = f32>
func.func @get_weight_c1_state() {
  // expected-error @below {{'moe.get_weight' op @kv is not a moe.weight of this module}}
  moe.get_weight @kv : tensor<8xf32>
  return
}

// -----

// expected-note @below {{expected: 'tensor<8xbf16>'}}
moe.weight @w : tensor<8xbf16>
func.func @get_weight_c2() {
  // expected-error @below {{'moe.get_weight' op the type of result must be the declared type of @w}}
  // expected-note @below {{actual: 'tensor<8xf32>'}}
  moe.get_weight @w : tensor<8xf32>
  return
}

// -----

module @state_c1 {
  // expected-error @below {{'moe.state' op attribute 'type' failed to satisfy constraint: type attribute of}}
  moe.state @kv : tensor<8xf32>
}

// -----

func.func @concat_c1() {
  // expected-error @below {{'moe.concat' op needs at least one input}}
  "moe.concat"() {dim = 0 : i64} : () -> tensor<8xf32>
  return
}

// -----

func.func @concat_c2(%a: tensor<8x8xf32>) {
  // expected-error @below {{'moe.concat' op dim (2) must be less than the rank of the result (2)}}
  moe.concat %a dim 2 : tensor<8x8xf32> -> tensor<8x8xf32>
  return
}

// -----

func.func @concat_c3(%a: tensor<8x8xf32>, %b: tensor<8xf32>) {
  // expected-error @below {{'moe.concat' op input #1 ('tensor<8xf32>') must have the rank and element type of the result ('tensor<16x8xf32>')}}
  moe.concat %a, %b dim 0 : tensor<8x8xf32>, tensor<8xf32> -> tensor<16x8xf32>
  return
}

// -----

func.func @concat_c3_element(%a: tensor<8x8xf32>, %b: tensor<8x8xbf16>) {
  // expected-error @below {{'moe.concat' op input #1 ('tensor<8x8xbf16>') must have the rank and element type of the result ('tensor<16x8xf32>')}}
  moe.concat %a, %b dim 0 : tensor<8x8xf32>, tensor<8x8xbf16> -> tensor<16x8xf32>
  return
}

// -----

func.func @concat_c4(%a: tensor<8x8xf32>, %b: tensor<8x7xf32>) {
  // expected-error @below {{'moe.concat' op dim 1 of input #1 (7) must equal that of the result (8)}}
  moe.concat %a, %b dim 0 : tensor<8x8xf32>, tensor<8x7xf32> -> tensor<16x8xf32>
  return
}

// -----

func.func @concat_c5(%a: tensor<8x8xf32>, %b: tensor<4x8xf32>) {
  // expected-error @below {{'moe.concat' op dim 0 of the result (16) must equal the sum over the inputs (12)}}
  moe.concat %a, %b dim 0 : tensor<8x8xf32>, tensor<4x8xf32> -> tensor<16x8xf32>
  return
}
