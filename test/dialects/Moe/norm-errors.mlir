// One function per label that the norm family refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @rms_norm_c1(%x: tensor<?x128xf32>, %w: tensor<128xf32>) {
  // expected-error @below {{'moe.rms_norm' op result must be [T, N], as x}}
  // expected-note @below {{expected: ?x128}}
  // expected-note @below {{actual: ?x64}}
  moe.rms_norm %x, %w eps 1.0e-5 : tensor<?x128xf32>, tensor<128xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @rms_norm_c1_static(%x: tensor<?x?xf32>, %w: tensor<128xf32>) {
  // expected-error @below {{'moe.rms_norm' op operand #0 must be [T, N] tensor of f32, bf16 or f64 with a static N, but got 'tensor<?x?xf32>'}}
  moe.rms_norm %x, %w eps 1.0e-5 : tensor<?x?xf32>, tensor<128xf32> -> tensor<?x128xf32>
  return
}

// -----

func.func @rms_norm_c2(%x: tensor<?x128xf32>, %w: tensor<128xf32>) {
  // expected-error @below {{'moe.rms_norm' op groups (3) must divide the width N of x (128)}}
  moe.rms_norm %x, %w eps 1.0e-5 groups 3 : tensor<?x128xf32>, tensor<128xf32> -> tensor<?x128xf32>
  return
}

// -----

func.func @rms_norm_c2_zero(%x: tensor<?x128xf32>, %w: tensor<128xf32>) {
  // expected-error @below {{'moe.rms_norm' op attribute 'groups' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  moe.rms_norm %x, %w eps 1.0e-5 groups 0 : tensor<?x128xf32>, tensor<128xf32> -> tensor<?x128xf32>
  return
}

// -----

func.func @rms_norm_c3(%x: tensor<?x128xf32>, %w: tensor<128xf32>) {
  // expected-error @below {{'moe.rms_norm' op length of weight (128) must equal N / groups (32)}}
  moe.rms_norm %x, %w eps 1.0e-5 groups 4 : tensor<?x128xf32>, tensor<128xf32> -> tensor<?x128xf32>
  return
}

// -----

func.func @rms_norm_c4(%x: tensor<?x128xf32>, %w: tensor<128xf32>) {
  // expected-error @below {{'moe.rms_norm' op eps (-1.000000e-05 : f64) must be finite and not negative}}
  moe.rms_norm %x, %w eps -1.0e-5 : tensor<?x128xf32>, tensor<128xf32> -> tensor<?x128xf32>
  return
}
