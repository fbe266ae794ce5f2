// Heads and widths by rows, what adds them up by columns, one all_reduce behind each branch; shared and whole heads.
// RUN: moe-opt %s --moe-tensor-parallel=ranks=2 --moe-verify-moe-level -o %t 2> %t.remarks && FileCheck %s < %t && FileCheck %s --check-prefix=SAYS < %t.remarks
// RUN: moe-opt %s --moe-tensor-parallel=ranks=4 --moe-verify-moe-level 2> /dev/null | FileCheck %s --check-prefix=SHARED
// RUN: moe-opt %s --moe-tensor-parallel="ranks=6 attention=whole" 2> /dev/null | FileCheck %s --check-prefix=WHOLE
// RUN: moe-opt %s --moe-tensor-parallel="ranks=6 attention=auto" -o %t.six 2> %t.auto && FileCheck %s --check-prefix=WHOLE < %t.six && FileCheck %s --check-prefix=AUTO < %t.auto
// RUN: moe-opt %s --moe-tensor-parallel="ranks=2 attention=auto" -o %t.two 2> %t.auto && moe-opt %s --moe-tensor-parallel=ranks=2 2> /dev/null | diff - %t.two && not grep whole %t.auto
// RUN: moe-opt %s --moe-tensor-parallel=ranks=1 -o %t.one && moe-opt %s | diff - %t.one
// RUN: not moe-opt %s --moe-tensor-parallel=ranks=3 2>&1 | FileCheck %s --check-prefix=HEADS
// RUN: not moe-opt %s --moe-tensor-parallel="ranks=5 attention=whole" 2>&1 | FileCheck %s --check-prefix=WIDTH
// RUN: not moe-opt %s --moe-tensor-parallel="ranks=2 attention=some" 2>&1 | FileCheck %s --check-prefix=OPTION
// RUN: moe-opt %S/expert-parallel.mlir --moe-place-experts=map=%S/Inputs/place-one-layer.json --moe-tensor-parallel=ranks=2 --moe-verify-moe-level 2> /dev/null | FileCheck %s --check-prefix=EXPERTS

// SAYS: remark: 1 attentions, 1 FFNs and 0 layers of experts on 2 ranks: 2 all-reduces per step, 64 bytes per token
// AUTO: remark: 1 of 1 attentions have heads that 6 ranks do not divide: every rank computes them whole
// AUTO: remark: 0 attentions, 1 FFNs and 0 layers of experts on 6 ranks: 1 all-reduces per step
// HEADS: error: 'moe.attention' op has Q = 4 query heads and G = 2 key/value heads, which R = 3 ranks do not divide: R must divide Q, and divide G or be a multiple of it; attention=whole (moec: --attention whole) leaves attentions as they are
// WIDTH: error: 'moe.ffn' op has the width I = 12, which R = 5 ranks do not divide
// OPTION: error: attention of moe-tensor-parallel is 'some', but must be split, whole or auto

// CHECK: module attributes {moe.ranks = 2 : i64}
// CHECK: moe.state @kv : !moe.kv_cache<heads = 1, key_dim = 4, value_dim = 4, element = f32>
// CHECK: %[[WQ:.*]] = moe.get_weight @q :
// CHECK: %[[WO:.*]] = moe.get_weight @o :
// CHECK-DAG: %[[Q:.*]] = moe.shard %[[WQ]] dim 0 ranks 2 : tensor<16x8xf32> -> tensor<8x8xf32>
// CHECK-DAG: moe.linear %{{.*}}, %[[Q]] bias %{{.*}} : tensor<?x8xf32>, tensor<8x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
// CHECK: moe.rms_norm {{.*}} groups 2 : tensor<?x8xf32>
// CHECK: moe.rope {{.*}} heads 2 <kind
// CHECK: moe.rope {{.*}} heads 1 <kind
// CHECK: %[[SINKS:.*]] = moe.shard %{{.*}} dim 0 ranks 2 : tensor<4xf32> -> tensor<2xf32>
// CHECK: %[[A:.*]] = moe.attention {{.*}} sinks %[[SINKS]] cache @kv heads 2 kv_heads 1 scale {{.*}} -> tensor<?x8xf32>
// CHECK-DAG: %[[O:.*]] = moe.shard %[[WO]] dim 1 ranks 2 : tensor<8x16xf32> -> tensor<8x8xf32>
// CHECK-DAG: %[[PAD:.*]] = moe.pad %{{.*}} dim 0 : tensor<8xf32> -> tensor<16xf32>
// CHECK-DAG: %[[ONCE:.*]] = moe.shard %[[PAD]] dim 0 ranks 2 : tensor<16xf32> -> tensor<8xf32>
// CHECK: %[[P:.*]] = moe.linear %[[A]], %[[O]] bias %[[ONCE]]
// CHECK-NEXT: %[[S:.*]] = moe.all_reduce %[[P]] ranks 2 : tensor<?x8xf32>
// CHECK-NEXT: moe.add %{{.*}}, %[[S]]
// CHECK-COUNT-2: moe.shard {{.*}} dim 0 ranks 2 : tensor<12x8xf32> -> tensor<6x8xf32>
// CHECK: moe.shard {{.*}} dim 1 ranks 2 : tensor<8x12xf32> -> tensor<8x6xf32>
// CHECK: %[[F:.*]] = moe.ffn {{.*}} gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32> -> tensor<?x8xf32>
// CHECK-NEXT: moe.all_reduce %[[F]] ranks 2

// A key/value head serves two ranks.
// SHARED: moe.state @kv : !moe.kv_cache<heads = 1
// SHARED: moe.shard {{.*}} dim 0 ranks 4 : tensor<16x8xf32> -> tensor<4x8xf32>
// SHARED: moe.shard {{.*}} dim 0 ranks 4 copies 2 : tensor<8x8xf32> -> tensor<4x8xf32>
// SHARED: moe.attention {{.*}} heads 1 kv_heads 1

// WHOLE: moe.state @kv : !moe.kv_cache<heads = 2
// WHOLE: moe.attention {{.*}} heads 4 kv_heads 2
// WHOLE-NOT: moe.all_reduce
// WHOLE: moe.ffn {{.*}} gate tensor<2x8xf32>
// WHOLE: moe.all_reduce

// The same tokens on every rank: nothing to gather, no padding, the sum goes to all.
// EXPERTS-NOT: moe.distributed
// EXPERTS-NOT: moe.mask_padding
// EXPERTS-NOT: moe.all_gather
// EXPERTS: %[[IDS:.*]], %{{.*}} = moe.route
// EXPERTS: moe.localize %[[IDS]] placement <ranks = 2
// EXPERTS: moe.experts {{.*}} up tensor<3x6x8xf32>
// EXPERTS: %[[SUM:.*]] = moe.combine
// EXPERTS-NEXT: moe.all_reduce %[[SUM]] ranks 2
moe.weight @embed : tensor<16x8xf32>
moe.weight @norm : tensor<8xf32>
moe.weight @q : tensor<16x8xf32>
moe.weight @q_bias : tensor<16xf32>
moe.weight @k : tensor<8x8xf32>
moe.weight @v : tensor<8x8xf32>
moe.weight @head_norm : tensor<4xf32>
moe.weight @sinks : tensor<4xf32>
moe.weight @o : tensor<8x16xf32>
moe.weight @o_bias : tensor<8xf32>
moe.weight @gate : tensor<12x8xf32>
moe.weight @up : tensor<12x8xf32>
moe.weight @down : tensor<8x12xf32>
moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 4, value_dim = 4, element = f32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %norm = moe.get_weight @norm : tensor<8xf32>
  %n = moe.rms_norm %h, %norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %wq = moe.get_weight @q : tensor<16x8xf32>
  %bq = moe.get_weight @q_bias : tensor<16xf32>
  %wk = moe.get_weight @k : tensor<8x8xf32>
  %wv = moe.get_weight @v : tensor<8x8xf32>
  %wo = moe.get_weight @o : tensor<8x16xf32>
  %bo = moe.get_weight @o_bias : tensor<8xf32>
  %scale = moe.get_weight @head_norm : tensor<4xf32>
  %sinks = moe.get_weight @sinks : tensor<4xf32>
  %q = moe.linear %n, %wq bias %bq : tensor<?x8xf32>, tensor<16x8xf32>, tensor<16xf32> -> tensor<?x16xf32>
  %k = moe.linear %n, %wk : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %v = moe.linear %n, %wv : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
  %qn = moe.rms_norm %q, %scale eps 1.0e-05 groups 4 : tensor<?x16xf32>, tensor<4xf32> -> tensor<?x16xf32>
  %qr = moe.rope %qn at %pos heads 4 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %kr = moe.rope %k at %pos heads 2 <kind = default, theta = 1.0e+04 : f64, dim = 4> : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %a = moe.attention %qr, %kr, %v at %seq, %pos, %runs sinks %sinks cache @kv heads 4 kv_heads 2 scale 0.5 : tensor<?x16xf32>, tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<4xf32> -> tensor<?x16xf32>
  %o = moe.linear %a, %wo bias %bo : tensor<?x16xf32>, tensor<8x16xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %x = moe.add %h, %o : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %n1 = moe.rms_norm %x, %norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %gate = moe.get_weight @gate : tensor<12x8xf32>
  %up = moe.get_weight @up : tensor<12x8xf32>
  %down = moe.get_weight @down : tensor<8x12xf32>
  %f = moe.ffn %n1 gate %gate up %up down %down activation silu : tensor<?x8xf32>, gate tensor<12x8xf32>, up tensor<12x8xf32>, down tensor<8x12xf32> -> tensor<?x8xf32>
  %y = moe.add %x, %f : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.gather_rows %y, %rows : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %logits = moe.linear %l, %embed : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
