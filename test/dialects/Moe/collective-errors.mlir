// One function per label that the collective family refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @all_reduce_c1(%x: tensor<?x64xf32>) {
  // expected-error @below {{'moe.all_reduce' op requires the same type for all operands and results}}
  "moe.all_reduce"(%x) {ranks = 2 : i64} : (tensor<?x64xf32>) -> tensor<?x64xbf16>
  return
}

// -----

func.func @ranks_positive(%x: tensor<?x64xf32>) {
  // expected-error @below {{'moe.all_reduce' op attribute 'ranks' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  moe.all_reduce %x ranks 0 : tensor<?x64xf32>
  return
}

// -----

func.func @all_gather_c1(%x: tensor<?x64xf32>) {
  // expected-error @below {{'moe.all_gather' op result ('tensor<?x32xf32>') must have the rank, the element type and the dims after the first of x ('tensor<?x64xf32>')}}
  moe.all_gather %x ranks 2 : tensor<?x64xf32> -> tensor<?x32xf32>
  return
}

// -----

func.func @all_gather_c1_element(%x: tensor<?x64xf32>) {
  // expected-error @below {{'moe.all_gather' op result ('tensor<?x64xbf16>') must have the rank, the element type and the dims after the first of x ('tensor<?x64xf32>')}}
  moe.all_gather %x ranks 2 : tensor<?x64xf32> -> tensor<?x64xbf16>
  return
}

// -----

func.func @all_gather_c2(%x: tensor<3x64xf32>) {
  // expected-error @below {{'moe.all_gather' op rows of result (5) must equal 2 times those of x (6)}}
  moe.all_gather %x ranks 2 : tensor<3x64xf32> -> tensor<5x64xf32>
  return
}

// -----

func.func @all_gather_c2_dynamic(%x: tensor<?x64xf32>) {
  // expected-error @below {{'moe.all_gather' op rows of result (6) must equal 2 times those of x (?)}}
  moe.all_gather %x ranks 2 : tensor<?x64xf32> -> tensor<6x64xf32>
  return
}

// -----

func.func @reduce_scatter_c1(%x: tensor<?x64xf32>) {
  // expected-error @below {{'moe.reduce_scatter' op x ('tensor<?x64xf32>') must have the rank, the element type and the dims after the first of result ('tensor<?x32xf32>')}}
  moe.reduce_scatter %x ranks 2 : tensor<?x64xf32> -> tensor<?x32xf32>
  return
}

// -----

func.func @reduce_scatter_c2(%x: tensor<5x64xf32>) {
  // expected-error @below {{'moe.reduce_scatter' op rows of x (5) must equal 2 times those of result (4)}}
  moe.reduce_scatter %x ranks 2 : tensor<5x64xf32> -> tensor<2x64xf32>
  return
}

// -----

func.func @mask_padding_c1(%ids: tensor<?x2xi32>, %seq: tensor<?xi32>) {
  // expected-error @below {{'moe.mask_padding' op failed to verify that all of {experts, result} have same type}}
  "moe.mask_padding"(%ids, %seq) : (tensor<?x2xi32>, tensor<?xi32>) -> tensor<?x3xi32>
  return
}

// -----

func.func @mask_padding_c2(%ids: tensor<?x2xi32>, %seq: tensor<3xi32>) {
  // expected-error @below {{'moe.mask_padding' op length of seq (3) must equal the rows of experts (?)}}
  moe.mask_padding %ids at %seq : tensor<?x2xi32>, tensor<3xi32>
  return
}

// -----

func.func @localize_c1(%ids: tensor<?x2xi32>) {
  // expected-error @below {{'moe.localize' op failed to verify that all of {experts, result} have same type}}
  "moe.localize"(%ids) {placement = #moe.placement<ranks = 1, slots = [0, 1]>} : (tensor<?x2xi32>) -> tensor<?x3xi32>
  return
}

// -----

func.func @dispatch_c1(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @below {{'moe.dispatch' op failed to verify that all of {experts, slots} have same type}}
  "moe.dispatch"(%x, %ids) {placement = #moe.placement<ranks = 1, slots = [0, 1]>} : (tensor<?x64xf32>, tensor<?x2xi32>) -> (tensor<?x64xf32>, tensor<?x3xi32>)
  return
}

// -----

func.func @dispatch_c2(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @below {{'moe.dispatch' op rows ('tensor<?x64xbf16>') must have the element type and H of x ('tensor<?x64xf32>')}}
  moe.dispatch %x, %ids placement <ranks = 2, slots = [0, 1]> : tensor<?x64xf32>, tensor<?x2xi32> -> tensor<?x64xbf16>
  return
}

// -----

func.func @dispatch_c2_rows(%x: tensor<3x64xf32>, %ids: tensor<6x2xi32>) {
  // expected-error @below {{'moe.dispatch' op the number of rows (3) must equal the rows of experts (6)}}
  moe.dispatch %x, %ids placement <ranks = 2, slots = [0, 1]> : tensor<3x64xf32>, tensor<6x2xi32> -> tensor<3x64xf32>
  return
}

// -----

func.func @dispatch_c3(%x: tensor<3x64xf32>, %ids: tensor<3x2xi32>) {
  // expected-error @below {{'moe.dispatch' op rows of experts (3) must equal 2 times those of x (6)}}
  moe.dispatch %x, %ids placement <ranks = 2, slots = [0, 1]> : tensor<3x64xf32>, tensor<3x2xi32> -> tensor<3x64xf32>
  return
}

// -----

func.func @collect_c1(%y: tensor<?x3x64xf32>, %slots: tensor<?x2xi32>) {
  // expected-error @below {{'moe.collect' op K of y (3) must equal K of slots (2)}}
  moe.collect %y of %slots : tensor<?x3x64xf32>, tensor<?x2xi32> -> tensor<?x3x64xf32>
  return
}

// -----

func.func @collect_c1_rows(%y: tensor<4x2x64xf32>, %slots: tensor<6x2xi32>) {
  // expected-error @below {{'moe.collect' op rows of y (4) must equal those of slots (6)}}
  moe.collect %y of %slots : tensor<4x2x64xf32>, tensor<6x2xi32> -> tensor<3x2x64xf32>
  return
}

// -----

func.func @collect_c2(%y: tensor<?x2x64xf32>, %slots: tensor<?x2xi32>) {
  // expected-error @below {{'moe.collect' op result ('tensor<?x2x64xbf16>') must have the element type, K and H of y ('tensor<?x2x64xf32>')}}
  moe.collect %y of %slots : tensor<?x2x64xf32>, tensor<?x2xi32> -> tensor<?x2x64xbf16>
  return
}

// -----

func.func @collect_c2_width(%y: tensor<?x2x64xf32>, %slots: tensor<?x2xi32>) {
  // expected-error @below {{'moe.collect' op result ('tensor<?x2x32xf32>') must have the element type, K and H of y ('tensor<?x2x64xf32>')}}
  moe.collect %y of %slots : tensor<?x2x64xf32>, tensor<?x2xi32> -> tensor<?x2x32xf32>
  return
}

// -----

func.func @place_c1(%w: tensor<4x96x64xf32>) {
  // expected-error @below {{'moe.place' op experts of weight (4) must equal those of placement (2)}}
  moe.place %w placement <ranks = 1, slots = [0, 1]> : tensor<4x96x64xf32> -> tensor<2x96x64xf32>
  return
}

// -----

func.func @place_c2(%w: tensor<2x96x64xf32>) {
  // expected-error @below {{'moe.place' op result must be [S/R, ...] with the dims after the first of weight}}
  // expected-note @below {{expected: 1x96x64}}
  // expected-note @below {{actual: 2x96x64}}
  moe.place %w placement <ranks = 2, slots = [0, 1]> : tensor<2x96x64xf32> -> tensor<2x96x64xf32>
  return
}

// -----

func.func @place_c2_element(%w: tensor<2x96x64xf32>) {
  // expected-error @below {{'moe.place' op result ('tensor<1x96x64xbf16>') must have the element type of weight ('tensor<2x96x64xf32>')}}
  moe.place %w placement <ranks = 2, slots = [0, 1]> : tensor<2x96x64xf32> -> tensor<1x96x64xbf16>
  return
}

// -----

func.func @shard_c1(%w: tensor<96x64xf32>) {
  // expected-error @below {{'moe.shard' op dim (2) must be less than the rank of weight (2)}}
  moe.shard %w dim 2 ranks 2 : tensor<96x64xf32> -> tensor<48x64xf32>
  return
}

// -----

func.func @shard_c2(%w: tensor<96x64xf32>) {
  // expected-error @below {{'moe.shard' op dim 1 of the result (32) must equal that of weight (64)}}
  moe.shard %w dim 0 ranks 2 : tensor<96x64xf32> -> tensor<48x32xf32>
  return
}

// -----

func.func @shard_c2_element(%w: tensor<96x64xf32>) {
  // expected-error @below {{'moe.shard' op result ('tensor<48x64xbf16>') must have the rank and element type of weight ('tensor<96x64xf32>')}}
  moe.shard %w dim 0 ranks 2 : tensor<96x64xf32> -> tensor<48x64xbf16>
  return
}

// -----

func.func @shard_c3(%w: tensor<96x64xf32>) {
  // expected-error @below {{'moe.shard' op dim 0 of weight (96) must be 4 times that of the result (32): ranks / copies}}
  moe.shard %w dim 0 ranks 4 : tensor<96x64xf32> -> tensor<32x64xf32>
  return
}

// -----

func.func @shard_c3_copies(%w: tensor<96x64xf32>) {
  // expected-error @below {{'moe.shard' op copies (3) must divide ranks (4)}}
  moe.shard %w dim 0 ranks 4 copies 3 : tensor<96x64xf32> -> tensor<96x64xf32>
  return
}
