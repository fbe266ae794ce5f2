// Round trip of rope and attention, through the generic form as well; attention's effects on its cache.
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --canonicalize --cse | FileCheck %s --check-prefix=EFFECT

moe.state @kv : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = 16, element = bf16>

// CHECK-LABEL: func @rope
func.func @rope(%x: tensor<?x128xbf16>, %pos: tensor<?xi32>) {
  // CHECK: moe.rope %{{.*}} at %{{.*}} heads 4 <kind = default, theta = 1.000000e+04 : f64, dim = 32> : tensor<?x128xbf16>, tensor<?xi32> -> tensor<?x128xbf16>
  moe.rope %x at %pos heads 4 <kind = default, theta = 1.0e4, dim = 32> : tensor<?x128xbf16>, tensor<?xi32> -> tensor<?x128xbf16>
  // CHECK: moe.rope %{{.*}} heads 2 <kind = yarn, theta = 1.000000e+04 : f64, dim = 32, offset = 32, interleaved = true, factor = 4.000000e+01 : f64, original_context = 4096, truncate = false, attention_factor = 1.368{{.*}}>
  moe.rope %x at %pos heads 2 <kind = yarn, theta = 1.0e4, dim = 32, offset = 32, interleaved = true, factor = 40.0, original_context = 4096, truncate = false, attention_factor = 1.3688879454113936> : tensor<?x128xbf16>, tensor<?xi32> -> tensor<?x128xbf16>
  return
}

// CHECK-LABEL: func @attention
func.func @attention(%q: tensor<?x128xbf16>, %k: tensor<?x64xbf16>, %v: tensor<?x32xbf16>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<5xi32>, %sinks: tensor<4xbf16>) {
  // CHECK: moe.attention %{{.*}}, %{{.*}}, %{{.*}} at %{{.*}}, %{{.*}}, %{{.*}} cache @kv heads 4 kv_heads 2 scale 2.500000e-01 : tensor<?x128xbf16>, tensor<?x64xbf16>, tensor<?x32xbf16>, tensor<?xi32>, tensor<?xi32>, tensor<5xi32> -> tensor<?x64xbf16>
  moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 4 kv_heads 2 scale 0.25 : tensor<?x128xbf16>, tensor<?x64xbf16>, tensor<?x32xbf16>, tensor<?xi32>, tensor<?xi32>, tensor<5xi32> -> tensor<?x64xbf16>
  // CHECK: moe.attention %{{.*}} sinks %{{.*}} cache @kv heads 4 kv_heads 2 scale 2.500000e-01 window 128 : {{.*}}, tensor<4xbf16> -> tensor<?x64xf32>
  moe.attention %q, %k, %v at %seq, %pos, %runs sinks %sinks cache @kv heads 4 kv_heads 2 scale 0.25 window 128 : tensor<?x128xbf16>, tensor<?x64xbf16>, tensor<?x32xbf16>, tensor<?xi32>, tensor<?xi32>, tensor<5xi32>, tensor<4xbf16> -> tensor<?x64xf32>
  return
}

// It writes the cache: neither an unused nor an equal one disappears. rope is pure: both go.
// EFFECT-LABEL: func @effects
// EFFECT-NOT: moe.rope
// EFFECT-COUNT-2: moe.attention
// EFFECT: return
func.func @effects(%q: tensor<?x128xbf16>, %k: tensor<?x64xbf16>, %v: tensor<?x32xbf16>, %at: tensor<?xi32>) {
  %r = moe.rope %q at %at heads 4 <kind = default, theta = 1.0e4, dim = 32> : tensor<?x128xbf16>, tensor<?xi32> -> tensor<?x128xbf16>
  %a = moe.attention %q, %k, %v at %at, %at, %at cache @kv heads 4 kv_heads 2 scale 0.25 : tensor<?x128xbf16>, tensor<?x64xbf16>, tensor<?x32xbf16>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xbf16>
  %b = moe.attention %q, %k, %v at %at, %at, %at cache @kv heads 4 kv_heads 2 scale 0.25 : tensor<?x128xbf16>, tensor<?x64xbf16>, tensor<?x32xbf16>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xbf16>
  return
}
