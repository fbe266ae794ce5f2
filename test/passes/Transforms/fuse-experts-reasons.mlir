// Why MoE layers are not fused: every reason as a remark, and the step stays as it was.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --pass-pipeline='builtin.module(moe-fuse-ffn{plan=%S/Inputs/two-layers-r.json})' -o %t.after
// RUN: moe-opt %s --split-input-file | diff - %t.after

// One route says once what all routers do. Numbers of experts and of choices are cut into equal parts.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<6x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<6x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<6x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<6x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<6x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<6x8xf32> -> tensor<?x6xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x6xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<6x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<6x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<6x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<6x6x8xf32>, up tensor<6x6x8xf32>, down tensor<6x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the numbers of experts of layers 0 and 1 differ: 4 and 6}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 1 score softmax : tensor<?x4xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x1xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x1x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x1x8xf32>, tensor<?x1xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the experts per token of layers 0 and 1 differ: 2 and 1}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x5x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x5x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x5xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x5x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x5x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x5xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x5x8xf32>, up tensor<4x5x8xf32>, down tensor<4x8x5xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the widths of the experts of layers 0 and 1 differ: 6 and 5}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score sigmoid : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the scores of the routers of layers 0 and 1 differ: softmax and sigmoid}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the renormalizations of the routers of layers 0 and 1 differ: sum and none}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax scale 2.5 : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the scaling factors of the routers of layers 0 and 1 differ: 2.5 and 1}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax groups 2 keep 1 by max : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the groups of experts of layers 0 and 1 differ: 2 and 1}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.correction : tensor<4xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %l0_correction = moe.get_weight @l0.correction : tensor<4xf32>
  %id0, %w0 = moe.route %r0 bias %l0_correction top 2 score softmax : tensor<?x4xf32>, tensor<4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the correction biases of layers 0 and 1 differ: f32 and none}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.router_bias : tensor<4xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %l0_router_bias = moe.get_weight @l0.router_bias : tensor<4xf32>
  %r0 = moe.linear %m0, %l0_router bias %l0_router_bias : tensor<?x8xf32>, tensor<4x8xf32>, tensor<4xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the router biases of layers 0 and 1 differ: f32 and none}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l0.shared_up : tensor<3x8xf32>
moe.weight @l0.shared_down : tensor<8x3xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
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
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the shared FFNs of layers 0 and 1 differ: there and not there}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the gates of layers 0 and 1 differ: none and f32}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xbf16>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xbf16>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xbf16>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xbf16>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xbf16>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xbf16>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xbf16>, up tensor<4x6x8xbf16>, down tensor<4x8x6xbf16> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the gates of layers 0 and 1 differ: bf16 and f32}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation gelu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the activations of layers 0 and 1 differ: gelu and silu}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-06 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the eps of the norms of layers 0 and 1 differ: 1e-06 and 1e-05}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// Experts that have places: a map of two layers is no map of one.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %m1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu placement <ranks = 2, slots = [0, 1, 2, 3]> : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the FFN of layer 1: its experts have places on ranks already; place them after the fusion}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}

// -----

// A router that reads something else than its experts.
moe.weight @embed : tensor<16x8xf32>
moe.weight @l0.norm : tensor<8xf32>
moe.weight @l0.router : tensor<4x8xf32>
moe.weight @l0.gate source "l0.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l0.up source "l0.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l0.down source "l0.{}.down" stacked : tensor<4x8x6xf32>
moe.weight @l1.norm : tensor<8xf32>
moe.weight @l1.router : tensor<4x8xf32>
moe.weight @l1.gate source "l1.{}.gate" stacked : tensor<4x6x8xf32>
moe.weight @l1.up source "l1.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @l1.down source "l1.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %l0_norm = moe.get_weight @l0.norm : tensor<8xf32>
  %m0 = moe.rms_norm %h, %l0_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l0_router = moe.get_weight @l0.router : tensor<4x8xf32>
  %r0 = moe.linear %m0, %l0_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id0, %w0 = moe.route %r0 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l0_gate = moe.get_weight @l0.gate : tensor<4x6x8xf32>
  %l0_up = moe.get_weight @l0.up : tensor<4x6x8xf32>
  %l0_down = moe.get_weight @l0.down : tensor<4x8x6xf32>
  %y0 = moe.experts %m0, %id0 gate %l0_gate up %l0_up down %l0_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c0 = moe.combine %y0, %w0 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %h1 = moe.add %h, %c0 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l1_norm = moe.get_weight @l1.norm : tensor<8xf32>
  %m1 = moe.rms_norm %h1, %l1_norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %l1_router = moe.get_weight @l1.router : tensor<4x8xf32>
  %r1 = moe.linear %h1, %l1_router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %id1, %w1 = moe.route %r1 top 2 score softmax : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %l1_gate = moe.get_weight @l1.gate : tensor<4x6x8xf32>
  %l1_up = moe.get_weight @l1.up : tensor<4x6x8xf32>
  %l1_down = moe.get_weight @l1.down : tensor<4x8x6xf32>
  %y1 = moe.experts %m1, %id1 gate %l1_gate up %l1_up down %l1_down activation silu : tensor<?x8xf32>, tensor<?x2xi32>, gate tensor<4x6x8xf32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %c1 = moe.combine %y1, %w1 : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  // expected-remark @below {{layers 0 to 1 not fused: the FFN of layer 1: its router, experts and shared FFN do not read one value}}
  %h2 = moe.add %h1, %c1 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %h2 : tensor<?x8xf32>
}
