// A map of moec place on the experts of its layer; in order without one; a map of another model is refused.
// RUN: moe-opt %s --moe-place-experts=map=%S/Inputs/place-one-layer.json --moe-verify-moe-level | FileCheck %s
// RUN: moe-opt %s --moe-place-experts=ranks=2 | FileCheck %s --check-prefix=LINEAR
// RUN: not moe-opt %s --moe-place-experts=ranks=3 2>&1 | FileCheck %s --check-prefix=DIVIDE
// RUN: not moe-opt %s --moe-place-experts 2>&1 | FileCheck %s --check-prefix=NOTHING
// RUN: not moe-opt %s --moe-place-experts="map=%S/Inputs/place-one-layer.json ranks=3" 2>&1 | FileCheck %s --check-prefix=RANKS
// RUN: not moe-opt %s --moe-place-experts=map=%S/Inputs/place-other-model.json 2>&1 | FileCheck %s --check-prefix=MODEL
// RUN: not moe-opt %s --moe-place-experts=map=%S/Inputs/place-other-layer.json 2>&1 | FileCheck %s --check-prefix=LAYER
// RUN: not moe-opt %s --moe-place-experts=map=%S/Inputs/place-duplicate.json 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not moe-opt %s --moe-place-experts=map=%S/Inputs/place-short.json 2>&1 | FileCheck %s --check-prefix=SHORT
// RUN: not moe-opt %s --moe-place-experts=map=%S/Inputs/two-layers-d.json 2>&1 | FileCheck %s --check-prefix=FORMAT
// RUN: sed 's/= moe.add %h, %o/= moe.add %h, %n/' %s | not moe-opt --moe-place-experts=ranks=2 2>&1 | FileCheck %s --check-prefix=ASIDE
// RUN: moe-opt %s --moe-expert-parallel=ranks=2 2>/dev/null | not moe-opt --moe-place-experts=ranks=2 2>&1 | FileCheck %s --check-prefix=DIVIDED
// RUN: sed 's/@step/@other/' %s | not moe-opt --moe-place-experts=ranks=2 2>&1 | FileCheck %s --check-prefix=STEP

// CHECK: moe.experts {{.*}} activation relu placement <ranks = 2, slots = [0, 1, 2, 3, 0, 1], shares = [3, 1, 1, 1, 1, 0]> : tensor<?x8xf32>
// LINEAR: placement <ranks = 2, slots = [0, 1, 2, 3]>
// DIVIDE: error: 'moe.experts' op has E = 4 experts, which 3 ranks do not divide: give a map (moec place)
// NOTHING: error: moe-place-experts needs a map, or ranks to place experts on in order
// RANKS: error: {{.*}}place-one-layer.json: is for 2 ranks, but these are 3
// MODEL: error: {{.*}}place-other-model.json: is for a model of 2 layers, but this one has 1
// LAYER: error: 'moe.experts' op is of layer 0, which the map {{.*}}place-other-layer.json leaves out
// TWICE: error: {{.*}}place-duplicate.json: layer 0: rank 1 holds expert 0 twice (slot 5 again), but one copy serves a rank
// SHORT: error: {{.*}}place-short.json: 'layers[0].slots' must be a list of 6 numbers (one per slot), but is one of 4
// ASIDE: error: 'moe.experts' op is of no layer: moe-place-experts expects its result to reach the residual stream through moe.combine and moe.add only
// DIVIDED: error: {{.*}}is divided among 2 ranks already; moe-place-experts takes a module of one rank
// STEP: error: {{.*}}has no function @step, which moe-place-experts could divide among ranks
// FORMAT: error: {{.*}}two-layers-d.json: is not a placement: an object with "format": "moe-placement" is expected, as moec place --format json writes it
moe.weight @embed : tensor<16x8xf32>
moe.weight @norm : tensor<8xf32>
moe.weight @router : tensor<4x8xf32>
moe.weight @up source "experts.{}.up" stacked : tensor<4x6x8xf32>
moe.weight @down source "experts.{}.down" stacked : tensor<4x8x6xf32>
func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x16xf32> {
  %embed = moe.get_weight @embed : tensor<16x8xf32>
  %h = moe.embedding %tokens, %embed : tensor<?xi32>, tensor<16x8xf32> -> tensor<?x8xf32>
  %norm = moe.get_weight @norm : tensor<8xf32>
  %n = moe.rms_norm %h, %norm eps 1.0e-05 : tensor<?x8xf32>, tensor<8xf32> -> tensor<?x8xf32>
  %router = moe.get_weight @router : tensor<4x8xf32>
  %scores = moe.linear %n, %router : tensor<?x8xf32>, tensor<4x8xf32> -> tensor<?x4xf32>
  %ids, %weights = moe.route %scores top 2 score softmax renormalize sum : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %up = moe.get_weight @up : tensor<4x6x8xf32>
  %down = moe.get_weight @down : tensor<4x8x6xf32>
  %y = moe.experts %n, %ids up %up down %down activation relu : tensor<?x8xf32>, tensor<?x2xi32>, up tensor<4x6x8xf32>, down tensor<4x8x6xf32> -> tensor<?x2x8xf32>
  %o = moe.combine %y, %weights : tensor<?x2x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %x = moe.add %h, %o {moe.layers = array<i64: 0, 0>} : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.gather_rows %x, %rows : tensor<?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %logits = moe.linear %l, %embed : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
  return %logits : tensor<?x16xf32>
}
