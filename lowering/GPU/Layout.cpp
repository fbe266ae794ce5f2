//===- Layout.cpp - Tiles as TMA writes and wgmma reads them --------------===//

#include "lowering/GPU/Layout.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe::gpu;

Int SwizzledTile::pieceAddress(KernelBuilder &b, Int tile, Int row, Int p) {
  Int permuted{&b, arith::XOrIOp::create(b, p.value, (row % pieces).value)};
  return tile + row * rowBytes + permuted * (rowBytes / pieces);
}

// In units of 16 bytes: the address in bits 0-13, the distance of groups of eight rows in bits 32-45. Bits 62-63: 1 for
// a swizzle of 128 bytes, for which the distance in bits 16-29 says nothing and is 1.
Value SwizzledTile::descriptor(KernelBuilder &b, Int tile) {
  constexpr int64_t unit = 16;
  constexpr uint64_t fixed = uint64_t(1) << 62 | uint64_t(alignment / unit) << 32 | uint64_t(1) << 16;
  return arith::OrIOp::create(b, (tile / unit).value, b.i64(static_cast<int64_t>(fixed)).value);
}

void mlir::moe::gpu::copyBox(KernelBuilder &b, Int tile, Value map, Int row, Int column, Int barrier) {
  b.assemble("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [$0], [$1, {$2, $3}], "
             "[$4];",
             "r,l,r,r,r", {b.toI32(tile), b.addressOf(map).value, b.toI32(column), b.toI32(row), b.toI32(barrier)});
}
