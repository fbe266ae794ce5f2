// moe.experts: a loop over the experts that have tokens, on slices; nothing has E or T times the size of a weight.
// RUN: moe-opt --moe-to-linalg --split-input-file %s | FileCheck-22 %s

// CHECK-LABEL: func.func @experts
// CHECK-SAME:    %[[X:[a-z0-9_]+]]: tensor<?x4xbf16>, %[[IDS:[a-z0-9_]+]]: tensor<?x2xi32>, %[[U:[a-z0-9_]+]]: tensor<5x6x4xbf16>, %[[D:[a-z0-9_]+]]: tensor<5x4x6xbf16>, %[[B:[a-z0-9_]+]]: tensor<5x6xbf16>
// CHECK:         %[[FLAT:[a-z0-9_]+]] = tensor.collapse_shape %[[IDS]]
// CHECK:         %[[OFFSETS:[a-z0-9_]+]] = linalg.generic {{.*}} outs(%{{.*}} : tensor<6xi32>)
// CHECK:         %[[SORTED:[a-z0-9_]+]] = linalg.generic {{.*}} outs(%{{.*}} : tensor<?x4xbf16>)
// CHECK:         scf.for %[[I:[a-z0-9_]+]] = %c0 to %[[BUSY:[a-z0-9_]+]] step %c1 {{.*}}-> (tensor<?x4xf32>)
// CHECK:           %[[E:[a-z0-9_]+]] = arith.index_cast
// CHECK:           %[[BEGIN:[a-z0-9_]+]] = arith.index_cast
// CHECK:           %[[COUNT:[a-z0-9_]+]] = arith.subi
// CHECK-DAG:       tensor.extract_slice %[[U]][%[[E]], 0, 0] [1, 6, 4] [1, 1, 1] : tensor<5x6x4xbf16> to tensor<1x6x4xbf16>
// CHECK-DAG:       tensor.extract_slice %[[D]][%[[E]], 0, 0] [1, 4, 6] [1, 1, 1] : tensor<5x4x6xbf16> to tensor<1x4x6xbf16>
// CHECK-DAG:       tensor.extract_slice %[[B]][%[[E]], 0] [1, 6] [1, 1] : tensor<5x6xbf16> to tensor<1x6xbf16>
// CHECK:           tensor.extract_slice %[[SORTED]][%[[BEGIN]], 0] [%[[COUNT]], 4] [1, 1]
// CHECK:           tensor.insert_slice %{{.*}} into %{{.*}}[%[[BEGIN]], 0] [%[[COUNT]], 4] [1, 1]
// Rows without an expert are 0.
// CHECK:         linalg.generic {{.*}} ins(%[[IDS]] :
// CHECK:         arith.select
func.func @experts(%x: tensor<?x4xbf16>, %ids: tensor<?x2xi32>, %u: tensor<5x6x4xbf16>, %d: tensor<5x4x6xbf16>, %b: tensor<5x6xbf16>) -> tensor<?x2x4xf32> {
  %y = moe.experts %x, %ids up %u down %d up_bias %b activation relu
      : tensor<?x4xbf16>, tensor<?x2xi32>, up tensor<5x6x4xbf16>, down tensor<5x4x6xbf16>, up_bias tensor<5x6xbf16> -> tensor<?x2x4xf32>
  return %y : tensor<?x2x4xf32>
}

// -----

// CHECK-LABEL: func.func @combine
// CHECK:         linalg.generic {{.*}}iterator_types = ["parallel", "parallel", "reduction"]
// CHECK:         arith.mulf {{.*}} : f32
// CHECK:         arith.addf {{.*}} : f32
func.func @combine(%y: tensor<?x2x4xf32>, %w: tensor<?x2xf32>) -> tensor<?x4xf32> {
  %o = moe.combine %y, %w : tensor<?x2x4xf32>, tensor<?x2xf32> -> tensor<?x4xf32>
  return %o : tensor<?x4xf32>
}
