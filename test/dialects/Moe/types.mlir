// Round trip of the dialect's attributes and types, through the generic form as well; defaults are not printed.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func private @rope
// CHECK-SAME: default = #moe.rope<kind = default, theta = 1.000000e+04 : f64, dim = 32>
// CHECK-SAME: dynamic = #moe.rope<kind = dynamic, theta = 1.000000e+04 : f64, dim = 32, original_context = 2048>
// CHECK-SAME: linear = #moe.rope<kind = linear, theta = 1.000000e+04 : f64, dim = 32, factor = 2.500000e+00 : f64>
// CHECK-SAME: llama3 = #moe.rope<kind = llama3, theta = 5.000000e+05 : f64, dim = 128, factor = 8.000000e+00 : f64, original_context = 8192, low_freq_factor = 1.250000e+00 : f64, high_freq_factor = 5.000000e+00 : f64>
// CHECK-SAME: longrope = #moe.rope<kind = longrope, theta = 1.000000e+04 : f64, dim = 4, attention_factor = 1.250000e+00 : f64, dim_factors = [1.000000e+00, 1.500000e+00]>
// CHECK-SAME: yarn = #moe.rope<kind = yarn, theta = 1.000000e+04 : f64, dim = 64, offset = 128, interleaved = true, factor = 4.000000e+01 : f64, original_context = 4096, beta_fast = 1.600000e+01 : f64, beta_slow = 2.000000e+00 : f64, truncate = false>
func.func private @rope() attributes {
  default = #moe.rope<kind = default, theta = 1.0e4, dim = 32, offset = 0, interleaved = false>,
  linear = #moe.rope<kind = linear, theta = 1.0e4, dim = 32, factor = 2.5>,
  dynamic = #moe.rope<kind = dynamic, theta = 1.0e4, dim = 32, original_context = 2048>,
  llama3 = #moe.rope<kind = llama3, theta = 5.0e5, dim = 128, factor = 8.0, original_context = 8192, low_freq_factor = 1.25, high_freq_factor = 5.0>,
  longrope = #moe.rope<kind = longrope, theta = 1.0e4, dim = 4, attention_factor = 1.25, dim_factors = [1.0, 1.5]>,
  yarn = #moe.rope<kind = yarn, theta = 1.0e4, dim = 64, offset = 128, interleaved = true, factor = 40.0, original_context = 4096, beta_fast = 16.0, beta_slow = 2.0, truncate = false>}

// CHECK-LABEL: func private @caches
// CHECK-SAME: type = !moe.kv_cache<heads = 8, key_dim = 192, value_dim = 128, element = bf16>
func.func private @caches() attributes {type = !moe.kv_cache<heads = 8, key_dim = 192, value_dim = 128, element = bf16>}
