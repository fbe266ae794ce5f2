//===- WeightKernels.cpp - Computations on weights, run once at load ---------===//
//
// Kernels of initializers: diagonal scaling, sums, floors, products with a map.
// They write rows with a stride, so that a part of a concatenation is computed
// where it belongs and never copied. Like every kernel they compute in f32 and
// round once at the store.
//
//===----------------------------------------------------------------------===//

#include "lowering/CPU/Kernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

void ScaleRowsKernel::emit(KernelBuilder &b) const {
  Value from = b.nextPointer(), factors = b.nextPointer();
  Value divisors = over ? b.nextPointer() : Value();
  Value to = b.nextPointer();
  Int n = b.nextInt(), length = b.nextInt(), stride = b.nextInt();
  Int row = b.workgroup * n, outRow = b.workgroup * stride;
  Num rowFactor;
  if (!alongRow) {
    Int i = b.workgroup % length;
    rowFactor = b.loadScalar(b.at(factors, i, by), by);
    if (over) {
      rowFactor = rowFactor / b.loadScalar(b.at(divisors, i, over), over);
    }
    rowFactor = b.splat(rowFactor);
  }
  b.overVectors(n, b.lanes, /*divisible=*/false, [&](Int i, std::optional<Int> count) {
    Num factor = rowFactor;
    if (alongRow) {
      factor = b.loadVec(b.at(factors, i, by), by, b.lanes, count);
      if (over) {
        factor = factor / b.loadVec(b.at(divisors, i, over), over, b.lanes, count);
      }
    }
    b.storeVec(b.loadVec(b.at(from, row + i, in), in, b.lanes, count) * factor, b.at(to, outRow + i, out), out, count);
  });
}

void SumRowsKernel::emit(KernelBuilder &b) const {
  SmallVector<Value> from;
  for (size_t i = 0; i < ins.size(); ++i) {
    from.push_back(b.nextPointer());
  }
  Value to = b.nextPointer();
  Int n = b.nextInt(), stride = b.nextInt();
  Int row = b.workgroup * n, outRow = b.workgroup * stride;
  b.overVectors(n, b.lanes, /*divisible=*/false, [&](Int i, std::optional<Int> count) {
    Num sum = b.loadVec(b.at(from.front(), row + i, ins.front()), ins.front(), b.lanes, count);
    for (size_t k = 1; k < ins.size(); ++k) {
      sum = sum + b.loadVec(b.at(from[k], row + i, ins[k]), ins[k], b.lanes, count);
    }
    b.storeVec(sum, b.at(to, outRow + i, out), out, count);
  });
}

void FloorRowsKernel::emit(KernelBuilder &b) const {
  Value from = b.nextPointer(), to = b.nextPointer();
  Int n = b.nextInt(), stride = b.nextInt();
  Num floor = b.splat(b.nextFloat());
  Int row = b.workgroup * n, outRow = b.workgroup * stride;
  b.overVectors(n, b.lanes, /*divisible=*/false, [&](Int i, std::optional<Int> count) {
    Num value = b.loadVec(b.at(from, row + i, in), in, b.lanes, count);
    Value magnitude = math::AbsFOp::create(b, value);
    Value below = arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, magnitude, floor);
    b.storeVec(b.select(below, floor, value), b.at(to, outRow + i, out), out, count);
  });
}

// A row beyond the last is the last once more: one form of the loop for every M.
void ProductKernel::emit(KernelBuilder &b) const {
  Value left = b.nextPointer(), right = b.nextPointer(), to = b.nextPointer();
  Int m = b.nextInt(), k = b.nextInt(), n = b.nextInt(), stride = b.nextInt();
  SmallVector<Int> rows;
  for (int64_t r = 0; r < blockRows; ++r) {
    rows.push_back(b.min(b.workgroup * blockRows + r, m - 1));
  }
  b.overVectors(n, b.lanes, /*divisible=*/false, [&](Int i, std::optional<Int> count) {
    SmallVector<Value> zeros(blockRows, b.number(0.0).value);
    SmallVector<Value> sums = b.loop(b.i64(0), k, 1, zeros, [&](Int j, ValueRange carried) {
      Num column = b.loadVec(b.at(right, j * n + i, rhs), rhs, b.lanes, count);
      SmallVector<Value> next;
      for (int64_t r = 0; r < blockRows; ++r) {
        Num element = b.splat(b.loadScalar(b.at(left, rows[r] * k + j, lhs), lhs));
        next.push_back(b.fma(element, column, {&b, carried[r]}));
      }
      return next;
    });
    for (int64_t r = 0; r < blockRows; ++r) {
      b.storeVec({&b, sums[r]}, b.at(to, rows[r] * stride + i, out), out, count);
    }
  });
}
