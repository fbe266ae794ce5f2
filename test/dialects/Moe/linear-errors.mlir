// One function per label that the linear family refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @embedding_c1(%tokens: tensor<4xi32>, %table: tensor<96x64xf32>) {
  // expected-error @below {{'moe.embedding' op rows of result (5) must equal the number of tokens T (4)}}
  moe.embedding %tokens, %table : tensor<4xi32>, tensor<96x64xf32> -> tensor<5x64xf32>
  return
}

// -----

func.func @embedding_c2(%tokens: tensor<?xi32>, %table: tensor<96x64xf32>) {
  // expected-error @below {{'moe.embedding' op width of result (96) must equal the width H of table (64)}}
  moe.embedding %tokens, %table : tensor<?xi32>, tensor<96x64xf32> -> tensor<?x96xf32>
  return
}

// -----

func.func @linear_c1(%x: tensor<?x64xf32>, %w: tensor<96x32xf32>) {
  // expected-error @below {{'moe.linear' op width of x (64) must equal the inputs K of weight [N, K] (32)}}
  moe.linear %x, %w : tensor<?x64xf32>, tensor<96x32xf32> -> tensor<?x96xf32>
  return
}

// -----

func.func @linear_c2(%x: tensor<?x64xf32>, %w: tensor<96x64xf32>) {
  // expected-error @below {{'moe.linear' op result must be [T, N]}}
  // expected-note @below {{expected: ?x96}}
  // expected-note @below {{actual: ?x64}}
  moe.linear %x, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @linear_c2_tokens(%x: tensor<?x64xf32>, %w: tensor<96x64xf32>) {
  // expected-error @below {{'moe.linear' op result must be [T, N]}}
  // expected-note @below {{expected: ?x96}}
  // expected-note @below {{actual: 4x96}}
  moe.linear %x, %w : tensor<?x64xf32>, tensor<96x64xf32> -> tensor<4x96xf32>
  return
}

// -----

func.func @linear_c3(%x: tensor<?x64xf32>, %w: tensor<96x64xf32>, %b: tensor<64xf32>) {
  // expected-error @below {{'moe.linear' op bias must be [N]}}
  // expected-note @below {{expected: 96}}
  // expected-note @below {{actual: 64}}
  moe.linear %x, %w bias %b : tensor<?x64xf32>, tensor<96x64xf32>, tensor<64xf32> -> tensor<?x96xf32>
  return
}

// -----

func.func @add_c1(%a: tensor<?x64xf32>, %b: tensor<?x32xf32>) {
  // expected-error @below {{'moe.add' op requires the same shape for all operands and results}}
  moe.add %a, %b : tensor<?x64xf32>, tensor<?x32xf32> -> tensor<?x64xf32>
  return
}

// -----

// ANCHOR: docs/adding-an-op.md quotes this.
func.func @gather_rows_c1(%x: tensor<?x64xf32>, %rows: tensor<3xi32>) {
  // expected-error @below {{'moe.gather_rows' op rows of result (?) must equal the length M of rows (3)}}
  moe.gather_rows %x, %rows : tensor<?x64xf32>, tensor<3xi32> -> tensor<?x64xf32>
  return
}

// -----

func.func @gather_rows_c2(%x: tensor<?x64xf32>, %rows: tensor<?xi32>) {
  // expected-error @below {{'moe.gather_rows' op width of result (32) must equal the width of x (64)}}
  moe.gather_rows %x, %rows : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x32xf32>
  return
}

// -----

func.func @gather_rows_c2_element(%x: tensor<?x64xf32>, %rows: tensor<?xi32>) {
  // expected-error @below {{'moe.gather_rows' op element type of result ('bf16') must equal that of x ('f32')}}
  moe.gather_rows %x, %rows : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xbf16>
  return
}
