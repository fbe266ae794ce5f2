// Round trip of a whole program: every declaration, command, operand kind and extent, through text, the generic form,
// bytecode and the program file (two of which are byte-identical).
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt --allow-bytecode | FileCheck %s

// CHECK: sched.program vocab 8192 max_tokens 512 max_context 4096 dtype bf16 compiler "0.1.0" model "{}" checkpoint "/models/tiny" metadata {family = "mixtral"} {
sched.program vocab 8192 max_tokens 512 max_context 4096 dtype bf16 compiler "0.1.0" model "{}" checkpoint "/models/tiny" metadata {family = "mixtral"} {
  // CHECK-NEXT: sched.file @model.safetensors size 1048576 mtime_ns -5 header "{{[0-9a-f]+}}"
  sched.file @model.safetensors size 1048576 mtime_ns -5 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  // CHECK-NEXT: sched.file @other.safetensors size 4 mtime_ns 7 header "{{[0-9a-f]+}}" sha256 "{{[0-9a-f]+}}"
  sched.file @other.safetensors size 4 mtime_ns 7 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" sha256 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  // CHECK-NEXT: sched.file @maps.safetensors size 9 mtime_ns 0 header "{{[0-9a-f]+}}" sha256 "{{[0-9a-f]+}}" in_package
  sched.file @maps.safetensors size 9 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" sha256 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" in_package
  // CHECK-NEXT: sched.package_file "tokenizer.json" size 1234 sha256 "{{[0-9a-f]+}}"
  sched.package_file "tokenizer.json" size 1234 sha256 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  // CHECK-NEXT: sched.tensor @w : tensor<128x128xbf16> in @model.safetensors[4096]
  sched.tensor @w : tensor<128x128xbf16> in @model.safetensors[4096]
  // CHECK-NEXT: sched.tensor @"with space" : tensor<f32> in @other.safetensors[0]
  sched.tensor @"with space" : tensor<f32> in @other.safetensors[0]
  // CHECK-NEXT: sched.tensor @experts : tensor<4x64x128xf8E4M3FN> in @model.safetensors[65536]
  sched.tensor @experts : tensor<4x64x128xf8E4M3FN> in @model.safetensors[65536]
  // CHECK-NEXT: sched.tensor @qkv computed : tensor<256x128xbf16>
  sched.tensor @qkv computed : tensor<256x128xbf16>
  // CHECK-NEXT: sched.table @w1 [@w, @experts, @experts[8192], @qkv]
  sched.table @w1 [@w, @experts[0], @experts[8192], @qkv]
  // CHECK-NEXT: sched.variant "avx512bf16" features ["avx512f", "avx512bf16"] blob "kernels-avx512bf16.so" sha256 "9f{{[0-9a-f]+}}" streams 2 events 1 ranks 2 distributed {
  sched.variant "avx512bf16" features ["avx512f", "avx512bf16"] blob "kernels-avx512bf16.so" sha256 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" streams 2 events 1 ranks 2 distributed {
    // CHECK-NEXT: sched.kernel @gemv "linear, one token"
    sched.kernel @gemv "linear, one token"
    // CHECK-NEXT: sched.kernel @plain
    sched.kernel @plain
    // CHECK-NEXT: sched.buffer @arena arena size 1048576
    sched.buffer @arena arena size 1048576
    // CHECK-NEXT: sched.buffer @kv state size 128*B*C
    sched.buffer @kv state size 128*B*C align 64
    // CHECK-NEXT: sched.buffer @runs input size 4 + 4*B
    sched.buffer @runs input size 4 + 4*B
    // CHECK-NEXT: sched.buffer @logits output size 32768*M
    sched.buffer @logits output size 32768*M
    // CHECK-NEXT: sched.buffer @everything state size 1 + 2*T + M + 3*B + B*C
    sched.buffer @everything state size B*C + M + 1 + 2*T + 3*B
    // CHECK-NEXT: sched.constant @frequencies "0000803fcdcccc3d"
    sched.constant @frequencies "0000803fcdcccc3d"
    // CHECK-NEXT: sched.initializer @qkv key "9f{{[0-9a-f]+}}" {
    sched.initializer @qkv key "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" {
      // CHECK-NEXT: sched.buffer @scratch arena size 32768
      sched.buffer @scratch arena size 32768
      // CHECK-NEXT: sched.copy (write @scratch[0, 32768], weight @w[0, 32768])
      sched.copy (write @scratch[0, 32768], weight @w[0, 32768])
      // CHECK-NEXT: sched.copy (write weight @qkv[0, 32768], read @scratch[0, 32768])
      sched.copy (write weight @qkv[0, 32768], read @scratch[0, 32768])
      // CHECK-NEXT: sched.launch @plain grid(8) (write weight @qkv[32768, 32768], weight @w[0, 16384] per_rank 16384, size ranks, size rank)
      sched.launch @plain grid(8) (write weight @qkv[32768, 32768], weight @w[0, 16384] per_rank 16384, size ranks, size rank)
    }
    // CHECK: sched.buffer @ffn.0.in0 input size 512*T
    sched.buffer @ffn.0.in0 input size 512*T
    // CHECK-NEXT: sched.buffer @ffn.0.out0 output size 512*T
    sched.buffer @ffn.0.out0 output size 512*T
    // CHECK-NEXT: sched.entry @ffn.0 inputs [@ffn.0.in0] outputs [@ffn.0.out0, @logits] {
    sched.entry @ffn.0 inputs [@ffn.0.in0] outputs [@ffn.0.out0, @logits] {
      // CHECK-NEXT: sched.step tokens 1 to 512 {
      sched.step tokens 1 to 512 {
        // CHECK-NEXT: sched.copy (write @ffn.0.out0[0, 512*T], read @ffn.0.in0[0, 512*T])
        sched.copy (write @ffn.0.out0[0, 512*T], read @ffn.0.in0[0, 512*T])
        // CHECK-NEXT: sched.fill (write @logits[0, 4*M]) value 0
        sched.fill (write @logits[0, 4*M]) value 0
      }
    }
    // CHECK: sched.step tokens 1 to 8 {
    sched.step tokens 1 to 8 {
      // CHECK-NEXT: sched.fill (write @arena[0, 64*T]) value 255 label "zero"
      sched.fill (write @arena[0, 64*T]) value 255 label "zero"
      // CHECK-NEXT: sched.launch @gemv grid(T ceildiv 4 cap 16 times 3) (read @arena[0, 64*T], readwrite @kv[0, 128*B*C], write @logits[0, 32768*M], read @frequencies[4, 4], weight @w[256], table @w1, size T, size ranks, constant -42, tensor_map weight @w[4096] rows 8 columns 128 box 4, tensor_map weight @w[0, 16384] per_rank 16384 rows 64 columns 128 box 64, tensor_map table @w1 per_rank 2 rows 4 columns 64 box 128) label "layers.0.q_proj" stream 1
      sched.launch @gemv grid(T ceildiv 4 cap 16 times 3) (read @arena[0, 64*T], readwrite @kv[0, 128*B*C], write @logits[0, 32768*M], read @frequencies[4, 4], weight @w[256], table @w1, size T, size ranks, constant -42, tensor_map weight @w[4096] rows 8 columns 128 box 4, tensor_map weight @w[0, 16384] per_rank 16384 rows 64 columns 128 box 64, tensor_map table @w1 per_rank 2 rows 4 columns 64 box 128) label "layers.0.q_proj" stream 1
      // CHECK-NEXT: sched.launch @plain grid(1) (weight @w[256, 128] per_rank 4096, table @w1 per_rank 2)
      sched.launch @plain grid(1) (weight @w[256, 128] per_rank 4096, table @w1 per_rank 2)
      // CHECK-NEXT: sched.launch @plain grid(1) ()
      sched.launch @plain grid(1 ceildiv 1 cap 0 times 1) ()
    }
    // CHECK: sched.step tokens 9 to 512 {
    sched.step tokens 9 to 512 {
      // CHECK-NEXT: sched.group_begin
      sched.group_begin
      // CHECK-NEXT: sched.collective all_reduce_sum of f32 (readwrite @arena[0, 512*T]) stream 1
      sched.collective all_reduce_sum of f32 (readwrite @arena[0, 512*T]) stream 1
      // CHECK-NEXT: sched.collective all_gather (write @arena[0, 512*T], read @arena[524288, 256*T]) stream 1
      sched.collective all_gather (write @arena[0, 512*T], read @arena[524288, 256*T]) stream 1
      // CHECK-NEXT: sched.collective reduce_scatter_sum of bf16 (write @arena[524288, 256*T], read @arena[0, 512*T]) stream 1
      sched.collective reduce_scatter_sum of bf16 (write @arena[524288, 256*T], read @arena[0, 512*T]) stream 1
      // CHECK-NEXT: sched.collective all_to_all (write @arena[524288, 512*T], read @arena[0, 512*T]) stream 1
      sched.collective all_to_all (write @arena[524288, 512*T], read @arena[0, 512*T]) stream 1
      // CHECK-NEXT: sched.collective exchange row_bytes 256 (write @arena[0, 512*T], read @arena[524288, 256*T], write @arena[1048512, 8], read @arena[1048520, 8]) stream 1
      sched.collective exchange row_bytes 256 (write @arena[0, 512*T], read @arena[524288, 256*T], write @arena[1048512, 8], read @arena[1048520, 8]) stream 1
      // CHECK-NEXT: sched.group_end
      sched.group_end
      // CHECK-NEXT: sched.record 0 stream 1
      sched.record 0 stream 1
      // CHECK-NEXT: sched.wait 0 label "join"
      sched.wait 0 label "join"
      // CHECK-NEXT: sched.host_call "count_exchange" (read @arena[0, 0])
      sched.host_call "count_exchange" (read @arena[0, 0])
    }
  }
}
