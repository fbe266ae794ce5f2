//===- Tiles.cpp - Tiles in shared memory, copy rings and matrix fragments ---===//

#include "lowering/GPU/Tiles.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe::gpu;

//===----------------------------------------------------------------------===//
// SharedTile
//===----------------------------------------------------------------------===//

// Eight rows in a column of pieces are what ldmatrix reads at a time. Two rows fill the 32 banks, so that the piece is
// permuted by the number of the pair.
Int SharedTile::offset(KernelBuilder &b, Int row, Int p) {
  Value permuted = arith::XOrIOp::create(b, p.value, (row / 2 % pieces).value);
  return row * depth + Int{&b, permuted} * piece;
}

//===----------------------------------------------------------------------===//
// CopyRing
//===----------------------------------------------------------------------===//

SmallVector<Int> CopyRing::rowsOfThread(KernelBuilder &b, SharedTile tile) {
  SmallVector<Int> rows;
  for (int64_t first = 0; first < tile.rows * SharedTile::pieces; first += b.threads) {
    rows.push_back((b.thread + first) / SharedTile::pieces);
  }
  return rows;
}

CopyRing::CopyRing(KernelBuilder &b, Value memory, ArrayRef<Source> sources, Int k)
    : b(b), memory(memory), sources(sources), k(k) {
  for (const Source &source : sources) {
    offsets.push_back(stageElements);
    stageElements += source.tile.elements();
  }
}

Value CopyRing::tileAt(Int step, size_t source) {
  return b.at(memory, step % stages * stageElements + offsets[source], b.getI16Type());
}

/// Begins the copies of `step`. Pieces beyond K are zero and nothing of them is read.
void CopyRing::issue(Int step) {
  const Type element = b.getI16Type();
  Int p = b.thread % SharedTile::pieces, at = step * SharedTile::depth + p * SharedTile::piece;
  Int bytes = b.select(at < k, b.i64(16), b.i64(0)), from = b.min(at, k - SharedTile::piece);
  for (auto [number, source] : llvm::enumerate(sources)) {
    Value tile = tileAt(step, number);
    for (auto [row, pointer] : llvm::zip_equal(rowsOfThread(b, source.tile), source.rows)) {
      NVVM::CpAsyncOp::create(b, b.at(tile, SharedTile::offset(b, row, p), element), b.at(pointer, from, element), 16,
                              NVVM::LoadCacheModifierKind::CG, b.toI32(bytes));
    }
  }
  NVVM::CpAsyncCommitGroupOp::create(b);
}

// A step waits for its own stage, and for all threads: their copies have landed
// too, and the stage of the step before is free for the copies that begin now.
SmallVector<Value> CopyRing::overSteps(ValueRange inits,
                                       llvm::function_ref<SmallVector<Value>(ArrayRef<Value>, ValueRange)> body) {
  for (int64_t step = 0; step < stages - 1; ++step) {
    issue(b.i64(step));
  }
  SmallVector<Value> results =
      b.loop(b.i64(0), b.ceilDiv(k, b.i64(SharedTile::depth)), b.i64(1), inits, [&](Int step, ValueRange carried) {
        NVVM::CpAsyncWaitGroupOp::create(b, stages - 2);
        b.barrier();
        issue(step + (stages - 1));
        SmallVector<Value> tiles;
        for (size_t source = 0; source < sources.size(); ++source) {
          tiles.push_back(tileAt(step, source));
        }
        return body(tiles, carried);
      });
  // The copies beyond the last step have no reader, but write what comes next in this memory.
  NVVM::CpAsyncWaitGroupOp::create(b, 0);
  b.barrier();
  return results;
}

//===----------------------------------------------------------------------===//
// Fragments
//===----------------------------------------------------------------------===//

SmallVector<Value> mlir::moe::gpu::loadMatrices(KernelBuilder &b, Value pointer, bool transposed) {
  Type word = b.getI32Type();
  Type type = LLVM::LLVMStructType::getLiteral(b.getContext(), {word, word, word, word});
  Value loaded =
      NVVM::LdMatrixOp::create(b, type, pointer, 4, transposed ? NVVM::MMALayout::col : NVVM::MMALayout::row,
                               NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8), NVVM::LdStMatrixEltType::B16);
  SmallVector<Value> words;
  for (int64_t i = 0; i < 4; ++i) {
    words.push_back(LLVM::ExtractValueOp::create(b, loaded, i));
  }
  return words;
}

SmallVector<Value> mlir::moe::gpu::multiplyMatrices(KernelBuilder &b, ArrayRef<Value> rows, ArrayRef<Value> columns,
                                                    ValueRange sums) {
  Type four = LLVM::LLVMStructType::getLiteral(b.getContext(), SmallVector<Type>(4, b.f32()));
  Value product =
      NVVM::MmaOp::create(b, four, rows, columns, sums, ArrayRef<int64_t>{16, 8, 16}, std::nullopt, std::nullopt,
                          std::array<NVVM::MMATypes, 2>{NVVM::MMATypes::bf16, NVVM::MMATypes::bf16},
                          std::array<NVVM::MMALayout, 2>{NVVM::MMALayout::row, NVVM::MMALayout::col});
  SmallVector<Value> results;
  for (int64_t i = 0; i < 4; ++i) {
    results.push_back(LLVM::ExtractValueOp::create(b, product, i));
  }
  return results;
}

SmallVector<Value> Fragments::multiply(KernelBuilder &b, Value tileA, Int row0, Value tileB, Int column0,
                                       ValueRange sums) {
  constexpr int64_t height = 16, width = 8, depth = 16;
  const Type element = b.getI16Type();
  SmallVector<Value> next(sums);
  for (int64_t k = 0; k < SharedTile::depth; k += depth) {
    // A: rows 0-7 and 8-15, then the same of the second half of K. B: both halves of K of rows 0-7, then of 8-15.
    SmallVector<SmallVector<Value>> as, bs;
    for (int64_t row = 0; row < rows; row += height) {
      Int at = row0 + row + b.lane % 16, p = b.lane / 16 + k / SharedTile::piece;
      as.push_back(loadMatrices(b, b.at(tileA, SharedTile::offset(b, at, p), element)));
    }
    for (int64_t column = 0; column < columns; column += 2 * width) {
      Int at = column0 + column + b.lane / 16 * 8 + b.lane % 8, p = b.lane / 8 % 2 + k / SharedTile::piece;
      bs.push_back(loadMatrices(b, b.at(tileB, SharedTile::offset(b, at, p), element)));
    }
    size_t at = 0;
    for (const SmallVector<Value> &a : as) {
      for (const SmallVector<Value> &pair : bs) {
        for (size_t half = 0; half < 2; ++half, at += 4) {
          llvm::copy(multiplyMatrices(b, a, {pair[2 * half], pair[2 * half + 1]}, ValueRange(next).slice(at, 4)),
                     next.begin() + static_cast<ptrdiff_t>(at));
        }
      }
    }
  }
  return next;
}

// Of a 16x8 product a lane has columns 2 (l % 4) and the next, of rows l / 4 and 8 further.
void Fragments::store(KernelBuilder &b, ValueRange sums, Value memory, Int row0, Int column0, int64_t stride) {
  size_t at = 0;
  for (int64_t row = 0; row < rows; row += 16) {
    for (int64_t column = 0; column < columns; column += 8) {
      for (int64_t i = 0; i < 4; ++i, ++at) {
        Int r = row0 + (row + i / 2 * 8) + b.lane / 4, c = column0 + (column + i % 2) + b.lane % 4 * 2;
        b.storeScalar({&b, sums[at]}, memory, r * stride + c, b.f32());
      }
    }
  }
}
