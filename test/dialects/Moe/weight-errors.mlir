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

func.func @part_c1(%w: tensor<8x3xf32>) {
  // expected-error @below {{'moe.part' op dim (2) must be less than the rank of weight (2)}}
  moe.part %w dim 2 from 0 : tensor<8x3xf32> -> tensor<8x3xf32>
  return
}

// -----

func.func @part_c2(%w: tensor<8x3xf32>) {
  // expected-error @below {{'moe.part' op dim 1 of the result (2) must equal that of weight (3)}}
  moe.part %w dim 0 from 0 : tensor<8x3xf32> -> tensor<4x2xf32>
  return
}

// -----

func.func @part_c2_element(%w: tensor<8x3xf32>) {
  // expected-error @below {{'moe.part' op result ('tensor<4x3xbf16>') must have the rank and element type of weight ('tensor<8x3xf32>')}}
  moe.part %w dim 0 from 0 : tensor<8x3xf32> -> tensor<4x3xbf16>
  return
}

// -----

func.func @part_c3(%w: tensor<8x3xf32>) {
  // expected-error @below {{'moe.part' op from (5) and the 4 of the result reach beyond dim 0 of weight (8)}}
  moe.part %w dim 0 from 5 : tensor<8x3xf32> -> tensor<4x3xf32>
  return
}

// -----

func.func @part_c3_far(%w: tensor<8x3xf32>) {
  // expected-error @below {{'moe.part' op from (9223372036854775807) and the 4 of the result reach beyond dim 0 of weight (8)}}
  moe.part %w dim 0 from 9223372036854775807 : tensor<8x3xf32> -> tensor<4x3xf32>
  return
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

// -----

func.func @scale_c1(%w: tensor<8x3xf32>, %s: tensor<3xf32>) {
  // expected-error @below {{'moe.scale' op dim (2) must be less than the rank of weight (2)}}
  moe.scale %w by %s dim 2 : tensor<8x3xf32>, tensor<3xf32> -> tensor<8x3xf32>
  return
}

// -----

func.func @scale_c2(%w: tensor<8x3xf32>, %s: tensor<3xf32>) {
  // expected-error @below {{'moe.scale' op result must be of the shape of weight}}
  // expected-note @below {{expected: 8x3}}
  // expected-note @below {{actual: 3x8}}
  moe.scale %w by %s dim 1 : tensor<8x3xf32>, tensor<3xf32> -> tensor<3x8xf32>
  return
}

// -----

func.func @scale_c3(%w: tensor<8x3xf32>, %s: tensor<3xf32>) {
  // expected-error @below {{'moe.scale' op by must be as long as weight along dim}}
  // expected-note @below {{expected: 8}}
  // expected-note @below {{actual: 3}}
  moe.scale %w by %s dim 0 : tensor<8x3xf32>, tensor<3xf32> -> tensor<8x3xf32>
  return
}

// -----

func.func @scale_c3_over(%w: tensor<8x3xf32>, %s: tensor<3xf32>, %o: tensor<8xf32>) {
  // expected-error @below {{'moe.scale' op over must be as long as weight along dim}}
  // expected-note @below {{expected: 3}}
  // expected-note @below {{actual: 8}}
  moe.scale %w by %s over %o dim 1 : tensor<8x3xf32>, tensor<3xf32>, tensor<8xf32> -> tensor<8x3xf32>
  return
}

// -----

func.func @floor_magnitude_c1(%w: tensor<8xf32>) {
  // expected-error @below {{'moe.floor_magnitude' op requires the same shape for all operands and results}}
  moe.floor_magnitude %w at 0.5 : tensor<8xf32> -> tensor<7xf32>
  return
}

// -----

func.func @floor_magnitude_c2(%w: tensor<8xf32>) {
  // expected-error @below {{'moe.floor_magnitude' op floor (0.000000e+00 : f64) must be positive and finite}}
  moe.floor_magnitude %w at 0.0 : tensor<8xf32> -> tensor<8xf32>
  return
}

// -----

func.func @product_c1_experts(%a: tensor<4x8x3xf32>, %b: tensor<3x5xf32>) {
  // expected-error @below {{'moe.product' op result must be [E, M, N] with the rows of lhs and the columns of rhs}}
  // expected-note @below {{expected: 4x8x5}}
  // expected-note @below {{actual: 8x5}}
  moe.product %a, %b : tensor<4x8x3xf32>, tensor<3x5xf32> -> tensor<8x5xf32>
  return
}

// -----

func.func @product_c2(%a: tensor<4x8x3xf32>, %b: tensor<4x3x5xf32>) {
  // expected-error @below {{'moe.product' op lhs ('tensor<4x8x3xf32>') and rhs ('tensor<4x3x5xf32>') must not both be weights of experts}}
  moe.product %a, %b : tensor<4x8x3xf32>, tensor<4x3x5xf32> -> tensor<4x8x5xf32>
  return
}

// -----

func.func @product_c1(%a: tensor<8x3xf32>, %b: tensor<4x5xf32>) {
  // expected-error @below {{'moe.product' op columns of lhs (3) must equal the rows K of rhs (4)}}
  moe.product %a, %b : tensor<8x3xf32>, tensor<4x5xf32> -> tensor<8x5xf32>
  return
}

// -----

func.func @product_c1_result(%a: tensor<8x3xf32>, %b: tensor<3x5xf32>) {
  // expected-error @below {{'moe.product' op result must be [M, N] with the rows of lhs and the columns of rhs}}
  // expected-note @below {{expected: 8x5}}
  // expected-note @below {{actual: 5x8}}
  moe.product %a, %b : tensor<8x3xf32>, tensor<3x5xf32> -> tensor<5x8xf32>
  return
}

// -----

func.func @sum_c1() {
  // expected-error @below {{'moe.sum' op needs at least one input}}
  "moe.sum"() : () -> tensor<8xf32>
  return
}

// -----

func.func @sum_c2(%a: tensor<8xf32>, %b: tensor<7xf32>) {
  // expected-error @below {{'moe.sum' op input #1 must be of the shape of the result}}
  // expected-note @below {{expected: 8}}
  // expected-note @below {{actual: 7}}
  moe.sum %a, %b : tensor<8xf32>, tensor<7xf32> -> tensor<8xf32>
  return
}

// -----

func.func @pad_c1(%a: tensor<8xf32>) {
  // expected-error @below {{'moe.pad' op dim (1) must be less than the rank of weight (1)}}
  moe.pad %a dim 1 : tensor<8xf32> -> tensor<8xf32>
  return
}

// -----

func.func @pad_c2(%a: tensor<8xf32>) {
  // expected-error @below {{'moe.pad' op result ('tensor<9xbf16>') must have the rank and element type of weight ('tensor<8xf32>')}}
  moe.pad %a dim 0 : tensor<8xf32> -> tensor<9xbf16>
  return
}

// -----

func.func @pad_c3(%a: tensor<8xf32>) {
  // expected-error @below {{'moe.pad' op dim 0 of the result (7) must not be less than that of weight (8)}}
  moe.pad %a dim 0 : tensor<8xf32> -> tensor<7xf32>
  return
}

// -----

func.func @pad_c3_other_dim(%a: tensor<8x3xf32>) {
  // expected-error @below {{'moe.pad' op dim 1 of the result (4) must equal that of weight (3)}}
  moe.pad %a dim 0 : tensor<8x3xf32> -> tensor<9x4xf32>
  return
}

// -----

// expected-error @below {{'moe.weight' op the size of 'tensor<4611686018427387904x16xf32>' must be below 2^63 bits}}
moe.weight @weight_c4 : tensor<4611686018427387904x16xf32>
