// What several ranks change in a schedule: exchanges as collectives with R rows per token, tables with the entries of all
// ranks, rows of a rank read in place, columns copied once per rank.
// RUN: moe-opt %S/../../passes/Transforms/expert-parallel.mlir --moe-place-experts=map=%S/../../passes/Transforms/Inputs/place-one-layer.json --moe-expert-parallel=ranks=2 --moe-lower-to-sched="targets=x86-64-v3 max-tokens=8" --moe-verify-sched 2> /dev/null | FileCheck %s --check-prefix=EXPERT
// RUN: moe-opt %S/../../passes/Transforms/expert-parallel.mlir --moe-expert-parallel="ranks=4 exchange=auto max-tokens=64 latency=1 host-read=2" --moe-lower-to-sched="targets=x86-64-v3 max-tokens=64" --moe-verify-sched 2> /dev/null | FileCheck %s --check-prefix=EXACT
// RUN: moe-opt %S/../../passes/Transforms/tensor-parallel.mlir --moe-tensor-parallel=ranks=4 --moe-lower-to-sched="targets=x86-64-v3 max-tokens=8" --moe-verify-sched 2> /dev/null | FileCheck %s --check-prefix=TENSOR
// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-lower-to-sched="targets=x86-64-v3"

// EXPERT: sched.table @[[UP:table.up.placed]] [@experts.0.up, @experts.1.up, @experts.2.up, @experts.3.up, @experts.0.up, @experts.1.up]
// EXPERT: sched.variant {{.*}} ranks 2 distributed {
// EXPERT-DAG: sched.buffer @expert_counts.0 state size 32
// EXPERT-DAG: sched.buffer @slot_counts.0 state size 24
// EXPERT: sched.step tokens 1 to 8
// EXPERT: sched.launch @mask_padding grid(T) ({{.*}}, read @seq[0, 4*T], {{.*}}, constant 2, size B) label "mask_padding.padding"
// EXPERT: sched.collective all_gather (write @arena[{{[0-9]+}}, 64*T], read @arena[{{[0-9]+}}, 32*T]) label "all_gather"
// EXPERT: sched.collective all_gather (write @arena[{{[0-9]+}}, 16*T], read @arena[{{[0-9]+}}, 8*T]) label "all_gather"
// EXPERT: sched.collective all_gather (write @arena[{{[0-9]+}}, 16*T], read @arena[{{[0-9]+}}, 8*T]) label "all_gather"
// EXPERT: sched.launch @localize_count_own grid(1) (read @arena[{{[0-9]+}}, 16*T], size T, constant 4, {{.*}}, write @arena[{{[0-9]+}}, 80], readwrite @expert_counts.0[0, 32], constant 4, constant 6, constant 3, size rank)
// EXPERT: sched.launch @sort_by_expert grid(1) (read @arena[{{[0-9]+}}, 16*T], size T, constant 3, constant 4, {{.*}}, readwrite @slot_counts.0[0, 24])
// EXPERT: sched.launch @experts_up{{.*}} grid(4*T cap 3) {{.*}} table @[[UP]] per_rank 3
// EXPERT: sched.fill {{.*}} label "experts.zero"
// EXPERT: sched.launch @combine_{{.*}} grid(2*T)
// EXPERT: sched.collective reduce_scatter_sum of f32 (write @arena[{{[0-9]+}}, 32*T], read @arena[{{[0-9]+}}, 64*T])

// EXACT: sched.step tokens 1 to 8
// EXACT: sched.collective reduce_scatter_sum
// EXACT: sched.step tokens 9 to 13
// EXACT: sched.collective reduce_scatter_sum
// EXACT: sched.step tokens 14 to 64
// EXACT: sched.collective all_gather (write @arena[{{[0-9]+}}, 32*T], read @arena[{{[0-9]+}}, 8*T]) label "all_gather"
// EXACT-NEXT: sched.launch @dispatch grid(1) (read @arena[{{[0-9]+}}, 32*T], size T, constant 2, constant 4, write @arena[{{[0-9]+}}, 8*T], write @arena[{{[0-9]+}}, 16], write @arena[{{[0-9]+}}, 32*T], write @arena[{{[0-9]+}}, 16*T], write @arena[{{[0-9]+}}, 16], write @arena[{{[0-9]+}}, 8*T], constant 2, constant 4, {{.*}}, size rank) label "dispatch.replicas"
// EXACT-NEXT: sched.launch @copy_listed_rows grid(T times 2) ({{.*}}, write @arena{{.}}[[SENT:[0-9]+, 64.T]]], constant 32) label "dispatch.pack"
// EXACT-NEXT: sched.collective exchange row_bytes 32 (write @arena[{{[0-9]+}}, 128*T], read @arena{{.}}[[SENT]]], write @arena[{{[0-9]+}}, 16], read @arena[{{[0-9]+}}, 16]) label "dispatch.exchange"
// EXACT: sched.launch @sort_by_expert {{.*}} readwrite @slot_counts.0[0, 8])
// EXACT-NOT: experts.zero
// EXACT: sched.launch @copy_listed_rows grid(T times 4) {{.*}} label "collect.pack"
// EXACT-NEXT: sched.collective exchange row_bytes 32 (write @arena{{.}}[[CAME:[0-9]+, 64.T]]], read @arena[{{[0-9]+}}, 128*T], {{.*}} label "collect.exchange"
// EXACT-NEXT: sched.launch @copy_listed_rows_or_zero grid(T times 2) (read @arena{{.}}[[CAME]]], {{.*}} label "collect.unpack"
// EXACT-NEXT: sched.launch @combine_f32_f32_residual grid(T)

// TENSOR: sched.variant {{.*}} ranks 4 {
// TENSOR: sched.initializer @[[K:shard.0]] {
// TENSOR-NEXT: sched.launch @copy_part grid(1) (weight @k[0], write weight @[[K]][0, 128], constant 128, constant 256, constant 128, constant 2, size rank) label "shard"
// TENSOR: sched.initializer @[[O:shard.2]] {
// TENSOR-NEXT: sched.launch @copy_part grid(8) (weight @o[0], write weight @[[O]][0, 128], constant 16, constant 64, constant 16, constant 1, size rank) label "shard"
// TENSOR: sched.step
// TENSOR: sched.launch @linear_{{.*}} weight @q[0, 128] per_rank 128, {{.*}} weight @q_bias[0, 16] per_rank 16
// TENSOR: sched.collective all_reduce_sum of f32 (write @arena[{{[0-9]+}}, 32*T], read @arena[{{[0-9]+}}, 32*T]) label "all_reduce"

module attributes {moe.ranks = 2 : i64} {
  moe.weight @w : tensor<16x16xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
    %w = moe.get_weight @w : tensor<16x16xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %g = moe.all_gather %h ranks 2 : tensor<?x16xf32> -> tensor<?x16xf32>
    // expected-error @below {{'moe.linear' op takes a row per token of all ranks, which in kernels only moe.localize, moe.experts, moe.combine, moe.reduce_scatter and moe.collect do}}
    %l = moe.linear %g, %w : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
    return %l : tensor<?x16xf32>
  }
}

// -----

module attributes {moe.ranks = 2 : i64} {
  moe.weight @w : tensor<16x16xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
    %w = moe.get_weight @w : tensor<16x16xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %r = moe.gather_rows %h, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
    // expected-error @below {{'moe.all_reduce' op takes a row per wanted logit, but exchanges a row per token: ranks may want different numbers of logits}}
    %l = moe.all_reduce %r ranks 2 : tensor<?x16xf32>
    return %l : tensor<?x16xf32>
  }
}

// -----

module attributes {moe.ranks = 2 : i64} {
  moe.weight @w : tensor<16x16xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
    %w = moe.get_weight @w : tensor<16x16xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
    // expected-error @below {{'moe.reduce_scatter' op takes a row per token, but exchanges a row per token of all ranks}}
    %l = moe.reduce_scatter %h ranks 2 : tensor<?x16xf32> -> tensor<?x16xf32>
    return %l : tensor<?x16xf32>
  }
}

// -----

// Ids of 16 experts, but a placement of 2: the table of replicas would be left.
module attributes {moe.ranks = 2 : i64} {
  moe.weight @w : tensor<16x16xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
    %w = moe.get_weight @w : tensor<16x16xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
    // expected-note @below {{the route is here}}
    %ids, %scores = moe.route %h top 2 score softmax renormalize sum : tensor<?x16xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    // expected-error @below {{'moe.localize' op has weights of E = 2 experts, but its ids are chosen of 16}}
    %l = moe.localize %ids placement <ranks = 2, slots = [0, 1]> : tensor<?x2xi32>
    return %h : tensor<?x16xf32>
  }
}

// -----

// Slots of a rank, but weights of all experts.
module attributes {moe.ranks = 2 : i64} {
  moe.weight @w : tensor<16x16xf32>
  moe.weight @up : tensor<16x16x16xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
    %w = moe.get_weight @w : tensor<16x16xf32>
    %up = moe.get_weight @up : tensor<16x16x16xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %ids, %scores = moe.route %h top 2 score softmax renormalize sum : tensor<?x16xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    // expected-note @below {{which this gives}}
    %l = moe.localize %ids placement <ranks = 2, slots = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]> : tensor<?x2xi32>
    // expected-error @below {{'moe.experts' op has weights of 16 experts, but its ids are 8 slots of a rank}}
    %y = moe.experts %h, %l up %up down %up activation relu : tensor<?x16xf32>, tensor<?x2xi32>, up tensor<16x16x16xf32>, down tensor<16x16x16xf32> -> tensor<?x2x16xf32>
    %o = moe.combine %y, %scores : tensor<?x2x16xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
    return %o : tensor<?x16xf32>
  }
}

// -----

// Choices of this rank alone, where those of all ranks say who sends what.
module attributes {moe.distributed, moe.ranks = 2 : i64} {
  moe.weight @w : tensor<16x16xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
    %w = moe.get_weight @w : tensor<16x16xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %ids, %scores = moe.route %h top 2 score softmax renormalize sum : tensor<?x16xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    // expected-error @below {{'moe.dispatch' op takes the experts of a row per token, but needs those of a row per token of all ranks: gather them}}
    %r, %s = moe.dispatch %h, %ids placement <ranks = 2, slots = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]> : tensor<?x16xf32>, tensor<?x2xi32> -> tensor<?x16xf32>
    return %h : tensor<?x16xf32>
  }
}

// -----

// Results of which only those of slots are filled, read by another op.
module attributes {moe.distributed, moe.ranks = 2 : i64} {
  moe.weight @w : tensor<16x16xf32>
  moe.weight @up : tensor<8x16x16xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
    %w = moe.get_weight @w : tensor<16x16xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %ids, %scores = moe.route %h top 2 score softmax renormalize sum : tensor<?x16xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    %up = moe.get_weight @up : tensor<8x16x16xf32>
    %all = moe.all_gather %ids ranks 2 : tensor<?x2xi32> -> tensor<?x2xi32>
    %scores_all = moe.all_gather %scores ranks 2 : tensor<?x2xf32> -> tensor<?x2xf32>
    // expected-note @below {{the dispatch is here}}
    %r, %s = moe.dispatch %h, %all placement <ranks = 2, slots = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]> : tensor<?x16xf32>, tensor<?x2xi32> -> tensor<?x16xf32>
    // expected-error @below {{'moe.experts' op with the slots of a moe.dispatch must have the weights of 8 slots (has 8), and its result must go to moe.collect of these slots and nowhere else}}
    %y = moe.experts %r, %s up %up down %up activation relu : tensor<?x16xf32>, tensor<?x2xi32>, up tensor<8x16x16xf32>, down tensor<8x16x16xf32> -> tensor<?x2x16xf32>
    %o = moe.combine %y, %scores_all : tensor<?x2x16xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
    %l = moe.reduce_scatter %o ranks 2 : tensor<?x16xf32> -> tensor<?x16xf32>
    return %l : tensor<?x16xf32>
  }
}

// -----

// Results that go back by slots of which nobody says whose they are.
module attributes {moe.distributed, moe.ranks = 2 : i64} {
  moe.weight @w : tensor<16x16xf32>
  moe.weight @up : tensor<8x16x16xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
    %w = moe.get_weight @w : tensor<16x16xf32>
    %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
    %ids, %scores = moe.route %h top 2 score softmax renormalize sum : tensor<?x16xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    %up = moe.get_weight @up : tensor<8x16x16xf32>
    %x = moe.all_gather %h ranks 2 : tensor<?x16xf32> -> tensor<?x16xf32>
    %all = moe.all_gather %ids ranks 2 : tensor<?x2xi32> -> tensor<?x2xi32>
    %s = moe.localize %all placement <ranks = 2, slots = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]> : tensor<?x2xi32>
    %y = moe.experts %x, %s up %up down %up activation relu : tensor<?x16xf32>, tensor<?x2xi32>, up tensor<8x16x16xf32>, down tensor<8x16x16xf32> -> tensor<?x2x16xf32>
    // expected-error @below {{'moe.collect' op must take the slots of a moe.dispatch, which says where rows came from, and what moe.experts made of these slots}}
    %own = moe.collect %y of %s : tensor<?x2x16xf32>, tensor<?x2xi32> -> tensor<?x2x16xf32>
    %o = moe.combine %own, %scores : tensor<?x2x16xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
    return %o : tensor<?x16xf32>
  }
}
