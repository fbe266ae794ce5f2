// Round trip of the collective family, through the generic form as well; what one rank does folds away.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --canonicalize | FileCheck %s --check-prefix=FOLD

#placement = #moe.placement<ranks = 2, slots = [0, 1, 2, 3, 0, 4], shares = [3, 1, 1, 1, 1, 1]>

// CHECK-LABEL: func @exchanges
func.func @exchanges(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>, %few: tensor<3x64xbf16>) -> (tensor<?x64xf32>, tensor<?x2xi32>, tensor<12x64xbf16>, tensor<?x64xf32>) {
  // CHECK: moe.all_reduce %{{.*}} ranks 4 : tensor<?x64xf32>
  %a = moe.all_reduce %x ranks 4 : tensor<?x64xf32>
  // CHECK: moe.all_gather %{{.*}} ranks 4 : tensor<?x2xi32> -> tensor<?x2xi32>
  %g = moe.all_gather %ids ranks 4 : tensor<?x2xi32> -> tensor<?x2xi32>
  // CHECK: moe.all_gather %{{.*}} ranks 4 : tensor<3x64xbf16> -> tensor<12x64xbf16>
  %f = moe.all_gather %few ranks 4 : tensor<3x64xbf16> -> tensor<12x64xbf16>
  // CHECK: moe.reduce_scatter %{{.*}} ranks 4 : tensor<?x64xf32> -> tensor<?x64xf32>
  %s = moe.reduce_scatter %a ranks 4 : tensor<?x64xf32> -> tensor<?x64xf32>
  return %s, %g, %f, %a : tensor<?x64xf32>, tensor<?x2xi32>, tensor<12x64xbf16>, tensor<?x64xf32>
}

// CHECK-LABEL: func @experts
func.func @experts(%ids: tensor<?x2xi32>, %seq: tensor<?xi32>, %w: tensor<5x96x64xbf16>, %b: tensor<5x96xbf16>, %x: tensor<?x64xf32>, %d: tensor<5x64x96xbf16>) {
  // CHECK: moe.mask_padding %{{.*}} at %{{.*}} : tensor<?x2xi32>, tensor<?xi32>
  %m = moe.mask_padding %ids at %seq : tensor<?x2xi32>, tensor<?xi32>
  // CHECK: moe.localize %{{.*}} placement <ranks = 2, slots = [0, 1, 2, 3, 0, 4], shares = [3, 1, 1, 1, 1, 1]> : tensor<?x2xi32>
  %l = moe.localize %m placement #placement : tensor<?x2xi32>
  // CHECK: moe.place %{{.*}} placement <ranks = 2, slots = [0, 1, 2, 3, 0, 4], shares = [3, 1, 1, 1, 1, 1]> : tensor<5x96x64xbf16> -> tensor<3x96x64xbf16>
  %own = moe.place %w placement #placement : tensor<5x96x64xbf16> -> tensor<3x96x64xbf16>
  // CHECK: moe.place {{.*}} : tensor<5x96xbf16> -> tensor<3x96xbf16>
  %bias = moe.place %b placement #placement : tensor<5x96xbf16> -> tensor<3x96xbf16>
  // CHECK: moe.experts {{.*}} activation relu placement <ranks = 2, slots = [0, 1, 2, 3, 0, 4], shares = [3, 1, 1, 1, 1, 1]> : tensor<?x64xf32>
  %y = moe.experts %x, %ids up %w down %d activation relu placement #placement : tensor<?x64xf32>, tensor<?x2xi32>, up tensor<5x96x64xbf16>, down tensor<5x64x96xbf16> -> tensor<?x2x64xf32>
  return
}

// CHECK-LABEL: func @dispatch
func.func @dispatch(%x: tensor<?x64xbf16>, %ids: tensor<?x2xi32>, %w: tensor<3x96x64xbf16>, %d: tensor<3x64x96xbf16>) {
  // CHECK: %[[ROWS:.*]], %[[SLOTS:.*]] = moe.dispatch %{{.*}}, %{{.*}} placement <ranks = 2, slots = [0, 1, 2, 3, 0, 4], shares = [3, 1, 1, 1, 1, 1]> : tensor<?x64xbf16>, tensor<?x2xi32> -> tensor<?x64xbf16>
  %rows, %slots = moe.dispatch %x, %ids placement #placement : tensor<?x64xbf16>, tensor<?x2xi32> -> tensor<?x64xbf16>
  %y = moe.experts %rows, %slots up %w down %d activation relu : tensor<?x64xbf16>, tensor<?x2xi32>, up tensor<3x96x64xbf16>, down tensor<3x64x96xbf16> -> tensor<?x2x64xf32>
  // CHECK: moe.collect %{{.*}} of %[[SLOTS]] : tensor<?x2x64xf32>, tensor<?x2xi32> -> tensor<?x2x64xf32>
  %own = moe.collect %y of %slots : tensor<?x2x64xf32>, tensor<?x2xi32> -> tensor<?x2x64xf32>
  return
}

// CHECK-LABEL: func @shard
func.func @shard(%w: tensor<128x64xbf16>) {
  // CHECK: moe.shard %{{.*}} dim 0 ranks 4 : tensor<128x64xbf16> -> tensor<32x64xbf16>
  %r = moe.shard %w dim 0 ranks 4 : tensor<128x64xbf16> -> tensor<32x64xbf16>
  // CHECK: moe.shard %{{.*}} dim 1 ranks 4 copies 2 : tensor<128x64xbf16> -> tensor<128x32xbf16>
  %c = moe.shard %w dim 1 ranks 4 copies 2 : tensor<128x64xbf16> -> tensor<128x32xbf16>
  return
}

// FOLD-LABEL: func @one_rank
// FOLD-SAME: (%[[X:.*]]: tensor<?x64xf32>, %[[W:.*]]: tensor<128x64xbf16>)
// FOLD-NEXT: return %[[X]], %[[W]]
func.func @one_rank(%x: tensor<?x64xf32>, %w: tensor<128x64xbf16>) -> (tensor<?x64xf32>, tensor<128x64xbf16>) {
  %a = moe.all_reduce %x ranks 1 : tensor<?x64xf32>
  %g = moe.all_gather %a ranks 1 : tensor<?x64xf32> -> tensor<?x64xf32>
  %s = moe.reduce_scatter %g ranks 1 : tensor<?x64xf32> -> tensor<?x64xf32>
  %p = moe.shard %w dim 0 ranks 4 copies 4 : tensor<128x64xbf16> -> tensor<128x64xbf16>
  return %s, %p : tensor<?x64xf32>, tensor<128x64xbf16>
}
