// Every public function beside @step becomes an entry: its further arguments and its results are the caller's memory,
// logits are shared, weights and kernels too.
// RUN: moe-opt %s --moe-lower-to-sched="targets=x86-64-v3 max-tokens=64 few-tokens=4" --moe-verify-sched | FileCheck %s

// CHECK-COUNT-1: sched.kernel @linear_few_f32_f32_f32
// CHECK: sched.buffer @norm0.in0 input size 128*T
// CHECK-NEXT: sched.buffer @norm0.out0 output size 128*T
// CHECK-NEXT: sched.buffer @head.in0 input size 128*T
// CHECK-NOT: sched.buffer
// CHECK: sched.step tokens 1 to 4
// CHECK: sched.step tokens 5 to 64
// CHECK: sched.entry @norm0 inputs [@norm0.in0] outputs [@norm0.out0] {
// CHECK-NEXT: sched.step tokens 1 to 4 {
// CHECK-NEXT: sched.launch @rms_norm{{.*}} grid(T) (read @norm0.in0[0, 128*T], weight @norm[0], write @norm0.out0[0, 128*T]
// CHECK: sched.step tokens 5 to 64 {
// CHECK: sched.entry @head inputs [@head.in0] outputs [@logits] {
// CHECK: write @logits[0, 256*M]
module attributes {moe.model = {dtype = "f32", family = "llama"}} {
  moe.weight @embed : tensor<64x32xf32>
  moe.weight @norm : tensor<32xf32>
  moe.weight @up : tensor<48x32xf32>
  moe.weight @down : tensor<32x48xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
    %embed = moe.get_weight @embed : tensor<64x32xf32>
    %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
    %r = moe.gather_rows %h, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
    %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
    return %logits : tensor<?x64xf32>
  }
  func.func @norm0(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>, %x: tensor<?x32xf32>) -> tensor<?x32xf32> {
    %norm = moe.get_weight @norm : tensor<32xf32>
    %n = moe.rms_norm %x, %norm eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
    return %n : tensor<?x32xf32>
  }
  func.func @head(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>, %x: tensor<?x32xf32>) -> tensor<?x64xf32> {
    %embed = moe.get_weight @embed : tensor<64x32xf32>
    %r = moe.gather_rows %x, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
    %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
    return %logits : tensor<?x64xf32>
  }
}
