// A shared expert runs beside the routed ones on a GPU: behind the norm, before what adds both, in tables of few tokens. Its
// values share no bytes with what may be under way beside it, which --moe-verify-sched proves.
// RUN: moe-opt %s --moe-lower-to-sched="targets=cuda:sm_80" --moe-verify-sched | FileCheck %s
// RUN: moe-opt %s --moe-lower-to-sched="targets=cuda:sm_80 streams=1" | FileCheck %s --check-prefix=ONE
// RUN: moe-opt %s --moe-lower-to-sched="targets=x86-64-v3" | FileCheck %s --check-prefix=ONE
// RUN: moe-opt %s --moe-expert-parallel="ranks=2 exchange=gather" --moe-lower-to-sched="targets=cuda:sm_80" --moe-verify-sched 2> /dev/null | FileCheck %s --check-prefix=RANKS
// RUN: moe-opt %s --moe-expert-parallel="ranks=2 exchange=exact" --moe-lower-to-sched="targets=cuda:sm_80" --moe-verify-sched 2> /dev/null | FileCheck %s --check-prefix=RANKS
// RUN: moe-opt %s --moe-tensor-parallel="ranks=2" --moe-lower-to-sched="targets=cuda:sm_80" --moe-verify-sched 2> /dev/null | FileCheck %s --check-prefixes=RANKS,TENSOR
// RUN: not moe-opt %s --moe-lower-to-sched="streams=0" 2>&1 | FileCheck %s --check-prefix=NONE

// CHECK: sched.variant "cuda:sm_80" streams 2 events 2
// CHECK: sched.step tokens 1 to 8
// CHECK: @rms_norm{{.*}} write @arena[[NORMED:[[][0-9]+, 128[*]T[]]]],
// CHECK-NEXT: sched.record 0{{$}}
// CHECK-NEXT: sched.wait 0 stream 1
// CHECK-NEXT: @linear_few_{{.*}}(read @arena[[NORMED]]{{.*}} label "ffn.up" stream 1
// CHECK-NEXT: @linear_few_{{.*}} write @arena[[SHARED:[[][0-9]+, 128[*]T[]]]]){{.*}} label "ffn.down" stream 1
// CHECK-NEXT: sched.record 1 stream 1
// CHECK-NEXT: label "linear"{{$}}
// CHECK-NEXT: label "route"{{$}}
// CHECK-NEXT: label "experts.sort"{{$}}
// CHECK-NEXT: label "experts.up"{{$}}
// CHECK-NEXT: label "experts.down"{{$}}
// CHECK-NEXT: sched.wait 1{{$}}
// CHECK-NEXT: @combine_f32_f32_residual {{.*}} read @arena[[SHARED]]
// CHECK: sched.step tokens 9 to 64
// CHECK: stream 1
// CHECK: sched.step tokens 65 to 512
// CHECK-NOT: stream 1

// Of several ranks in all tables. Sums of both kinds of experts are one collective.
// RANKS: sched.step tokens 1 to 8
// RANKS: label "ffn.up" stream 1
// RANKS-NEXT: label "ffn.down" stream 1
// RANKS: sched.step tokens 65 to 512
// RANKS: label "ffn.up" stream 1
// RANKS-NEXT: label "ffn.down" stream 1
// TENSOR: label "combine"
// TENSOR-NEXT: sched.wait 1
// TENSOR-NEXT: sched.collective all_reduce
// TENSOR-NEXT: sched.collective all_reduce

// ONE-NOT: stream
// ONE: label "experts.down"
// ONE-NOT: stream

// NONE: error: max-tokens (512), few-tokens (8) and streams (0) must be at least 1

module {
  moe.weight @embed : tensor<64x32xf32>
  moe.weight @norm : tensor<32xf32>
  moe.weight @router : tensor<4x32xf32>
  moe.weight @up : tensor<4x48x32xf32>
  moe.weight @down : tensor<4x32x48xf32>
  moe.weight @shared.up : tensor<40x32xf32>
  moe.weight @shared.down : tensor<32x40xf32>
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x64xf32> {
    %embed = moe.get_weight @embed : tensor<64x32xf32>
    %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
    %norm = moe.get_weight @norm : tensor<32xf32>
    %n = moe.rms_norm %h, %norm eps 1.0e-05 : tensor<?x32xf32>, tensor<32xf32> -> tensor<?x32xf32>
    %router = moe.get_weight @router : tensor<4x32xf32>
    %logits = moe.linear %n, %router : tensor<?x32xf32>, tensor<4x32xf32> -> tensor<?x4xf32>
    %ids, %weights = moe.route %logits top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    %up = moe.get_weight @up : tensor<4x48x32xf32>
    %down = moe.get_weight @down : tensor<4x32x48xf32>
    %y = moe.experts %n, %ids up %up down %down activation silu : tensor<?x32xf32>, tensor<?x2xi32>, up tensor<4x48x32xf32>, down tensor<4x32x48xf32> -> tensor<?x2x32xf32>
    %routed = moe.combine %y, %weights : tensor<?x2x32xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
    %shared_up = moe.get_weight @shared.up : tensor<40x32xf32>
    %shared_down = moe.get_weight @shared.down : tensor<32x40xf32>
    %shared = moe.ffn %n up %shared_up down %shared_down activation silu : tensor<?x32xf32>, up tensor<40x32xf32>, down tensor<32x40xf32> -> tensor<?x32xf32>
    %sum = moe.add %routed, %shared : tensor<?x32xf32>, tensor<?x32xf32> -> tensor<?x32xf32>
    %last = moe.gather_rows %sum, %rows : tensor<?x32xf32>, tensor<?xi32> -> tensor<?x32xf32>
    %out = moe.linear %last, %embed : tensor<?x32xf32>, tensor<64x32xf32> -> tensor<?x64xf32>
    return %out : tensor<?x64xf32>
  }
}
