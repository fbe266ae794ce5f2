// Two norms of one value become one, with the scale of the second; each weight gets its own scale over that. A norm of
// another eps, and one that something without a weight reads, stay.
// RUN: moe-opt %s --moe-fold-norm-scales --verify-diagnostics | FileCheck %s
// RUN: moe-opt %s --moe-fold-norm-scales -o %t 2> %t.remarks && moe-opt %t --moe-fold-norm-scales 2> %t.remarks | diff %t -

// CHECK:       %[[H:.*]] = moe.embedding
// CHECK-DAG:   %[[S0:.*]] = moe.get_weight @first
// CHECK-DAG:   %[[S1:.*]] = moe.get_weight @second
// CHECK:       %[[KEPT:.*]] = moe.floor_magnitude %[[S1]] at 9.765625E-4
// CHECK-NEXT:  %[[N:.*]] = moe.rms_norm %[[H]], %[[KEPT]] eps 1.000000e-05
// CHECK-NOT:   rms_norm
// CHECK:       %[[W0:.*]] = moe.scale %{{.*}} by %[[S0]] over %[[KEPT]] dim 1
// CHECK-NEXT:  moe.linear %[[N]], %[[W0]]
// CHECK:       %[[W1:.*]] = moe.scale %{{.*}} by %[[S1]] over %[[KEPT]] dim 1
// CHECK-NEXT:  moe.linear %[[N]], %[[W1]]
// CHECK:       moe.rms_norm %[[H]], %{{.*}} eps 9.99
// CHECK:       moe.rms_norm %[[H]], %{{.*}} eps 1.000000e-05
moe.weight @embed : tensor<16x8xf32>
moe.weight @first : tensor<8xf32>
moe.weight @second : tensor<8xf32>
moe.weight @w0 : tensor<6x8xf32>
moe.weight @w1 : tensor<6x8xf32>
moe.weight @third : tensor<8xf32>
moe.weight @w2 : tensor<6x8xf32>
moe.weight @fourth : tensor<8xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> (tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x8xf32>) {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %first = moe.get_weight @first : tensor<8xf32>
  %a = moe.rms_norm %h, %first eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %second = moe.get_weight @second : tensor<8xf32>
  %b = moe.rms_norm %h, %second eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %w0 = moe.get_weight @w0 : tensor<6x8xf32>
  %y0 = moe.linear %a, %w0 : tensor<?x8xf32>, tensor<6x8xf32> -> tensor<?x6xf32>
  %w1 = moe.get_weight @w1 : tensor<6x8xf32>
  %y1 = moe.linear %b, %w1 : tensor<?x8xf32>, tensor<6x8xf32> -> tensor<?x6xf32>
  %third = moe.get_weight @third : tensor<8xf32>
  // expected-remark @below {{scale not folded: the norm differs from another one of the same value in more than the scale}}
  %c = moe.rms_norm %h, %third eps 1.0e-06 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %w2 = moe.get_weight @w2 : tensor<6x8xf32>
  %y2 = moe.linear %c, %w2 : tensor<?x8xf32>, tensor<6x8xf32> -> tensor<?x6xf32>
  %fourth = moe.get_weight @fourth : tensor<8xf32>
  // expected-remark @below {{scale not folded: the norm is read by 'func.return', which has no weight that its scale could go into}}
  %d = moe.rms_norm %h, %fourth eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  return %y0, %y1, %y2, %d : tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x8xf32>
}
