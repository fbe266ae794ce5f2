// Tokens of all ranks to the slots of each, and partial sums back; 1 rank changes nothing; what cannot be divided is refused.
// RUN: moe-opt %s --moe-place-experts=map=%S/Inputs/place-one-layer.json --moe-expert-parallel=ranks=2 --moe-verify-moe-level -o %t 2> %t.remarks && FileCheck %s < %t && FileCheck %s --check-prefix=SAYS < %t.remarks
// RUN: moe-opt %s --moe-expert-parallel=ranks=4 2> /dev/null | FileCheck %s --check-prefix=LINEAR
// RUN: moe-opt %s --moe-expert-parallel=ranks=1 -o %t.one && moe-opt %s | diff - %t.one
// RUN: moe-opt %s --moe-expert-parallel="ranks=2 exchange=exact" --moe-verify-moe-level 2> /dev/null | FileCheck %s --check-prefix=EXACT
// RUN: moe-opt %s --moe-expert-parallel="ranks=4 exchange=auto latency=1 host-read=2" --moe-verify-moe-level -o %t.auto 2> %t.remarks && FileCheck %s --check-prefix=AUTO < %t.auto && FileCheck %s --check-prefix=FROM < %t.remarks
// RUN: moe-opt %s --moe-expert-parallel="ranks=4 exchange=auto latency=1 host-read=1000" 2> /dev/null | FileCheck %s --check-prefix=SLOW
// RUN: moe-opt %s --moe-expert-parallel="ranks=2 exchange=auto latency=0.1 link=1000" -o %t.reversed 2>&1 | FileCheck %s --check-prefix=REVERSED && grep -c 'func private @step.gather(' %t.reversed
// RUN: not moe-opt %s --moe-expert-parallel="ranks=2 exchange=near" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not moe-opt %s --moe-expert-parallel=ranks=3 2>&1 | FileCheck %s --check-prefix=DIVIDE
// RUN: not moe-opt %s --moe-place-experts=ranks=2 --moe-expert-parallel=ranks=4 2>&1 | FileCheck %s --check-prefix=PLACED
// RUN: not moe-opt %t --moe-expert-parallel=ranks=2 2>&1 | FileCheck %s --check-prefix=AGAIN
// RUN: not moe-opt %s --moe-expert-parallel=ranks=-2 2>&1 | FileCheck %s --check-prefix=NEGATIVE
// RUN: not moe-opt %S/tensor-parallel.mlir --moe-expert-parallel=ranks=2 2>&1 | FileCheck %s --check-prefix=DENSE
// RUN: not moe-opt %t --moe-lower-to-linalg 2>&1 | FileCheck %s --check-prefix=LINALG

// SAYS: remark: 1 layers of experts on 2 ranks, exchange 'gather'; gather: 80 bytes and 4 rows of results per token, 80.0 us + 0.076 us per token; exact:
// UNKNOWN: error: moe-expert-parallel: exchange is 'near', latency 20.00, host-read 0.00, link 4.00, memory 8.00, but must be gather, exact or auto, and times and rates that are positive
// DIVIDE: error: 'moe.experts' op has E = 4 experts, which 3 ranks do not divide: give a map with a multiple of 3 slots (moec place --slots, moe-place-experts)
// PLACED: error: 'moe.experts' op has a placement on 2 ranks, but the module is to be for 4: give the map of 4 ranks
// AGAIN: error: is divided among 2 ranks already; moe-expert-parallel takes a module of one rank
// NEGATIVE: error: ranks of moe-expert-parallel is -2, but must be from 1 to 65535
// DENSE: error: has no moe.experts, so that there is nothing to divide among 2 ranks; moe-tensor-parallel divides dense layers
// LINALG: error: 'moe.mask_padding' op cannot be lowered to linalg: it is of a module for several ranks, of which linalg knows nothing; lower the module before it is divided among ranks
// LINEAR: moe.place {{.*}} placement <ranks = 4, slots = [0, 1, 2, 3]> : tensor<4x6x8xf32> -> tensor<1x6x8xf32>

// Each token to the ranks of its experts, a result per choice back, summed in k order by its own rank.
// EXACT-NOT: step_from
// EXACT: %[[H:.*]] = moe.embedding
// EXACT: %[[N:.*]] = moe.rms_norm
// EXACT: %[[IDS:.*]], %[[WEIGHTS:.*]] = moe.route
// EXACT: %[[OWN:.*]] = moe.mask_padding %[[IDS]]
// EXACT-NEXT: %[[ALL:.*]] = moe.all_gather %[[OWN]] ranks 2
// EXACT-NEXT: %[[ROWS:.*]], %[[SLOTS:.*]] = moe.dispatch %[[N]], %[[ALL]] placement <ranks = 2, slots = [0, 1, 2, 3]>
// EXACT: %[[Y:.*]] = moe.experts %[[ROWS]], %[[SLOTS]]
// EXACT-NEXT: %[[BACK:.*]] = moe.collect %[[Y]] of %[[SLOTS]]
// EXACT-NEXT: moe.combine %[[BACK]], %[[WEIGHTS]]

// Small steps one way, large ones the other; or one way only.
// FROM: remark: 1 layers of experts on 4 ranks, exchange 'gather', from 14 tokens of a rank on 'exact'; gather: 240 bytes and 8 rows of results per token, 4.0 us + 0.172 us per token; exact: 120 bytes and 2 rows of results per token, 5.0 us + 0.100 us per token
// AUTO: func.func @step(
// AUTO: moe.reduce_scatter
// AUTO: func.func private @step.exact({{.*}} attributes {moe.step_from = 14 : i64}
// AUTO: moe.collect
// SLOW-NOT: moe.dispatch
// REVERSED: exchange 'exact', from 17 tokens of a rank on 'gather';

// CHECK: module attributes {moe.distributed, moe.ranks = 2 : i64}
// CHECK: func.func @step(%{{[a-z0-9]+}}: tensor<?xi32>, %[[SEQ:[a-z0-9]*]]: tensor<?xi32>,
// CHECK: %[[H:.*]] = moe.embedding
// CHECK: %[[N:.*]] = moe.rms_norm
// CHECK: %[[IDS:.*]], %[[WEIGHTS:.*]] = moe.route
// CHECK: %[[UP:.*]] = moe.get_weight @up
// CHECK: %[[DOWN:.*]] = moe.get_weight @down
// CHECK-NEXT: %[[OWN:.*]] = moe.mask_padding %[[IDS]] at %[[SEQ]]
// CHECK-DAG: %[[X:.*]] = moe.all_gather %[[N]] ranks 2 : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-DAG: %[[ALL:.*]] = moe.all_gather %[[OWN]] ranks 2 : tensor<?x2xi32> -> tensor<?x2xi32>
// CHECK-DAG: %[[W:.*]] = moe.all_gather %[[WEIGHTS]] ranks 2 : tensor<?x2xf32> -> tensor<?x2xf32>
// CHECK: %[[SLOTS:.*]] = moe.localize %[[ALL]] placement <ranks = 2, slots = [0, 1, 2, 3, 0, 1], shares = [3, 1, 1, 1, 1, 0]>
// CHECK-DAG: %[[MYUP:.*]] = moe.place %[[UP]] {{.*}} : tensor<4x6x8xf32> -> tensor<3x6x8xf32>
// CHECK-DAG: %[[MYDOWN:.*]] = moe.place %[[DOWN]] {{.*}} : tensor<4x8x6xf32> -> tensor<3x8x6xf32>
// CHECK: %[[Y:.*]] = moe.experts %[[X]], %[[SLOTS]] up %[[MYUP]] down %[[MYDOWN]] activation relu : {{.*}} -> tensor<?x2x8xf32>
// CHECK-NEXT: %[[P:.*]] = moe.combine %[[Y]], %[[W]]
// CHECK-NEXT: %[[O:.*]] = moe.reduce_scatter %[[P]] ranks 2 : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT: moe.add %[[H]], %[[O]]
moe.weight @embed : tensor<16x8xf32>
moe.weight @norm : tensor<8xf32>
moe.weight @router : tensor<4x8xf32>
moe.weight @up source "experts.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @down source "experts.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %norm = moe.get_weight @norm : tensor<8xf32>
  %n = moe.rms_norm %h, %norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %router = moe.get_weight @router : tensor<4x8xf32>
  %scores = moe.linear %n, %router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %ids, %weights = moe.route %scores top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %up = moe.get_weight @up : tensor<4x6x8xf32>
  %down = moe.get_weight @down : tensor<4x8x6xf32>
  %y = moe.experts %n, %ids up %up down %down activation relu : tensor<?x8xf32>, tensor<?x2xi32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %o = moe.combine %y, %weights : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %x = moe.add %h, %o {moe.layers = array<i64: 0, 0>} : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.gather_rows %x, %rows : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %logits = moe.linear %l, %embed : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
