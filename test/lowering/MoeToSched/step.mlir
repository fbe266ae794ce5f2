// The schedule of one layer with attention and experts, in both tables: what is fused, how grids and operands look.
// RUN: moe-opt %s --moe-lower-to-sched="targets=avx512bf16 max-tokens=64 few-tokens=4" | FileCheck %s
// RUN: moe-opt %s --moe-lower-to-sched="targets=avx512bf16 max-tokens=64 few-tokens=4" | moe-opt | FileCheck %s
// RUN: moe-opt %s --moe-lower-to-sched="targets=avx512bf16 max-tokens=64 record-routing" | FileCheck %s --check-prefix=RECORD
// RECORD: sched.buffer @expert_first.0 state size 32
// RECORD: sched.buffer @expert_probabilities.0 state size 32
// RECORD: sched.buffer @expert_pairs.0 state size 128
// RECORD: sched.launch @route_softmax_sum
// RECORD: sched.launch @routing_statistics grid(1)
// RECORD-SAME: readwrite @expert_first.0[0, 32], readwrite @expert_probabilities.0[0, 32], readwrite @expert_pairs.0[0, 128]

module attributes {moe.model = {dtype = "bf16", family = "mixtral", max_context = 1024 : i64}} {
  moe.weight @embed : tensor<64x32xbf16>
  moe.weight @norm : tensor<32xbf16>
  moe.weight @q : tensor<32x32xbf16>
  moe.weight @k : tensor<16x32xbf16>
  moe.weight @v : tensor<16x32xbf16>
  moe.weight @o : tensor<32x32xbf16>
  moe.weight @router : tensor<4x32xbf16>
  moe.weight @up source "experts.{}.up" stacked : tensor<4x48x32xbf16>
  moe.weight @down : tensor<4x32x48xbf16>
  moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 8, value_dim = 8, element = bf16>

  // CHECK: sched.program vocab 64 max_tokens 64 max_context 1024 dtype bf16 model "{\22dtype\22:\22bf16\22,\22family\22:\22mixtral\22,\22max_context\22:1024}"
  // Stacked weights become one tensor per expert; a weight that holds all experts is one tensor with four entries.
  // CHECK: sched.tensor @experts.3.up : tensor<48x32xbf16>
  // CHECK: sched.table @table.up [@experts.0.up, @experts.1.up, @experts.2.up, @experts.3.up]
  // CHECK: sched.table @table.down [@down, @down[3072], @down[6144], @down[9216]]
  // CHECK: sched.variant "avx512bf16"
  // CHECK: sched.buffer @kv.keys state size 32*B*C
  // CHECK: sched.buffer @expert_counts.0 state size 32
  // CHECK: sched.constant @constant.0

  // CHECK: sched.step tokens 1 to 4
  // CHECK: sched.launch @embedding_bf16_f32 grid(T) (read @tokens[0, 4*T], weight @embed[0], write @arena[[H:\[[0-9]+, 128\*T\]]]
  // Three projections of one x are one launch.
  // CHECK: sched.launch @linear_few_bf16_bf16_bf16_x3 grid(3)
  // CHECK-SAME: weight @q[0], constant 32
  // CHECK-SAME: weight @k[0], constant 16
  // CHECK-SAME: weight @v[0], constant 16
  // The angles of rope are computed once for both.
  // CHECK: sched.launch @rope_angles grid(T)
  // CHECK: sched.launch @rope_bf16
  // CHECK-NOT: rope_angles
  // CHECK: sched.launch @rope_bf16
  // CHECK: sched.launch @cache_write_bf16_bf16 grid(T) ({{.*}}readwrite @kv.keys[0, 32*B*C], readwrite @kv.values[0, 32*B*C]
  // CHECK: sched.launch @attention_few_bf16_bf16_d8 grid(T times 2)
  // The residual add is an operand of the projection.
  // CHECK: sched.launch @linear_few_bf16_bf16_f32_residual grid(1) ({{.*}}read @arena[[H]])
  // CHECK: sched.launch @route_softmax_sum
  // CHECK-NOT: sched.launch @routing_statistics
  // CHECK: sched.launch @sort_by_expert grid(1)
  // CHECK-SAME: readwrite @expert_counts.0[0, 32]
  // CHECK: sched.launch @experts_up_few_bf16_bf16_bf16_silu grid(2*T cap 4 times 2)
  // CHECK: sched.launch @experts_down_few_bf16_bf16_f32_ktail grid(2*T cap 4)
  // CHECK: sched.launch @combine_f32_f32_residual
  // CHECK-NOT: sched.launch @add
  // CHECK: sched.launch @linear_few_bf16_bf16_f32 grid(2) ({{.*}}size M, weight @embed[0], constant 64, write @logits[0, 256*M])

  // CHECK: sched.step tokens 5 to 64
  // CHECK: sched.launch @linear_many_bf16_bf16_bf16_x3 grid(T ceildiv 256 times 3)
  // CHECK: sched.launch @attention_many_bf16_bf16_d8 grid(T ceildiv 8 times 2)
  // CHECK: sched.launch @experts_up_many_bf16_bf16_bf16_silu
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
    %embed = moe.get_weight @embed : tensor<64x32xbf16>
    %norm = moe.get_weight @norm : tensor<32xbf16>
    %h0 = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xbf16> -> tensor<?x32xf32>
    %n0 = moe.rms_norm %h0, %norm eps 1.0e-5 : tensor<?x32xf32>, tensor<32xbf16> -> tensor<?x32xbf16>
    %wq = moe.get_weight @q : tensor<32x32xbf16>
    %wk = moe.get_weight @k : tensor<16x32xbf16>
    %wv = moe.get_weight @v : tensor<16x32xbf16>
    %q = moe.linear %n0, %wq : tensor<?x32xbf16>, tensor<32x32xbf16> -> tensor<?x32xbf16>
    %k = moe.linear %n0, %wk : tensor<?x32xbf16>, tensor<16x32xbf16> -> tensor<?x16xbf16>
    %v = moe.linear %n0, %wv : tensor<?x32xbf16>, tensor<16x32xbf16> -> tensor<?x16xbf16>
    %rq = moe.rope %q at %pos heads 4 <kind = default, theta = 1.0e+04, dim = 8> : tensor<?x32xbf16>, tensor<?xi32> -> tensor<?x32xbf16>
    %rk = moe.rope %k at %pos heads 2 <kind = default, theta = 1.0e+04, dim = 8> : tensor<?x16xbf16>, tensor<?xi32> -> tensor<?x16xbf16>
    %a = moe.attention %rq, %rk, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.35355339059327373
        : tensor<?x32xbf16>, tensor<?x16xbf16>, tensor<?x16xbf16>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x32xbf16>
    %wo = moe.get_weight @o : tensor<32x32xbf16>
    %o = moe.linear %a, %wo : tensor<?x32xbf16>, tensor<32x32xbf16> -> tensor<?x32xf32>
    %h1 = moe.add %h0, %o : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
    %n1 = moe.rms_norm %h1, %norm eps 1.0e-5 : tensor<?x32xf32>, tensor<32xbf16> -> tensor<?x32xbf16>
    %wr = moe.get_weight @router : tensor<4x32xbf16>
    %r = moe.linear %n1, %wr : tensor<?x32xbf16>, tensor<4x32xbf16> -> tensor<?x4xf32>
    %ids, %w = moe.route %r top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    %up = moe.get_weight @up : tensor<4x48x32xbf16>
    %down = moe.get_weight @down : tensor<4x32x48xbf16>
    %y = moe.experts %n1, %ids up %up down %down activation silu
        : tensor<?x32xbf16>, tensor<?x2xi32>, up tensor<4x48x32xbf16>, down tensor<4x32x48xbf16> -> tensor<?x2x32xf32>
    %m = moe.combine %y, %w : tensor<?x2x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
    %h2 = moe.add %h1, %m : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
    %g = moe.gather_rows %h2, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
    %n2 = moe.rms_norm %g, %norm eps 1.0e-5 : tensor<?x32xf32>, tensor<32xbf16> -> tensor<?x32xbf16>
    %logits = moe.linear %n2, %embed : tensor<?x32xbf16>, tensor<64x32xbf16> -> tensor<?x64xf32>
    return %logits : tensor<?x64xf32>
  }
}
