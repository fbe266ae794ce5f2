// One function per label that the attention family refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @rope_c1(%x: tensor<?x128xf32>, %pos: tensor<?xi32>) {
  // expected-error @below {{'moe.rope' op result must be [T, heads * D], as x}}
  // expected-note @below {{expected: ?x128}}
  // expected-note @below {{actual: ?x64}}
  moe.rope %x at %pos heads 4 <kind = default, theta = 1.0e4, dim = 32> : tensor<?x128xf32>, tensor<?xi32> -> tensor<?x64xf32>
  return
}

// -----

func.func @rope_c2(%x: tensor<?x128xf32>, %pos: tensor<3xi32>) {
  // expected-error @below {{'moe.rope' op length of pos (3) must equal the rows T of x (?)}}
  moe.rope %x at %pos heads 4 <kind = default, theta = 1.0e4, dim = 32> : tensor<?x128xf32>, tensor<3xi32> -> tensor<?x128xf32>
  return
}

// -----

func.func @rope_c3(%x: tensor<?x128xf32>, %pos: tensor<?xi32>) {
  // expected-error @below {{'moe.rope' op heads (3) must divide the width of x (128)}}
  moe.rope %x at %pos heads 3 <kind = default, theta = 1.0e4, dim = 32> : tensor<?x128xf32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

func.func @rope_c3_zero(%x: tensor<?x128xf32>, %pos: tensor<?xi32>) {
  // expected-error @below {{'moe.rope' op attribute 'heads' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  moe.rope %x at %pos heads 0 <kind = default, theta = 1.0e4, dim = 32> : tensor<?x128xf32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

func.func @rope_c4(%x: tensor<?x128xf32>, %pos: tensor<?xi32>) {
  // expected-error @below {{'moe.rope' op rope turns the elements 16 .. 48 of every head, but the head dim D is 32}}
  moe.rope %x at %pos heads 4 <kind = default, theta = 1.0e4, dim = 32, offset = 16> : tensor<?x128xf32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c1(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op kv_heads (3) must divide heads (4)}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 3 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c1_zero(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op attribute 'kv_heads' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 0 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c2(%q: tensor<?x128xf32>, %k: tensor<?x32xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op head dim of q (32) must equal the head dim of k (16)}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x32xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c2_multiple(%q: tensor<?x128xf32>, %k: tensor<?x65xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op width of k (65) must be a multiple of its heads (2)}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x65xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c3(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op head dim of result (16) must equal the head dim of v (32)}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c3_multiple(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x63xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op width of v (63) must be a multiple of its heads (2)}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x63xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c4(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<7xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op tokens of pos (7) must equal the tokens T of q (?)}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<7xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c4_result(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op tokens of result (4) must equal the tokens T of q (?)}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<4x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c5(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xbf16>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op element type of v ('bf16') must equal that of q ('f32')}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xbf16>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c6(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %sinks: tensor<2xf32>) {
  // expected-error @below {{'moe.attention' op sinks must be [Q]}}
  // expected-note @below {{expected: 4}}
  // expected-note @below {{actual: 2}}
  moe.attention %q, %k, %v at %seq, %pos, %runs sinks %sinks cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<2xf32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c7(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op scale (-2.500000e-01 : f64) must be positive and finite}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale -0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c7_window(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op attribute 'window' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25 window 0
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

func.func @attention_c8(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op cache @kv is not a moe.state of this module}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.weight @kv : tensor<8xf32>
func.func @attention_c8_weight(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op cache @kv is not a moe.state of this module}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

// expected-note @below {{actual: '!moe.kv_cache<heads = 4, key_dim = 32, value_dim = 32, element = f32>'}}
moe.state @kv : !moe.kv_cache<heads = 4, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c9(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op needs a cache of its own kv_heads, head dims and element type}}
  // expected-note @below {{expected: heads = 2, key_dim = 32, value_dim = 32, element = 'f32'}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

// expected-note @below {{actual: '!moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = bf16>'}}
moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = bf16>
func.func @attention_c9_element(%q: tensor<?x128xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op needs a cache of its own kv_heads, head dims and element type}}
  // expected-note @below {{expected: heads = 2, key_dim = 32, value_dim = 32, element = 'f32'}}
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c7_inf(%q: tensor<?x128xf32>, %kv: tensor<?x64xf32>, %t: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op scale (0x7FF0000000000000 : f64) must be positive and finite}}
  moe.attention %q, %kv, %kv at %t, %t, %t cache @kv heads 4 kv_heads 2 scale 0x7FF0000000000000
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}

// -----

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 32, element = f32>
func.func @attention_c7_zero(%q: tensor<?x128xf32>, %kv: tensor<?x64xf32>, %t: tensor<?xi32>) {
  // expected-error @below {{'moe.attention' op scale (0.000000e+00 : f64) must be positive and finite}}
  moe.attention %q, %kv, %kv at %t, %t, %t cache @kv heads 4 kv_heads 2 scale 0.0
      : tensor<?x128xf32>, tensor<?x64xf32>, tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x128xf32>
  return
}
