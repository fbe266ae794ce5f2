// FFNs on one input become one: exactly, so without a plan and without a remark. Widths and norm scales may differ.
// RUN: moe-opt %s --moe-fuse-ffn --verify-diagnostics | FileCheck %s
// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-fuse-ffn{pad-width-to=32})' | FileCheck %s --check-prefix=PAD
// RUN: not moe-opt %s --pass-pipeline='builtin.module(moe-fuse-ffn{pad-width-to=0})' 2>&1 | FileCheck %s --check-prefix=LOW
// RUN: not moe-opt %s --pass-pipeline='builtin.module(moe-fuse-ffn{pad-width-to=9223372036854775807})' 2>&1 | FileCheck %s --check-prefix=HIGH
// LOW: error: pad-width-to of moe-fuse-ffn is 0, but must be from 1 to 1048576
// HIGH: error: pad-width-to of moe-fuse-ffn is 9223372036854775807, but must be from 1 to 1048576
// RUN: moe-opt %s --moe-fuse-ffn -o %t.once && moe-opt %t.once --moe-fuse-ffn | diff %t.once -

// CHECK-LABEL: func.func @step
// CHECK-DAG:   %[[H:.*]] = moe.embedding
// CHECK-DAG:   %[[S0:.*]] = moe.get_weight @l0.norm
// CHECK-DAG:   %[[S1:.*]] = moe.get_weight @l1.norm
// CHECK-DAG:   %[[G0:.*]] = moe.get_weight @l0.gate
// CHECK-DAG:   %[[G1:.*]] = moe.get_weight @l1.gate
// CHECK-DAG:   %[[D0:.*]] = moe.get_weight @l0.down
// CHECK-DAG:   %[[D1:.*]] = moe.get_weight @l1.down
// CHECK-DAG:   %[[B0:.*]] = moe.get_weight @l0.bias
// CHECK-DAG:   %[[B1:.*]] = moe.get_weight @l1.bias
// CHECK:       %[[KEPT:.*]] = moe.floor_magnitude %[[S1]] at 9.765625E-4
// CHECK-NEXT:  %[[N:.*]] = moe.rms_norm %[[H]], %[[KEPT]] eps 1.000000e-05
// CHECK-NEXT:  %[[F0:.*]] = moe.scale %[[G0]] by %[[S0]] over %[[KEPT]] dim 1
// CHECK-NEXT:  %[[F1:.*]] = moe.scale %[[G1]] by %[[S1]] over %[[KEPT]] dim 1
// CHECK-NEXT:  %[[GATE:.*]] = moe.concat %[[F0]], %[[F1]] dim 0 : tensor<6x8xf32>, tensor<10x8xf32> -> tensor<16x8xf32>
// CHECK:       %[[UP:.*]] = moe.concat {{.*}} dim 0 : tensor<6x8xf32>, tensor<10x8xf32> -> tensor<16x8xf32>
// CHECK-NEXT:  %[[DOWN:.*]] = moe.concat %[[D0]], %[[D1]] dim 1 : tensor<8x6xf32>, tensor<8x10xf32> -> tensor<8x16xf32>
// CHECK-NEXT:  %[[BIAS:.*]] = moe.sum %[[B0]], %[[B1]]
// CHECK-NEXT:  %[[Y:.*]] = moe.ffn %[[N]] gate %[[GATE]] up %[[UP]] down %[[DOWN]] down_bias %[[BIAS]] activation silu
// CHECK-NEXT:  %[[R:.*]] = moe.add %[[H]], %[[Y]]
// CHECK-NEXT:  return %[[R]]

// PAD: moe.pad {{.*}} dim 0 : tensor<16x8xf32> -> tensor<32x8xf32>
// PAD: moe.pad {{.*}} dim 0 : tensor<16x8xf32> -> tensor<32x8xf32>
// PAD: moe.pad {{.*}} dim 1 : tensor<8x16xf32> -> tensor<8x32xf32>
// PAD: moe.ffn {{.*}} gate tensor<32x8xf32>, up tensor<32x8xf32>, down tensor<8x32xf32>
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l0.gate : tensor<6x8xf32>
moe.weight @l0.up : tensor<6x8xf32>
moe.weight @l0.down : tensor<8x6xf32>
moe.weight @l0.bias : tensor<8xf32>
moe.weight @l1.gate : tensor<10x8xf32>
moe.weight @l1.up : tensor<10x8xf32>
moe.weight @l1.down : tensor<8x10xf32>
moe.weight @l1.bias : tensor<8xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<8x6xf32>
  %l0_bias = moe.get_weight @l0.bias : tensor<8xf32>
  %f0 = moe.ffn %m0 gate %l0_gate up %l0_up down %l0_down down_bias %l0_bias activation silu : tensor<?x8xf32>, gate tensor<6x8xf32>, up tensor<6x8xf32>, down tensor<8x6xf32>, down_bias tensor<8xf32> -> tensor<?x8xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<10x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<10x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<8x10xf32>
  %l1_bias = moe.get_weight @l1.bias : tensor<8xf32>
  %f1 = moe.ffn %m1 gate %l1_gate up %l1_up down %l1_down down_bias %l1_bias activation silu : tensor<?x8xf32>, gate tensor<10x8xf32>, up tensor<10x8xf32>, down tensor<8x10xf32>, down_bias tensor<8xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %f0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %h2 = moe.add %h1, %f1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}
