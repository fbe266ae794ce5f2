// What must not be fused, and weights that are computed once.
// RUN: moe-opt %s --split-input-file --moe-lower-to-sched="targets=x86-64-v3" | FileCheck %s

// A product that is used twice keeps its own buffer: the add is a launch.
// CHECK-LABEL: sched.step tokens 1 to 8
// CHECK: sched.launch @linear_few_f32_f32_f32 grid
// CHECK: sched.launch @add_f32_f32_f32
// CHECK: sched.launch @add_f32_f32_f32
moe.weight @w : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %y = moe.linear %h, %w : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %a = moe.add %h, %y : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
  %b = moe.add %a, %y : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
  %g = moe.gather_rows %b, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %l = moe.linear %g, %w : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

// A residual that is made after the product cannot be an operand of it.
// CHECK-LABEL: sched.step tokens 1 to 8
// CHECK-NOT: residual
// CHECK: sched.launch @add_f32_f32_f32
// CHECK: sched.step tokens 9 to 512
moe.weight @w : tensor<16x16xf32>
moe.weight @n : tensor<16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %w = moe.get_weight @w : tensor<16x16xf32>
  %n = moe.get_weight @n : tensor<16xf32>
  %h = moe.embedding %tokens, %w : tensor<?xi32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %y = moe.linear %h, %w : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
  %late = moe.rms_norm %h, %n eps 1.0e-5 : tensor<?x16xf32>, tensor<16xf32> -> tensor<?x16xf32>
  %a = moe.add %late, %y : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
  %g = moe.gather_rows %a, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %l = moe.linear %g, %w : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

// Weights joined by moe.concat are made by initializers: along the first dim by copies, along the last row by row.
// CHECK: sched.tensor @concat.0 computed : tensor<24x16xbf16>
// CHECK: sched.tensor @concat.1 computed : tensor<16x24xbf16>
// CHECK: sched.initializer @concat.0 {
// CHECK-NEXT: sched.copy (write weight @concat.0[0, 512], weight @a[0, 512])
// CHECK-NEXT: sched.copy (write weight @concat.0[512, 256], weight @b[0, 256])
// CHECK: sched.initializer @concat.1 {
// CHECK-NEXT: sched.launch @copy_rows grid(16) (weight @a[0], write weight @concat.1[0, 752], constant 32, constant 48)
// CHECK-NEXT: sched.launch @copy_rows grid(16) (weight @c[0], write weight @concat.1[32, 736], constant 16, constant 48)
moe.weight @a : tensor<16x16xbf16>
moe.weight @b : tensor<8x16xbf16>
moe.weight @c : tensor<16x8xbf16>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %a = moe.get_weight @a : tensor<16x16xbf16>
  %b = moe.get_weight @b : tensor<8x16xbf16>
  %c = moe.get_weight @c : tensor<16x8xbf16>
  %ab = moe.concat %a, %b dim 0 : tensor<16x16xbf16>, tensor<8x16xbf16> -> tensor<24x16xbf16>
  %ac = moe.concat %a, %c dim 1 : tensor<16x16xbf16>, tensor<16x8xbf16> -> tensor<16x24xbf16>
  %h = moe.embedding %tokens, %ab : tensor<?xi32>, tensor<24x16xbf16> -> tensor<?x16xf32>
  %y = moe.ffn %h up %ab down %ac activation relu : tensor<?x16xf32>, up tensor<24x16xbf16>, down tensor<16x24xbf16> -> tensor<?x16xf32>
  %g = moe.gather_rows %y, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %l = moe.linear %g, %a : tensor<?x16xf32>, tensor<16x16xbf16> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

// A computation on weights is written where it belongs: the parts of a concatenation straight into the result, what a
// product reads whole into scratch, and a scale that a norm keeps is an initializer of its own that the others read.
// CHECK: sched.tensor @floor_magnitude.0 computed : tensor<16xbf16>
// CHECK: sched.tensor @concat.1 computed : tensor<32x16xbf16>
// CHECK: sched.tensor @concat.2 computed : tensor<16x32xbf16>
// CHECK: sched.initializer @floor_magnitude.0 {
// CHECK-NEXT: sched.launch @floor_bf16_bf16 grid(1) (weight @s[0], write weight @floor_magnitude.0[0, 32], constant 16, constant 16, constant 1056964608) label "floor_magnitude"
// CHECK-NEXT: }
// CHECK: sched.initializer @concat.1 {
// CHECK-NEXT: sched.launch @scale_columns_bf16_bf16_over_bf16_bf16 grid(16) (weight @a[0], weight @s[0], weight @floor_magnitude.0[0], write weight @concat.1[0, 512], constant 16, constant 16, constant 16) label "scale"
// CHECK-NEXT: sched.buffer @scratch.0 arena size 512
// CHECK-NEXT: sched.launch @scale_rows_bf16_bf16_bf16 grid(16) (weight @a[0], weight @s[0], write @scratch.0[0, 512], constant 16, constant 16, constant 16)
// CHECK-NEXT: sched.launch @product_bf16_f32_bf16 grid(4) (read @scratch.0[0, 512], weight @m[0], write weight @concat.1[512, 512], constant 16, constant 16, constant 16, constant 16)
// CHECK: sched.initializer @concat.2 {
// CHECK-NEXT: sched.fill (write weight @concat.2[0, 1024]) value 0
// CHECK-NEXT: sched.launch @copy_rows grid(16) (weight @a[0], write weight @concat.2[0, 992], constant 32, constant 64)
// CHECK-NEXT: sched.launch @copy_rows grid(16) (weight @c[0], write weight @concat.2[32, 976], constant 16, constant 64)
// CHECK: sched.initializer @sum.3 {
// CHECK-NEXT: sched.launch @sum_bf16_bf16_to_bf16 grid(1) (weight @s[0], weight @s[0], write weight @sum.3[0, 32], constant 16, constant 16)
moe.weight @a : tensor<16x16xbf16>
moe.weight @c : tensor<16x8xbf16>
moe.weight @s : tensor<16xbf16>
moe.weight @m : tensor<16x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %a = moe.get_weight @a : tensor<16x16xbf16>
  %c = moe.get_weight @c : tensor<16x8xbf16>
  %s = moe.get_weight @s : tensor<16xbf16>
  %m = moe.get_weight @m : tensor<16x16xf32>
  %kept = moe.floor_magnitude %s at 0.5 : tensor<16xbf16> -> tensor<16xbf16>
  %folded = moe.scale %a by %s over %kept dim 1 : tensor<16x16xbf16>, tensor<16xbf16>, tensor<16xbf16> -> tensor<16x16xbf16>
  %turned = moe.scale %a by %s dim 0 : tensor<16x16xbf16>, tensor<16xbf16> -> tensor<16x16xbf16>
  %mapped = moe.product %turned, %m : tensor<16x16xbf16>, tensor<16x16xf32> -> tensor<16x16xbf16>
  %up = moe.concat %folded, %mapped dim 0 : tensor<16x16xbf16>, tensor<16x16xbf16> -> tensor<32x16xbf16>
  %wide = moe.pad %c dim 1 : tensor<16x8xbf16> -> tensor<16x16xbf16>
  %down = moe.concat %a, %wide dim 1 : tensor<16x16xbf16>, tensor<16x16xbf16> -> tensor<16x32xbf16>
  %bias = moe.sum %s, %s : tensor<16xbf16>, tensor<16xbf16> -> tensor<16xbf16>
  %h = moe.embedding %tokens, %a : tensor<?xi32>, tensor<16x16xbf16> -> tensor<?x16xf32>
  %n = moe.rms_norm %h, %kept eps 1.0e-5 : tensor<?x16xf32>, tensor<16xbf16> -> tensor<?x16xf32>
  %y = moe.ffn %n up %up down %down down_bias %bias activation relu : tensor<?x16xf32>, up tensor<32x16xbf16>, down tensor<16x32xbf16>, down_bias tensor<16xbf16> -> tensor<?x16xf32>
  %g = moe.gather_rows %y, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %l = moe.linear %g, %a : tensor<?x16xf32>, tensor<16x16xbf16> -> tensor<?x16xf32>
  return %l : tensor<?x16xf32>
}

// -----

// Tensors of the checkpoint may have the names that tables and computed tensors would get.
// CHECK-DAG: sched.tensor @concat.0 : tensor<32x16xf32>
// CHECK-DAG: sched.tensor @concat.0_ computed : tensor<32x16xf32>
// CHECK-DAG: sched.tensor @table.x : tensor<2x16x16xf32>
// CHECK-DAG: sched.table @table.table.x [@table.x, @table.x[1024]]
// CHECK-DAG: sched.table @table.x_ [@x.0, @x.1]
// CHECK: sched.initializer @concat.0_ {
moe.weight @"concat.0" : tensor<32x16xf32>
moe.weight @"table.x" : tensor<2x16x16xf32>
moe.weight @x source "x.{}" stacked : tensor<2x16x16xf32>
moe.weight @a : tensor<16x16xf32>
moe.weight @r : tensor<2x16xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x32xf32> {
  %a = moe.get_weight @a : tensor<16x16xf32>
  %r = moe.get_weight @r : tensor<2x16xf32>
  %c = moe.get_weight @"concat.0" : tensor<32x16xf32>
  %t = moe.get_weight @"table.x" : tensor<2x16x16xf32>
  %x = moe.get_weight @x : tensor<2x16x16xf32>
  %aa = moe.concat %a, %a dim 0 : tensor<16x16xf32>, tensor<16x16xf32> -> tensor<32x16xf32>
  %h = moe.embedding %tokens, %c : tensor<?xi32>, tensor<32x16xf32> -> tensor<?x16xf32>
  %p = moe.linear %h, %r : tensor<?x16xf32>, tensor<2x16xf32> -> tensor<?x2xf32>
  %ids, %s = moe.route %p top 1 score softmax : tensor<?x2xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  %y = moe.experts %h, %ids up %t down %x activation silu
      : tensor<?x16xf32>, tensor<?x1xi32>, up tensor<2x16x16xf32>, down tensor<2x16x16xf32> -> tensor<?x1x16xf32>
  %z = moe.combine %y, %s : tensor<?x1x16xf32>, tensor<?x1xf32> -> tensor<?x16xf32>
  %g = moe.gather_rows %z, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %l = moe.linear %g, %aa : tensor<?x16xf32>, tensor<32x16xf32> -> tensor<?x32xf32>
  return %l : tensor<?x32xf32>
}

// -----

// 128 query heads on one key head: a block of tokens would not fit into scratch, so tokens come one by one.
// CHECK: sched.step tokens 9 to 512
// CHECK: sched.launch @attention_few_f32_f32_d512 grid(T)
moe.weight @e : tensor<16x512xf32>
moe.weight @q : tensor<65536x512xf32>
moe.state @kv : !moe.kv_cache<heads = 1, key_dim = 512, value_dim = 512, element = f32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x65536xf32> {
  %e = moe.get_weight @e : tensor<16x512xf32>
  %wq = moe.get_weight @q : tensor<65536x512xf32>
  %h = moe.embedding %tokens, %e : tensor<?xi32>, tensor<16x512xf32> -> tensor<?x512xf32>
  %q = moe.linear %h, %wq : tensor<?x512xf32>, tensor<65536x512xf32> -> tensor<?x65536xf32>
  %a = moe.attention %q, %h, %h at %seq, %pos, %runs cache @kv heads 128 kv_heads 1 scale 0.05
      : tensor<?x65536xf32>, tensor<?x512xf32>, tensor<?x512xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x65536xf32>
  %g = moe.gather_rows %a, %rows : tensor<?x65536xf32>, tensor<?xi32> -> tensor<?x65536xf32>
  return %g : tensor<?x65536xf32>
}
