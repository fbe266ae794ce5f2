//===- Values.cpp - Values with arithmetic, to write kernels with ---------===//

#include "lowering/Kernels/Values.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe::kernels;

template <typename Op, typename T> static T binary(T a, T c) {
  return {a.b, Op::create(*a.b, a.b->getLoc(), a.value, c.value)};
}

static Int constant(Int like, int64_t value) {
  return {like.b, arith::ConstantOp::create(*like.b, like.b->getI64IntegerAttr(value))};
}

Int mlir::moe::kernels::operator+(Int a, Int c) { return binary<arith::AddIOp>(a, c); }
Int mlir::moe::kernels::operator-(Int a, Int c) { return binary<arith::SubIOp>(a, c); }
Int mlir::moe::kernels::operator*(Int a, Int c) { return binary<arith::MulIOp>(a, c); }
Int mlir::moe::kernels::operator/(Int a, Int c) { return binary<arith::DivUIOp>(a, c); }
Int mlir::moe::kernels::operator%(Int a, Int c) { return binary<arith::RemUIOp>(a, c); }
Int mlir::moe::kernels::operator+(Int a, int64_t c) { return a + constant(a, c); }
Int mlir::moe::kernels::operator-(Int a, int64_t c) { return a - constant(a, c); }
Int mlir::moe::kernels::operator*(Int a, int64_t c) { return a * constant(a, c); }
Int mlir::moe::kernels::operator/(Int a, int64_t c) { return a / constant(a, c); }
Int mlir::moe::kernels::operator%(Int a, int64_t c) { return a % constant(a, c); }
Value mlir::moe::kernels::operator<(Int a, Int c) {
  return arith::CmpIOp::create(*a.b, a.b->getLoc(), arith::CmpIPredicate::slt, a.value, c.value);
}
Value mlir::moe::kernels::operator==(Int a, Int c) {
  return arith::CmpIOp::create(*a.b, a.b->getLoc(), arith::CmpIPredicate::eq, a.value, c.value);
}

Num mlir::moe::kernels::operator+(Num a, Num c) { return binary<arith::AddFOp>(a, c); }
Num mlir::moe::kernels::operator-(Num a, Num c) { return binary<arith::SubFOp>(a, c); }
Num mlir::moe::kernels::operator*(Num a, Num c) { return binary<arith::MulFOp>(a, c); }
Num mlir::moe::kernels::operator/(Num a, Num c) { return binary<arith::DivFOp>(a, c); }
