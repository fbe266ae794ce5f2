// Every piece between two values of the residual stream becomes an entry; @step stays as it is.
// RUN: moe-opt %s --moe-outline-sublayers --moe-verify-moe-level | FileCheck %s
// What was outlined lowers to entries.
// RUN: moe-opt %s --moe-outline-sublayers --moe-lower-to-sched=targets=x86-64-v3 --moe-verify-sched | FileCheck %s --check-prefix=SCHED

module {
  moe.weight @table : tensor<64x32xf32>
  moe.weight @scale : tensor<32xf32>
  moe.weight @q : tensor<32x32xf32>
  moe.weight @k : tensor<16x32xf32>
  moe.weight @o : tensor<32x32xf32>
  moe.weight @up : tensor<48x32xf32>
  moe.weight @down : tensor<32x48xf32>
  moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 8, value_dim = 8, element = f32>

  // CHECK: func.func @step(
  // CHECK-COUNT-2: moe.add
  // CHECK: return
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
    %embed = moe.get_weight @table : tensor<64x32xf32>
    %scale = moe.get_weight @scale : tensor<32xf32>
    %wq = moe.get_weight @q : tensor<32x32xf32>
    %wk = moe.get_weight @k : tensor<16x32xf32>
    %wo = moe.get_weight @o : tensor<32x32xf32>
    %up = moe.get_weight @up : tensor<48x32xf32>
    %down = moe.get_weight @down : tensor<32x48xf32>
    %h0 = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
    %n0 = moe.rms_norm %h0, %scale eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
    %q = moe.linear %n0, %wq : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
    %k = moe.linear %n0, %wk : tensor<?x32xf32>, tensor<16x32xf32> -> tensor<?x16xf32>
    %v = moe.linear %n0, %wk : tensor<?x32xf32>, tensor<16x32xf32> -> tensor<?x16xf32>
    %a = moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.35
        : tensor<?x32xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x32xf32>
    %o = moe.linear %a, %wo : tensor<?x32xf32>, tensor<32x32xf32> -> tensor<?x32xf32>
    %h1 = moe.add %h0, %o : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
    %n1 = moe.rms_norm %h1, %scale eps 1.0e-5 : tensor<?x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
    %f = moe.ffn %n1 up %up down %down activation relu : tensor<?x32xf32>, up tensor<48x32xf32>, down tensor<32x48xf32> -> tensor<?x32xf32>
    %h2 = moe.add %h1, %f : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
    %r = moe.gather_rows %h2, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
    %logits = moe.linear %r, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
    return %logits : tensor<?x64xf32>
  }
}

// CHECK: func.func @embed(%[[TOKENS:[a-z0-9]+]]: tensor<?xi32>, {{[^)]*}}) -> tensor<?x32xf32> {
// CHECK: %[[X:.*]] = moe.embedding %[[TOKENS]]
// CHECK-NEXT: return %[[X]]

// CHECK: func.func @attention.0.norm({{.*}}, %[[X:[a-z0-9]+]]: tensor<?x32xf32>) -> tensor<?x32xf32> {
// CHECK: %[[N:.*]] = moe.rms_norm %[[X]]
// CHECK-NEXT: return %[[N]]

// The branch reads the normed input; what is added to the stream is its result.
// CHECK: func.func @attention.0({{.*}}, %[[N:[a-z0-9]+]]: tensor<?x32xf32>) -> tensor<?x32xf32> {
// CHECK-NOT: rms_norm
// CHECK: moe.linear %[[N]]
// CHECK: moe.attention {{.*}} cache @kv
// CHECK: %[[O:.*]] = moe.linear
// CHECK-NEXT: return %[[O]]

// CHECK: func.func @ffn.0.norm(
// CHECK: moe.rms_norm
// CHECK-NEXT: return
// CHECK: func.func @ffn.0({{.*}}, %[[N:[a-z0-9]+]]: tensor<?x32xf32>) -> tensor<?x32xf32> {
// CHECK: %[[F:.*]] = moe.ffn %[[N]]
// CHECK-NEXT: return %[[F]]

// CHECK: func.func @head({{.*}} %[[ROWS:[a-z0-9]+]]: tensor<?xi32>, %[[X:[a-z0-9]+]]: tensor<?x32xf32>) -> tensor<?x64xf32> {
// CHECK: moe.gather_rows %[[X]], %[[ROWS]]
// CHECK: return

// SCHED: sched.entry @embed inputs [] outputs [@embed.out0]
// SCHED: sched.entry @attention.0.norm inputs [@attention.0.norm.in0] outputs [@attention.0.norm.out0]
// SCHED: sched.entry @attention.0 inputs [@attention.0.in0] outputs [@attention.0.out0]
// SCHED: sched.entry @ffn.0.norm
// SCHED: sched.entry @ffn.0
// SCHED: sched.entry @head inputs [@head.in0] outputs [@logits]
