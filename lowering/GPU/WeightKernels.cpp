//===- WeightKernels.cpp - Computations on weights, and copies of rows ----===//
//
// Kernels of initializers, as on CPUs, and those that copy rows among ranks: they write rows with a stride, compute in
// f32 and round once at the store. Like those of the row kernels, neighbouring
// threads take neighbouring elements; whole rows are copied by 16 bytes where
// everything is aligned for it.
//
//===----------------------------------------------------------------------===//

#include "lowering/GPU/Kernels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

/// Writes `bytes` bytes to `to`: those at `from`, or zeros if that is null.
static void copyBytes(KernelBuilder &b, Value from, Value to, Int bytes) {
  constexpr int64_t wide = 16;
  auto bits = [&](Value pointer) -> Value { return LLVM::PtrToIntOp::create(b, b.getI64Type(), pointer); };
  Value all = arith::OrIOp::create(b, bits(to), bytes.value);
  if (from) {
    all = arith::OrIOp::create(b, all, bits(from));
  }
  Type words = VectorType::get({4}, b.getI32Type()), byte = b.getI8Type();
  auto copy = [&](Type type, Int count) {
    b.overThreads(count, [&](Int i) {
      const unsigned alignment = type == byte ? 1 : wide;
      Value value = from ? LLVM::LoadOp::create(b, type, b.at(from, i, type), alignment).getResult()
                         : LLVM::ZeroOp::create(b, type).getResult();
      LLVM::StoreOp::create(b, value, b.at(to, i, type), alignment);
    });
  };
  b.ifElse(Int{&b, all} % wide == b.i64(0), [&] { copy(words, bytes / wide); }, [&] { copy(byte, bytes); });
}

void mlir::moe::gpu::emit(const kernels::CopyRows &, KernelBuilder &b) {
  Value in = b.nextPointer(), to = b.nextPointer();
  Int inBytes = b.nextInt(), outBytes = b.nextInt();
  Type byte = b.getI8Type();
  copyBytes(b, b.at(in, b.workgroup * inBytes, byte), b.at(to, b.workgroup * outBytes, byte), inBytes);
}

void mlir::moe::gpu::emit(const kernels::CopyListedRows &kernel, KernelBuilder &b) {
  Value in = b.nextPointer(), list = b.nextPointer(), to = b.nextPointer();
  Int bytes = b.nextInt(), row = b.loadI32(list, b.workgroup);
  Type byte = b.getI8Type();
  Value into = b.at(to, b.workgroup * bytes, byte), isThere = b.i64(-1) < row;
  auto copy = [&] { copyBytes(b, b.at(in, row * bytes, byte), into, bytes); };
  if (!kernel.zeroMissing) {
    b.ifThen(isThere, copy);
    return;
  }
  b.ifElse(isThere, copy, [&] { copyBytes(b, Value(), into, bytes); });
}

void mlir::moe::gpu::emit(const kernels::CopyPart &, KernelBuilder &b) {
  Value in = b.nextPointer(), to = b.nextPointer();
  Int bytes = b.nextInt(), inStride = b.nextInt(), outStride = b.nextInt(), copies = b.nextInt(), rank = b.nextInt();
  Type byte = b.getI8Type();
  copyBytes(b, b.at(in, b.workgroup * inStride + rank / copies * bytes, byte), b.at(to, b.workgroup * outStride, byte),
            bytes);
}

void mlir::moe::gpu::emit(const kernels::ScaleRows &kernel, KernelBuilder &b) {
  Value from = b.nextPointer(), factors = b.nextPointer();
  Value divisors = kernel.over ? b.nextPointer() : Value();
  Value to = b.nextPointer();
  Int n = b.nextInt(), length = b.nextInt(), stride = b.nextInt();
  Int row = b.workgroup * n, outRow = b.workgroup * stride;
  b.overThreads(n, [&](Int i) {
    Int at = kernel.alongRow ? i : b.workgroup % length;
    Num factor = b.loadScalar(factors, at, kernel.by);
    if (kernel.over) {
      factor = factor / b.loadScalar(divisors, at, kernel.over);
    }
    b.storeScalar(b.loadScalar(from, row + i, kernel.in) * factor, to, outRow + i, kernel.out);
  });
}

void mlir::moe::gpu::emit(const kernels::SumRows &kernel, KernelBuilder &b) {
  SmallVector<Value> from;
  for (size_t i = 0; i < kernel.ins.size(); ++i) {
    from.push_back(b.nextPointer());
  }
  Value to = b.nextPointer();
  Int n = b.nextInt(), stride = b.nextInt();
  Int row = b.workgroup * n, outRow = b.workgroup * stride;
  b.overThreads(n, [&](Int i) {
    Num sum = b.loadScalar(from.front(), row + i, kernel.ins.front());
    for (size_t k = 1; k < from.size(); ++k) {
      sum = sum + b.loadScalar(from[k], row + i, kernel.ins[k]);
    }
    b.storeScalar(sum, to, outRow + i, kernel.out);
  });
}

void mlir::moe::gpu::emit(const kernels::FloorRows &kernel, KernelBuilder &b) {
  Value from = b.nextPointer(), to = b.nextPointer();
  Int n = b.nextInt(), stride = b.nextInt();
  Num floor = b.nextFloat();
  Int row = b.workgroup * n, outRow = b.workgroup * stride;
  b.overThreads(n, [&](Int i) {
    Num value = b.loadScalar(from, row + i, kernel.in);
    b.storeScalar(b.select(b.less(b.abs(value), floor), floor, value), to, outRow + i, kernel.out);
  });
}

// A row beyond the last is the last once more, but is not stored twice: that
// would be a race.
void mlir::moe::gpu::emit(const kernels::Product &kernel, KernelBuilder &b) {
  Value left = b.nextPointer(), right = b.nextPointer(), to = b.nextPointer();
  Int m = b.nextInt(), k = b.nextInt(), n = b.nextInt(), stride = b.nextInt();
  Int first = b.workgroup * kernels::Product::blockRows;
  b.overThreads(n, [&](Int i) {
    SmallVector<Value> zeros(kernels::Product::blockRows, b.number(0.0).value);
    SmallVector<Value> sums = b.loop(b.i64(0), k, b.i64(1), zeros, [&](Int j, ValueRange carried) {
      Num column = b.loadScalar(right, j * n + i, kernel.rhs);
      SmallVector<Value> next;
      for (auto [r, sum] : llvm::enumerate(carried)) {
        Int row = b.min(first + static_cast<int64_t>(r), m - 1);
        next.push_back(b.fma(b.loadScalar(left, row * k + j, kernel.lhs), column, {&b, sum}));
      }
      return next;
    });
    for (auto [r, sum] : llvm::enumerate(sums)) {
      Int row = first + static_cast<int64_t>(r);
      b.ifThen(row < m, [&, value = sum] { b.storeScalar({&b, value}, to, row * stride + i, kernel.out); });
    }
  });
}
