// An exchange of one rank is its operand; among more, it is refused by name.
// RUN: moe-opt %s --moe-lower-to-linalg | FileCheck %s
// RUN: sed 's/ranks 1/ranks 2/' %s | not moe-opt --moe-lower-to-linalg 2>&1 | FileCheck %s --check-prefix=SEVERAL

// SEVERAL: error: 'moe.all_reduce' op cannot be lowered to linalg: it is of a module for several ranks, of which linalg knows nothing; lower the module before it is divided among ranks
// SEVERAL: error: 'moe.all_gather' op cannot be lowered to linalg
// SEVERAL: error: 'moe.reduce_scatter' op cannot be lowered to linalg

// CHECK-LABEL: func.func @one
// CHECK-SAME: (%[[X:.*]]: tensor<?x64xf32>, %[[IDS:.*]]: tensor<?x2xi32>)
// CHECK-NEXT: return %[[X]], %[[IDS]]
func.func @one(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>) -> (tensor<?x64xf32>, tensor<?x2xi32>) {
  %a = moe.all_reduce %x ranks 1 : tensor<?x64xf32>
  %g = moe.all_gather %ids ranks 1 : tensor<?x2xi32> -> tensor<?x2xi32>
  %s = moe.reduce_scatter %a ranks 1 : tensor<?x64xf32> -> tensor<?x64xf32>
  return %s, %g : tensor<?x64xf32>, tensor<?x2xi32>
}
