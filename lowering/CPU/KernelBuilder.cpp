//===- KernelBuilder.cpp - Writing a CPU kernel as vector/scf/arith ops ---===//

#include "lowering/CPU/KernelBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "llvm/ADT/bit.h"

using namespace mlir;
using namespace mlir::moe::cpu;

template <typename Op, typename T> static T binary(T a, T c) {
  return {a.b, Op::create(*a.b, a.b->getLoc(), a.value, c.value)};
}

//===----------------------------------------------------------------------===//
// Function and operands
//===----------------------------------------------------------------------===//

KernelBuilder::KernelBuilder(ModuleOp module, StringRef name, const CpuTarget &target)
    : ImplicitLocOpBuilder(NameLoc::get(StringAttr::get(module.getContext(), name)), module.getContext()),
      target(target), lanes(target.lanes) {
  setInsertionPointToEnd(module.getBody());
  auto function = func::FuncOp::create(*this, name, getFunctionType({ptr(), getI64Type(), ptr()}, {}));
  setInsertionPointToStart(function.addEntryBlock());
  arguments = function.getArgument(0);
  workgroup = {this, function.getArgument(1)};
  scratch = function.getArgument(2);
}

void KernelBuilder::finish() { func::ReturnOp::create(*this); }

Value KernelBuilder::nextWord() {
  return LLVM::GEPOp::create(*this, ptr(), getI64Type(), arguments,
                             ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(nextArgument++)});
}

Value KernelBuilder::nextPointer() { return load(nextWord(), ptr()); }

Int KernelBuilder::nextInt() { return {this, load(nextWord(), getI64Type())}; }

Num KernelBuilder::nextFloat() { return {this, load(nextWord(), f32())}; }

//===----------------------------------------------------------------------===//
// Constants, conversions, selection
//===----------------------------------------------------------------------===//

static Value constant(KernelBuilder &b, Attribute value) {
  return arith::ConstantOp::create(b, cast<TypedAttr>(value));
}

/// `scalar` as a constant of `type`: itself, or in every lane.
static Value constantOf(KernelBuilder &b, Attribute scalar, Type type) {
  auto vector = dyn_cast<VectorType>(type);
  return constant(b, vector ? Attribute(DenseElementsAttr::get(vector, scalar)) : scalar);
}

Int KernelBuilder::i64(int64_t value) { return {this, constant(*this, getI64IntegerAttr(value))}; }

Num KernelBuilder::number(double value, Type type) {
  return {this, constantOf(*this, FloatAttr::get(getElementTypeOrSelf(type), value), type)};
}

Value KernelBuilder::integer(int64_t value, Type type) {
  return constantOf(*this, IntegerAttr::get(getElementTypeOrSelf(type), value), type);
}

Value KernelBuilder::laneNumbers() {
  return constant(*this, getI32VectorAttr(llvm::to_vector(llvm::seq<int32_t>(0, lanes))));
}

Num KernelBuilder::splat(Num scalar, int64_t n) {
  return {this, vector::BroadcastOp::create(*this, vec(scalar.value.getType(), n), scalar.value)};
}

Value KernelBuilder::splatI32(Int scalar) { return vector::BroadcastOp::create(*this, vecI32(), toI32(scalar)); }

Num KernelBuilder::toFloat(Int value) { return {this, arith::SIToFPOp::create(*this, f32(), value)}; }
Value KernelBuilder::toI32(Int value) { return arith::TruncIOp::create(*this, getI32Type(), value); }
Int KernelBuilder::fromI32(Value value) { return {this, arith::ExtSIOp::create(*this, getI64Type(), value)}; }

Int KernelBuilder::min(Int a, Int c) { return binary<arith::MinSIOp>(a, c); }
Int KernelBuilder::max(Int a, Int c) { return binary<arith::MaxSIOp>(a, c); }
Num KernelBuilder::min(Num a, Num c) { return binary<arith::MinNumFOp>(a, c); }
Num KernelBuilder::max(Num a, Num c) { return binary<arith::MaxNumFOp>(a, c); }
Int KernelBuilder::select(Value condition, Int a, Int c) {
  return {this, arith::SelectOp::create(*this, condition, a.value, c.value)};
}
Num KernelBuilder::select(Value condition, Num a, Num c) {
  return {this, arith::SelectOp::create(*this, condition, a.value, c.value)};
}
Value KernelBuilder::selectPointer(Value condition, Value a, Value c) {
  return LLVM::SelectOp::create(*this, condition, a, c);
}

Value KernelBuilder::firstLanes(Int count, int64_t n) {
  Value elements = arith::IndexCastOp::create(*this, getIndexType(), count.value);
  return vector::CreateMaskOp::create(*this, vec(getI1Type(), n), elements);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

static unsigned bytesOf(Type element) {
  return isa<LLVM::LLVMPointerType>(element) ? 8 : element.getIntOrFloatBitWidth() / 8;
}

Value KernelBuilder::at(Value base, Int offset, Type element) {
  return LLVM::GEPOp::create(*this, ptr(), element, base, ArrayRef<LLVM::GEPArg>{offset.value});
}
Value KernelBuilder::atBytes(Value base, Int bytes) { return at(base, bytes, getI8Type()); }

Value KernelBuilder::load(Value pointer, Type type) {
  return LLVM::LoadOp::create(*this, type, pointer, bytesOf(getElementTypeOrSelf(type)));
}

void KernelBuilder::store(Value value, Value pointer) {
  LLVM::StoreOp::create(*this, value, pointer, bytesOf(getElementTypeOrSelf(value.getType())));
}

Int KernelBuilder::loadI32(Value base, Int index) { return fromI32(load(at(base, index, getI32Type()), getI32Type())); }
void KernelBuilder::storeI32(Int value, Value base, Int index) { store(toI32(value), at(base, index, getI32Type())); }
Value KernelBuilder::loadPointer(Value table, Int index) { return load(at(table, index, ptr()), ptr()); }

Value KernelBuilder::loadRaw(Value pointer, Type element, int64_t n, std::optional<Int> count) {
  VectorType type = vec(element, n);
  if (!count) {
    return load(pointer, type);
  }
  return LLVM::MaskedLoadOp::create(*this, type, pointer, firstLanes(*count, n), constant(*this, getZeroAttr(type)),
                                    bytesOf(element));
}

/// `like` with another element type; a scalar type for a scalar.
static Type withElement(Type like, Type element) {
  auto vector = dyn_cast<VectorType>(like);
  return vector ? Type(vector.clone(element)) : element;
}

// bf16 is the upper half of an f32. It is loaded, masked and rounded as
// integers: without AVX512-BF16 the back end has no vector form for bf16 masks
// and turns the rounding into one library call per lane.
Num KernelBuilder::widen(Value raw, Type element) {
  if (element.isF32()) {
    return {this, raw};
  }
  Type wide = withElement(raw.getType(), f32());
  if (!element.isBF16()) {
    return {this, arith::ExtFOp::create(*this, wide, raw)};
  }
  Type words = withElement(raw.getType(), getI32Type());
  Value bits = arith::ShLIOp::create(*this, Value(arith::ExtUIOp::create(*this, words, raw)), integer(16, words));
  return {this, arith::BitcastOp::create(*this, wide, bits)};
}

Value KernelBuilder::narrow(Num value, Type element) {
  if (element.isF32()) {
    return value;
  }
  Type wide = value.value.getType();
  if (!element.isBF16()) {
    return arith::TruncFOp::create(*this, withElement(wide, element), value.value);
  }
  Type halves = withElement(wide, getI16Type());
  if (target.bf16Dot) {
    Value rounded = arith::TruncFOp::create(*this, withElement(wide, element), value.value);
    return arith::BitcastOp::create(*this, halves, rounded);
  }
  // Round to nearest, ties to even; a NaN keeps its upper half with the quiet
  // bit set.
  Type words = withElement(wide, getI32Type());
  Value bits = arith::BitcastOp::create(*this, words, value.value);
  Value high = arith::ShRUIOp::create(*this, bits, integer(16, words));
  Value odd = arith::AndIOp::create(*this, high, integer(1, words));
  Value up = arith::AddIOp::create(*this, Value(arith::AddIOp::create(*this, bits, integer(0x7fff, words))), odd);
  Value rounded = arith::ShRUIOp::create(*this, up, integer(16, words));
  Value isNaN = arith::CmpFOp::create(*this, arith::CmpFPredicate::UNO, value.value, value.value);
  Value quiet = arith::OrIOp::create(*this, high, integer(0x40, words));
  return arith::TruncIOp::create(*this, halves, Value(arith::SelectOp::create(*this, isNaN, quiet, rounded)));
}

/// The type that `element` has in memory: bf16 travels as integers (see
/// `widen`).
static Type memoryType(Type element) {
  return element.isBF16() ? Type(IntegerType::get(element.getContext(), 16)) : element;
}

Num KernelBuilder::loadVec(Value pointer, Type element, int64_t n, std::optional<Int> count) {
  return widen(loadRaw(pointer, memoryType(element), n, count), element);
}

void KernelBuilder::storeVec(Num value, Value pointer, Type element, std::optional<Int> count) {
  int64_t n = cast<VectorType>(value.value.getType()).getDimSize(0);
  Value raw = narrow(value, element);
  if (!count) {
    store(raw, pointer);
    return;
  }
  LLVM::MaskedStoreOp::create(*this, raw, pointer, firstLanes(*count, n), bytesOf(element));
}

Num KernelBuilder::loadScalar(Value pointer, Type element) {
  return widen(load(pointer, memoryType(element)), element);
}

void KernelBuilder::storeScalar(Num value, Value pointer, Type element) { store(narrow(value, element), pointer); }

Num KernelBuilder::round(Num value, Type element) { return widen(narrow(value, element), element); }

//===----------------------------------------------------------------------===//
// Vector arithmetic
//===----------------------------------------------------------------------===//

Num KernelBuilder::fma(Num a, Num c, Num sum) {
  return {this, vector::FMAOp::create(*this, a.value, c.value, sum.value)};
}

Num KernelBuilder::dotBf16(Value a, Value c, Num sum) {
  return {this, x86vector::DotBF16Op::create(*this, sum.value.getType(), sum.value, a, c)};
}

Num KernelBuilder::reduceAdd(Num value) {
  return {this,
          vector::ReductionOp::create(*this, vector::CombiningKind::ADD, value.value, arith::FastMathFlags::reassoc)};
}

Num KernelBuilder::reduceMax(Num value) {
  return {this, vector::ReductionOp::create(*this, vector::CombiningKind::MAXNUMF, value.value)};
}

// exp(x) = 2^n exp(r), n the integer nearest x / ln 2. MLIR's own expansion of
// math.exp is off by up to 13 ulp, and on average to one side: in a model whose
// residual stream grows large, that shows in logits.
Num KernelBuilder::exp(Num value) {
  auto type = cast<VectorType>(value.value.getType());
  auto constant = [&](double number) { return this->number(number, type); };
  // Beyond these exp is 0 and infinite. Written so that NaN remains, in one instruction of x86 each.
  auto clamp = [&](Num limit, arith::CmpFPredicate beyond) {
    Value isBeyond = arith::CmpFOp::create(*this, beyond, value.value, limit.value);
    value = select(isBeyond, limit, value);
  };
  clamp(constant(-104), arith::CmpFPredicate::OLT);
  clamp(constant(89), arith::CmpFPredicate::OGT);
  // Added to 1.5 * 2^23, a number leaves its nearest integer in the low bits.
  constexpr float kShift = 12582912.0F;
  Num shifted = fma(value, constant(1.44269504088896341), constant(kShift));
  Num n = shifted - constant(kShift);
  // ln 2 in two parts; n times the first is exact.
  Num r = fma(n, constant(-0.693145751953125), value);
  r = fma(n, constant(-1.42860682030941723e-6), r);
  // Best polynomial for |r| <= ln 2 / 2 (Remez): exp(r) to 3.1e-9 relative.
  Num p = constant(0.00138145401768);
  for (double coefficient : {0.00836874510894, 0.0416683907835, 0.16666520399, 0.499999934321}) {
    p = fma(p, r, constant(coefficient));
  }
  p = fma(p, r * r, r) + constant(1);
  // 2^n as two factors, each of which is a normal number.
  VectorType bitsType = type.clone(getI32Type());
  auto bits = [&](int64_t number) { return integer(number, bitsType); };
  auto power = [&](Value exponent) -> Num {
    Value biased = arith::AddIOp::create(*this, exponent, bits(127));
    Value moved = arith::ShLIOp::create(*this, biased, bits(23));
    return {this, arith::BitcastOp::create(*this, type, moved)};
  };
  Value exponent = arith::SubIOp::create(*this, arith::BitcastOp::create(*this, bitsType, shifted.value),
                                         bits(llvm::bit_cast<int32_t>(kShift)));
  Value half = arith::ShRSIOp::create(*this, exponent, bits(1));
  Value rest = arith::SubIOp::create(*this, exponent, half);
  return p * power(half) * power(rest);
}

Num KernelBuilder::erf(Num value) { return {this, math::ErfOp::create(*this, value.value)}; }

Num KernelBuilder::sigmoid(Num value) {
  Num one = number(1.0, value.value.getType());
  Num zero = number(0.0, value.value.getType());
  return one / (one + exp(zero - value));
}

Value KernelBuilder::shuffle(Value a, Value c, ArrayRef<int64_t> mask) {
  return vector::ShuffleOp::create(*this, a, c, mask);
}

// Stage by stage, two vectors whose numbers differ in one bit become one whose
// lanes differ in that bit.
Num KernelBuilder::reduceTransposed(ArrayRef<Value> vectors) {
  SmallVector<Value> values(vectors);
  assert(static_cast<int>(values.size()) == lanes);
  for (int64_t bit = 1; bit < lanes; bit *= 2) {
    SmallVector<Value> next;
    for (size_t i = 0; i < values.size(); i += 2) {
      SmallVector<int64_t> straight, crossed;
      for (int64_t l = 0; l < lanes; ++l) {
        straight.push_back((l & bit) ? l + lanes : l);
        crossed.push_back((l & bit) ? l - bit + lanes : l + bit);
      }
      Value a = shuffle(values[i], values[i + 1], straight);
      Value c = shuffle(values[i], values[i + 1], crossed);
      next.push_back(arith::AddFOp::create(*this, a, c));
    }
    values = std::move(next);
  }
  return {this, values.front()};
}

// Eklundh's transposition: exchange off-diagonal blocks of side 1, 2, 4, ...
void KernelBuilder::transpose(MutableArrayRef<Value> vectors) {
  const int64_t n = static_cast<int64_t>(vectors.size());
  for (int64_t bit = 1; bit < n; bit *= 2) {
    SmallVector<int64_t> low, high;
    for (int64_t l = 0; l < n; ++l) {
      low.push_back((l & bit) ? l - bit + n : l);
      high.push_back((l & bit) ? l + n : l + bit);
    }
    for (int64_t i = 0; i < n; ++i) {
      if (i & bit) {
        continue;
      }
      Value a = vectors[i], c = vectors[i + bit];
      vectors[i] = shuffle(a, c, low);
      vectors[i + bit] = shuffle(a, c, high);
    }
  }
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

void KernelBuilder::loop(Int from, Int to, int64_t step, llvm::function_ref<void(Int)> body) {
  loop(from, to, step, ValueRange{}, [&](Int i, ValueRange) {
    body(i);
    return SmallVector<Value>{};
  });
}

SmallVector<Value> KernelBuilder::loop(Int from, Int to, int64_t step, ValueRange inits,
                                       llvm::function_ref<SmallVector<Value>(Int, ValueRange)> body) {
  auto op = scf::ForOp::create(*this, from.value, to.value, i64(step).value, inits);
  {
    OpBuilder::InsertionGuard guard(*this);
    setInsertionPointToStart(op.getBody());
    SmallVector<Value> results = body({this, op.getInductionVar()}, op.getRegionIterArgs());
    // Without carried values the op comes with its terminator.
    if (!inits.empty()) {
      scf::YieldOp::create(*this, results);
    }
  }
  return SmallVector<Value>(op.getResults());
}

void KernelBuilder::ifThen(Value condition, llvm::function_ref<void()> then) { ifElse(condition, then, nullptr); }

void KernelBuilder::ifElse(Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(*this, condition,
                              /*withElseRegion=*/static_cast<bool>(otherwise));
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(op.thenBlock());
  then();
  if (otherwise) {
    setInsertionPointToStart(op.elseBlock());
    otherwise();
  }
}

void KernelBuilder::overVectors(Int size, int64_t n, bool divisible,
                                llvm::function_ref<void(Int, std::optional<Int>)> body) {
  overVectors(size, n, divisible, ValueRange{}, [&](Int i, std::optional<Int> count, ValueRange) {
    body(i, count);
    return SmallVector<Value>{};
  });
}

SmallVector<Value>
KernelBuilder::overVectors(Int size, int64_t n, bool divisible, ValueRange inits,
                           llvm::function_ref<SmallVector<Value>(Int, std::optional<Int>, ValueRange)> body) {
  Int full = divisible ? size : size - size % n;
  SmallVector<Value> values =
      loop(i64(0), full, n, inits, [&](Int i, ValueRange carried) { return body(i, std::nullopt, carried); });
  if (divisible) {
    return values;
  }
  return loop(full, size, n, values, [&](Int i, ValueRange carried) { return body(i, size - i, carried); });
}
