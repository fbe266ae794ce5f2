// Two MoE layers as one: routers and experts side by side, each router choosing of its own experts; shared FFNs joined.
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-r.json})' -o %t.once 2> %t.remarks && FileCheck %s < %t.once && FileCheck %s --check-prefix=SAYS < %t.remarks
// RUN: moe-opt %t.once --verify-diagnostics --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-r.json})' | diff %t.once -
// What is computed and what is not: of the first layer's gates and ups each expert's, once; the second layer's, all downs
// and all shared downs stay where they are.
// RUN: moe-opt %t.once --moe-lower-to-sched="targets=x86-64-v3" | FileCheck %s --check-prefix=SCHED

// SAYS: remark: layers 0 to 1 fused in form R, 1 sub-layers fewer: the result approximates the model

// CHECK-LABEL: func.func @step
// CHECK-DAG:   %[[H:.*]] = moe.embedding
// CHECK-DAG:   %[[S0:.*]] = moe.get_weight @l0.norm
// CHECK-DAG:   %[[S1:.*]] = moe.get_weight @l1.norm
// CHECK-DAG:   %[[G0:.*]] = moe.get_weight @l0.gate
// CHECK-DAG:   %[[G1:.*]] = moe.get_weight @l1.gate
// CHECK-DAG:   %[[D0:.*]] = moe.get_weight @l0.down
// CHECK-DAG:   %[[D1:.*]] = moe.get_weight @l1.down
// CHECK-DAG:   %[[C0:.*]] = moe.get_weight @l0.correction
// CHECK-DAG:   %[[C1:.*]] = moe.get_weight @l1.correction
// CHECK:       %[[KEPT:.*]] = moe.floor_magnitude %[[S1]] at 9.765625E-4
// CHECK-NEXT:  %[[N:.*]] = moe.rms_norm %[[H]], %[[KEPT]]
// CHECK-NEXT:  %[[R0:.*]] = moe.scale {{.*}} by %[[S0]] over %[[KEPT]] dim 1 : tensor<4x8xf32>
// CHECK-NEXT:  %[[R1:.*]] = moe.scale {{.*}} by %[[S1]] over %[[KEPT]] dim 1 : tensor<4x8xf32>
// CHECK-NEXT:  %[[R:.*]] = moe.concat %[[R0]], %[[R1]] dim 0
// CHECK-NEXT:  %[[LOGITS:.*]] = moe.linear %[[N]], %[[R]] : tensor<?x8xf32>, tensor<8x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT:  %[[C:.*]] = moe.concat %[[C0]], %[[C1]] dim 0
// CHECK-NEXT:  %[[IDS:.*]], %[[W:.*]] = moe.route %[[LOGITS]] bias %[[C]] top 4 score sigmoid renormalize sum scale 2.500000e+00 routers 2
// CHECK-NEXT:  %[[F0:.*]] = moe.scale %[[G0]] by %[[S0]] over %[[KEPT]] dim 2 : tensor<4x6x8xf32>
// CHECK-NEXT:  %[[F1:.*]] = moe.scale %[[G1]] by %[[S1]] over %[[KEPT]] dim 2 : tensor<4x6x8xf32>
// CHECK-NEXT:  %[[GATE:.*]] = moe.concat %[[F0]], %[[F1]] dim 0 : {{.*}} -> tensor<8x6x8xf32>
// CHECK:       %[[UP:.*]] = moe.concat {{.*}} -> tensor<8x6x8xf32>
// CHECK-NEXT:  %[[DOWN:.*]] = moe.concat %[[D0]], %[[D1]] dim 0 : {{.*}} -> tensor<8x8x6xf32>
// CHECK-NEXT:  %[[Y:.*]] = moe.experts %[[N]], %[[IDS]] gate %[[GATE]] up %[[UP]] down %[[DOWN]] activation silu
// CHECK-NEXT:  %[[SUM:.*]] = moe.combine %[[Y]], %[[W]] : tensor<?x4x8xf32>
// CHECK:       %[[SHARED:.*]] = moe.ffn %[[N]] up {{.*}} up tensor<8x8xf32>, down tensor<8x8xf32>
// CHECK-NEXT:  %[[BRANCH:.*]] = moe.add %[[SUM]], %[[SHARED]]
// CHECK-NEXT:  %[[OUT:.*]] = moe.add %[[H]], %[[BRANCH]] {moe.layers = array<i64: 0, 1>}
// CHECK-NEXT:  moe.gather_rows %[[OUT]]

// SCHED-DAG: sched.table @table.l0.gate.joined [@[[FIRST:scale.[0-9]+]], @scale.
// SCHED-DAG: sched.table @table.l0.down.joined [@l0.0.down, @l0.1.down, @l0.2.down, @l0.3.down, @l1.0.down, @l1.1.down, @l1.2.down, @l1.3.down]
// SCHED: sched.initializer @[[FIRST]] {
// SCHED-NEXT: sched.launch @scale_columns_f32_f32_over_f32_f32 grid(6) (weight @l0.0.gate[0], weight @l0.norm[0], weight @floor_magnitude.0[0], write weight @[[FIRST]][0, 192], constant 8, constant 8, constant 8) label "scale"
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.correction : tensor<4xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l0.shared_up : tensor<3x8xf32>
moe.weight @l0.shared_down : tensor<8x3xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.correction : tensor<4xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.shared_up : tensor<5x8xf32>
moe.weight @l1.shared_down : tensor<8x5xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l0_correction = moe.get_weight @l0.correction : tensor<4xf32>
  %id0, %w0 = moe.route %r0 bias %l0_correction top 2 score sigmoid renormalize sum scale 2.5 : tensor<?x4xf32>, tensor<4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %l0_shared_up = moe.get_weight @l0.shared_up : tensor<3x8xf32>
  %l0_shared_down = moe.get_weight @l0.shared_down : tensor<8x3xf32>
  %s0 = moe.ffn %m0 up %l0_shared_up down %l0_shared_down activation silu : tensor<?x8xf32>, up tensor<3x8xf32>, down tensor<8x3xf32> -> tensor<?x8xf32>
  %b0 = moe.add %c0, %s0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %b0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l1_correction = moe.get_weight @l1.correction : tensor<4xf32>
  %id1, %w1 = moe.route %r1 bias %l1_correction top 2 score sigmoid renormalize sum scale 2.5 : tensor<?x4xf32>, tensor<4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %l1_shared_up = moe.get_weight @l1.shared_up : tensor<5x8xf32>
  %l1_shared_down = moe.get_weight @l1.shared_down : tensor<8x5xf32>
  %s1 = moe.ffn %m1 up %l1_shared_up down %l1_shared_down activation silu : tensor<?x8xf32>, up tensor<5x8xf32>, down tensor<8x5xf32> -> tensor<?x8xf32>
  %b1 = moe.add %c1, %s1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %h2 = moe.add %h1, %b1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %last = moe.gather_rows %h2, %rows : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  return %last : tensor<?x8xf32>
}
