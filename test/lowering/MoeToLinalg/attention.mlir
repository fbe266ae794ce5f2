// moe.attention: caches become arguments and results, threaded through consecutive ops; window and sinks.
// RUN: moe-opt --moe-to-linalg --split-input-file %s | FileCheck-22 %s

moe.state @kv0 : !moe.kv_cache<heads = 2, key_dim = 4, value_dim = 3, element = bf16>

// CHECK-LABEL: func.func @step
// CHECK-SAME:    %[[Q:[a-z0-9_]+]]: tensor<?x16xbf16>, %[[K:[a-z0-9_]+]]: tensor<?x8xbf16>, %[[V:[a-z0-9_]+]]: tensor<?x6xbf16>, %[[SEQ:[a-z0-9_]+]]: tensor<?xi32>, %[[POS:[a-z0-9_]+]]: tensor<?xi32>, %{{.*}}: tensor<?xi32>,
// CHECK-SAME:    %[[KEYS:[a-z0-9_]+]]: tensor<?x?x2x4xbf16> {moe.state = "kv0.keys"}, %[[VALUES:[a-z0-9_]+]]: tensor<?x?x2x3xbf16> {moe.state = "kv0.values"})
// CHECK-SAME:    -> (tensor<?x12xbf16>, tensor<?x?x2x4xbf16>, tensor<?x?x2x3xbf16>)
// The writes of every token come first.
// CHECK:         %[[KEYS1:[a-z0-9_]+]] = scf.for %[[T:[a-z0-9_]+]] = {{.*}} iter_args(%[[CARRIED:[a-z0-9_]+]] = %[[KEYS]])
// CHECK:           tensor.extract %[[SEQ]][%[[T]]]
// CHECK:           tensor.extract %[[POS]][%[[T]]]
// CHECK:           tensor.insert_slice %{{.*}} into %[[CARRIED]][%{{.*}}, %{{.*}}, 0, 0] [1, 1, 2, 4]
// CHECK:         %[[VALUES1:[a-z0-9_]+]] = scf.for {{.*}} iter_args(%{{.*}} = %[[VALUES]])
// CHECK:         %[[OUT:[a-z0-9_]+]] = scf.for
// CHECK:           %[[COUNT:[a-z0-9_]+]] = arith.addi %{{.*}}, %c1
// CHECK:           tensor.extract_slice %[[KEYS1]][%{{.*}}, 0, 0, 0] [1, %[[COUNT]], 2, 4]
// CHECK:           tensor.extract_slice %[[VALUES1]][%{{.*}}, 0, 0, 0] [1, %[[COUNT]], 2, 3]
// Scores, scale, maximum from -inf, exp, sum from 0, product, quotient.
// CHECK:           arith.extf {{.*}} : bf16 to f32
// CHECK:           arith.mulf {{.*}} : f32
// CHECK:           arith.maximumf
// CHECK:           math.exp
// CHECK:           arith.divf
// CHECK:           arith.truncf {{.*}} : f32 to bf16
// CHECK:         return %{{.*}}, %[[KEYS1]], %[[VALUES1]]
func.func @step(%q: tensor<?x16xbf16>, %k: tensor<?x8xbf16>, %v: tensor<?x6xbf16>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>) -> tensor<?x12xbf16> {
  %o = moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv0 heads 4 kv_heads 2 scale 0.5
      : tensor<?x16xbf16>, tensor<?x8xbf16>, tensor<?x6xbf16>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x12xbf16>
  return %o : tensor<?x12xbf16>
}
// CHECK-NOT: moe.state @

// -----

moe.state @kv : !moe.kv_cache<heads = 1, key_dim = 2, value_dim = 2, element = f32>

// The second op reads what the first left, and the sinks start maximum and sum.
// CHECK-LABEL: func.func @twice
// CHECK-SAME:    %[[SINKS:[a-z0-9_]+]]: tensor<2xf32>, %[[KEYS:[a-z0-9_]+]]: tensor<?x?x1x2xf32> {moe.state = "kv.keys"}, %[[VALUES:[a-z0-9_]+]]: tensor<?x?x1x2xf32> {moe.state = "kv.values"}
// CHECK:         %[[KEYS1:[a-z0-9_]+]] = scf.for {{.*}} iter_args(%{{.*}} = %[[KEYS]])
// CHECK:         %[[VALUES1:[a-z0-9_]+]] = scf.for {{.*}} iter_args(%{{.*}} = %[[VALUES]])
// CHECK:         scf.for
// CHECK:           %[[END:[a-z0-9_]+]] = arith.addi %{{.*}}, %c1
// CHECK:           %[[CUT:[a-z0-9_]+]] = arith.addi %{{.*}}, %c-2
// CHECK:           %[[BEGIN:[a-z0-9_]+]] = arith.maxsi %[[CUT]], %c0
// CHECK:           %[[COUNT:[a-z0-9_]+]] = arith.subi %[[END]], %[[BEGIN]]
// CHECK:           tensor.extract_slice %[[KEYS1]][%{{.*}}, %[[BEGIN]], 0, 0] [1, %[[COUNT]], 1, 2]
// CHECK:         %[[KEYS2:[a-z0-9_]+]] = scf.for {{.*}} iter_args(%{{.*}} = %[[KEYS1]])
// CHECK:         %[[VALUES2:[a-z0-9_]+]] = scf.for {{.*}} iter_args(%{{.*}} = %[[VALUES1]])
// CHECK:         tensor.expand_shape %[[SINKS]] {{.*}} : tensor<2xf32> into tensor<1x2xf32>
// CHECK:         return %{{.*}}, %[[KEYS2]], %[[VALUES2]]
func.func @twice(%q: tensor<?x4xf32>, %k: tensor<?x2xf32>, %v: tensor<?x2xf32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %sinks: tensor<2xf32>) -> tensor<?x4xf32> {
  %o = moe.attention %q, %k, %v at %seq, %pos, %runs cache @kv heads 2 kv_heads 1 scale 1.0 window 3
      : tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x2xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x4xf32>
  %p = moe.attention %o, %v, %k at %seq, %pos, %runs sinks %sinks cache @kv heads 2 kv_heads 1 scale 1.0
      : tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x2xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<2xf32> -> tensor<?x4xf32>
  return %p : tensor<?x4xf32>
}
