//===- KernelBuilder.cpp - Writing a GPU kernel as nvvm/llvm/scf/arith ops ---===//

#include "lowering/GPU/KernelBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::moe::gpu;

template <typename Op, typename T> static T binary(T a, T c) {
  return {a.b, Op::create(*a.b, a.b->getLoc(), a.value, c.value)};
}

/// All lanes of a warp take part in what they do together.
static constexpr int64_t fullMask = 0xffffffff;

//===----------------------------------------------------------------------===//
// Function and operands
//===----------------------------------------------------------------------===//

// The type of the function is known when its operands have been read.
KernelBuilder::KernelBuilder(ModuleOp module, const GpuTarget &target, StringRef name, int64_t threads)
    : ImplicitLocOpBuilder(NameLoc::get(StringAttr::get(module.getContext(), name)), module.getContext()),
      target(target), threads(threads), module(module) {
  setInsertionPointToEnd(module.getBody());
  auto none = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(getContext()), {});
  function = LLVM::LLVMFuncOp::create(*this, name, none);
  function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), getUnitAttr());
  function->setAttr(NVVM::NVVMDialect::getReqntidAttrName(), getDenseI32ArrayAttr({static_cast<int32_t>(threads)}));
  setInsertionPointToStart(function.addEntryBlock(*this));
  Type i32 = getI32Type();
  workgroup = fromBits(NVVM::BlockIdXOp::create(*this, i32));
  thread = fromBits(NVVM::ThreadIdXOp::create(*this, i32));
  lane = thread % warpSize;
  warp = thread / warpSize;
}

void KernelBuilder::finish() {
  LLVM::ReturnOp::create(*this, ValueRange{});
  if (!awaits) {
    setInsertionPointToStart(&function.getBody().front());
    awaitEarlierKernels();
  }
  function.setFunctionType(LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(getContext()),
                                                       llvm::to_vector(function.getBody().front().getArgumentTypes())));
}

void KernelBuilder::expectBlocks(int32_t count) {
  function->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(), getI32IntegerAttr(count));
}

// The next kernel may start once all workgroups of this one are past here. Where it stood above the wait, kernels
// further on would start, too, and take places from the one that is next.
void KernelBuilder::awaitEarlierKernels() {
  awaits = true;
  if (target.launchesEarly) {
    NVVM::GriddepcontrolOp::create(*this, NVVM::GridDepActionKind::wait);
    NVVM::GriddepcontrolOp::create(*this, NVVM::GridDepActionKind::launch_dependents);
  }
}

Int KernelBuilder::gridSize() { return fromBits(NVVM::GridDimXOp::create(*this, getI32Type())); }

Value KernelBuilder::nextWord() { return function.getBody().front().addArgument(getI64Type(), getLoc()); }

Value KernelBuilder::nextPointer() { return LLVM::IntToPtrOp::create(*this, pointer(global), nextWord()); }

Int KernelBuilder::nextInt() { return {this, nextWord()}; }

Num KernelBuilder::nextFloat() {
  Value low = arith::TruncIOp::create(*this, getI32Type(), nextWord());
  return {this, arith::BitcastOp::create(*this, f32(), low)};
}

//===----------------------------------------------------------------------===//
// Constants, conversions, selection
//===----------------------------------------------------------------------===//

static Value constant(KernelBuilder &b, Attribute value) {
  return arith::ConstantOp::create(b, cast<TypedAttr>(value));
}

Int KernelBuilder::i64(int64_t value) { return {this, constant(*this, getI64IntegerAttr(value))}; }
Num KernelBuilder::number(double value, Type type) { return {this, constant(*this, FloatAttr::get(type, value))}; }
Value KernelBuilder::integer(int64_t value, Type type) {
  APInt bits(type.getIntOrFloatBitWidth(), static_cast<uint64_t>(value), /*isSigned=*/true, /*implicitTrunc=*/true);
  return constant(*this, IntegerAttr::get(type, bits));
}

Num KernelBuilder::toFloat(Int value) { return {this, arith::SIToFPOp::create(*this, f32(), value)}; }
Value KernelBuilder::toI32(Int value) { return arith::TruncIOp::create(*this, getI32Type(), value); }
Int KernelBuilder::fromI32(Value value) { return {this, arith::ExtSIOp::create(*this, getI64Type(), value)}; }
Int KernelBuilder::fromBits(Value value) { return {this, arith::ExtUIOp::create(*this, getI64Type(), value)}; }

Int KernelBuilder::min(Int a, Int c) { return binary<arith::MinSIOp>(a, c); }
Int KernelBuilder::max(Int a, Int c) { return binary<arith::MaxSIOp>(a, c); }
Num KernelBuilder::min(Num a, Num c) { return binary<arith::MinNumFOp>(a, c); }
Num KernelBuilder::max(Num a, Num c) { return binary<arith::MaxNumFOp>(a, c); }
Int KernelBuilder::quickDiv(Int a, Int c) { return fromBits(arith::DivUIOp::create(*this, toI32(a), toI32(c))); }
Int KernelBuilder::select(Value condition, Int a, Int c) {
  return {this, arith::SelectOp::create(*this, condition, a.value, c.value)};
}
Num KernelBuilder::select(Value condition, Num a, Num c) {
  return {this, arith::SelectOp::create(*this, condition, a.value, c.value)};
}
Value KernelBuilder::selectPointer(Value condition, Value a, Value c) {
  return LLVM::SelectOp::create(*this, condition, a, c);
}
Value KernelBuilder::both(Value a, Value c) { return arith::AndIOp::create(*this, a, c); }
Value KernelBuilder::either(Value a, Value c) { return arith::OrIOp::create(*this, a, c); }
Value KernelBuilder::negate(Value condition) { return arith::XOrIOp::create(*this, condition, flag(true)); }
Value KernelBuilder::less(Num a, Num c) {
  return arith::CmpFOp::create(*this, arith::CmpFPredicate::OLT, a.value, c.value);
}
Value KernelBuilder::equal(Num a, Num c) {
  return arith::CmpFOp::create(*this, arith::CmpFPredicate::OEQ, a.value, c.value);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value KernelBuilder::at(Value base, Int offset, Type element) {
  return LLVM::GEPOp::create(*this, base.getType(), element, base, ArrayRef<LLVM::GEPArg>{offset.value});
}

static unsigned bytesOf(Type type) { return type.getIntOrFloatBitWidth() / 8; }

Value KernelBuilder::load(Value pointer, Type type) {
  return LLVM::LoadOp::create(*this, type, pointer, bytesOf(type));
}

void KernelBuilder::store(Value value, Value pointer) {
  LLVM::StoreOp::create(*this, value, pointer, bytesOf(value.getType()));
}

Value KernelBuilder::loadPointer(Value table, Int index) {
  return LLVM::IntToPtrOp::create(*this, pointer(global), loadI64(table, index).value);
}

/// The type that `element` has in memory: bf16 travels as integers, of which it is the upper half of an f32.
static Type memoryType(Type element) {
  return element.isBF16() ? Type(IntegerType::get(element.getContext(), 16)) : element;
}

Num KernelBuilder::widen(Value raw, Type element) {
  if (element.isF32()) {
    return {this, raw};
  }
  if (!element.isBF16()) {
    return {this, arith::ExtFOp::create(*this, f32(), raw)};
  }
  Value bits = arith::ShLIOp::create(*this, Value(arith::ExtUIOp::create(*this, getI32Type(), raw)), i32(16));
  return {this, arith::BitcastOp::create(*this, f32(), bits)};
}

Value KernelBuilder::narrow(Num value, Type element) {
  if (element.isF32()) {
    return value;
  }
  Value rounded = arith::TruncFOp::create(*this, element, value.value);
  return element.isBF16() ? Value(arith::BitcastOp::create(*this, getI16Type(), rounded)) : rounded;
}

Num KernelBuilder::loadScalar(Value pointer, Type element) {
  return widen(load(pointer, memoryType(element)), element);
}

void KernelBuilder::storeScalar(Num value, Value pointer, Type element) { store(narrow(value, element), pointer); }

Num KernelBuilder::round(Num value, Type element) { return widen(narrow(value, element), element); }

SmallVector<Num> KernelBuilder::loadVector(Value pointer, Type element, int64_t count, bool invariant) {
  constexpr int64_t mostBytes = 16;
  const int64_t width = bytesOf(element), words = std::min(count * width, mostBytes) / 4;
  SmallVector<Num> values;
  if (words == 0) { // a single half
    return {loadScalar(pointer, element)};
  }
  const int64_t perLoad = words * 4 / width;
  for (int64_t first = 0; first < count; first += perLoad) {
    auto type = VectorType::get({words}, getI32Type());
    auto loaded = LLVM::LoadOp::create(*this, type, at(pointer, first, element), static_cast<unsigned>(words * 4));
    loaded.setInvariant(invariant);
    for (int64_t w = 0; w < words; ++w) {
      Value word = LLVM::ExtractElementOp::create(*this, loaded, i32(w));
      if (element.isF32()) {
        values.push_back({this, arith::BitcastOp::create(*this, f32(), word)});
        continue;
      }
      Value high = arith::ShRUIOp::create(*this, word, i32(16));
      if (element.isBF16()) {
        Value low = arith::ShLIOp::create(*this, word, i32(16));
        Value top = arith::AndIOp::create(*this, word, i32(0xffff0000));
        values.push_back({this, arith::BitcastOp::create(*this, f32(), low)});
        values.push_back({this, arith::BitcastOp::create(*this, f32(), top)});
        continue;
      }
      for (Value half : {word, high}) {
        Value bits = arith::TruncIOp::create(*this, getI16Type(), half);
        values.push_back(widen(arith::BitcastOp::create(*this, element, bits), element));
      }
    }
  }
  return values;
}

void KernelBuilder::storePair(Num first, Num second, Value pointer, Type element) {
  Type type = memoryType(element);
  Value pair = LLVM::PoisonOp::create(*this, VectorType::get({2}, type));
  pair = LLVM::InsertElementOp::create(*this, pair, narrow(first, element), i32(0));
  pair = LLVM::InsertElementOp::create(*this, pair, narrow(second, element), i32(1));
  LLVM::StoreOp::create(*this, pair, pointer, 2 * bytesOf(type));
}

Value KernelBuilder::packBF16(Num first, Num second) {
  Value pair = LLVM::PoisonOp::create(*this, VectorType::get({2}, f32()));
  pair = LLVM::InsertElementOp::create(*this, pair, first.value, i32(0));
  pair = LLVM::InsertElementOp::create(*this, pair, second.value, i32(1));
  Value rounded = arith::TruncFOp::create(*this, VectorType::get({2}, getBF16Type()), pair);
  return LLVM::BitcastOp::create(*this, getI32Type(), rounded);
}

Int KernelBuilder::dynamicShared(int64_t alignment) {
  constexpr StringLiteral name = "dynamic_shared";
  constexpr int64_t dynamicAlignment = 128;
  auto memory = module.lookupSymbol<LLVM::GlobalOp>(name);
  if (!memory) {
    OpBuilder::InsertionGuard guard(*this);
    setInsertionPoint(function);
    memory = LLVM::GlobalOp::create(*this, LLVM::LLVMArrayType::get(getI8Type(), 0), /*isConstant=*/false,
                                    LLVM::Linkage::External, name, Attribute(), dynamicAlignment, shared);
  }
  Int address = addressOf(LLVM::AddressOfOp::create(*this, memory));
  if (alignment <= dynamicAlignment) {
    return address;
  }
  return (address + (alignment - 1)) / alignment * alignment;
}

Value KernelBuilder::assemble(const Twine &text, const Twine &constraints, ValueRange operands, Type result) {
  auto op = LLVM::InlineAsmOp::create(*this, result ? TypeRange(result) : TypeRange(), operands, text.str(),
                                      (constraints + (constraints.isTriviallyEmpty() ? "" : ",") + "~{memory}").str(),
                                      /*has_side_effects=*/true, /*is_align_stack=*/false, LLVM::TailCallKind::None,
                                      LLVM::AsmDialectAttr(), ArrayAttr());
  return result ? op.getRes() : Value();
}

Value KernelBuilder::allocateShared(Type element, int64_t count, int64_t alignment) {
  std::string name = (function.getSymName() + "_shared" + Twine(sharedCount++)).str();
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPoint(function);
  auto memory = LLVM::GlobalOp::create(*this, LLVM::LLVMArrayType::get(element, count), /*isConstant=*/false,
                                       LLVM::Linkage::Internal, name, Attribute(), alignment, shared);
  setInsertionPointToStart(&function.getBody().front());
  return LLVM::AddressOfOp::create(*this, memory);
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Num KernelBuilder::fma(Num a, Num c, Num sum) {
  return {this, math::FmaOp::create(*this, a.value, c.value, sum.value)};
}
Num KernelBuilder::sqrt(Num value) { return {this, math::SqrtOp::create(*this, value.value)}; }
Num KernelBuilder::abs(Num value) { return {this, math::AbsFOp::create(*this, value.value)}; }
Num KernelBuilder::erf(Num value) { return {this, math::ErfOp::create(*this, value.value)}; }

// ex2.approx is good to 2 units in the last place, but the product with log2(e) in front of it is rounded, which costs
// |x| units more. What the rounding loses is taken back to first order: 2^(h + l) = 2^h (1 + l ln 2). The clamps keep
// infinities out of the remainder; a NaN passes both.
Num KernelBuilder::exp(Num value) {
  value = select(less(value, number(-104.0)), number(-104.0), value); // below: 0
  value = select(less(number(89.0), value), number(89.0), value);     // above: infinity
  const double log2e = 1.4426950408889634074;
  const float high = static_cast<float>(log2e);
  Num h = value * number(high);
  Num l = fma(value, number(high), number(0.0) - h);
  l = fma(value, number(log2e - high), l);
  return exp2(h) * fma(l, number(0.69314718055994530942), number(1.0));
}

Num KernelBuilder::exp2(Num value) { return {this, math::Exp2Op::create(*this, value.value)}; }

Num KernelBuilder::sigmoid(Num value) { return number(1.0) / (number(1.0) + exp(number(0.0) - value)); }

//===----------------------------------------------------------------------===//
// Threads together
//===----------------------------------------------------------------------===//

void KernelBuilder::barrier() { NVVM::BarrierOp::create(*this); }
Value KernelBuilder::barrierAll(Value condition) {
  auto all = NVVM::BarrierReductionAttr::get(getContext(), NVVM::BarrierReduction::AND);
  Value result = NVVM::BarrierOp::create(*this, TypeRange{getI32Type()}, Value(), Value(), all,
                                         arith::ExtUIOp::create(*this, getI32Type(), condition))
                     .getResult(0);
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::ne, result, i32(0));
}
void KernelBuilder::warpBarrier() { NVVM::SyncWarpOp::create(*this, i32(fullMask)); }

static Value shuffleBits(KernelBuilder &b, Value value, Value offset, int64_t clamp, NVVM::ShflKind kind) {
  return NVVM::ShflOp::create(b, value.getType(), b.i32(fullMask), value, offset, b.i32(clamp), kind, UnitAttr());
}

Num KernelBuilder::shuffleXor(Num value, int64_t mask) {
  return {this, shuffleBits(*this, value, i32(mask), 31, NVVM::ShflKind::bfly)};
}
Int KernelBuilder::shuffleXor(Int value, int64_t mask) {
  return fromI32(shuffleBits(*this, toI32(value), i32(mask), 31, NVVM::ShflKind::bfly));
}
Num KernelBuilder::shuffle(Num value, Int source) {
  return {this, shuffleBits(*this, value, toI32(source), 31, NVVM::ShflKind::idx)};
}
Int KernelBuilder::shuffle(Int value, Int source) {
  return fromI32(shuffleBits(*this, toI32(value), toI32(source), 31, NVVM::ShflKind::idx));
}
Int KernelBuilder::shuffleUp(Int value, int64_t distance) {
  return fromI32(shuffleBits(*this, toI32(value), i32(distance), 0, NVVM::ShflKind::up));
}

Int KernelBuilder::sumBelow(Int value) {
  for (int64_t distance = 1; distance < warpSize; distance *= 2) {
    Int below = shuffleUp(value, distance);
    value = value + select(lane < i64(distance), i64(0), below);
  }
  return value;
}

Value KernelBuilder::ballot(Value condition) {
  return NVVM::VoteSyncOp::create(*this, getI32Type(), i32(fullMask), condition, NVVM::VoteSyncKind::ballot);
}

Value KernelBuilder::matchAny(Value value) {
  return NVVM::MatchSyncOp::create(*this, getI32Type(), i32(fullMask), value, NVVM::MatchSyncKind::any);
}

Int KernelBuilder::countBits(Value mask, bool below) {
  if (below) {
    mask = arith::AndIOp::create(*this, mask, Value(NVVM::LaneMaskLtOp::create(*this, getI32Type())));
  }
  return fromBits(math::CtPopOp::create(*this, mask));
}

Num KernelBuilder::warpSum(Num value) {
  for (int64_t mask = warpSize / 2; mask > 0; mask /= 2) {
    value = value + shuffleXor(value, mask);
  }
  return value;
}

Num KernelBuilder::warpMax(Num value) {
  for (int64_t mask = warpSize / 2; mask > 0; mask /= 2) {
    value = max(value, shuffleXor(value, mask));
  }
  return value;
}

Num KernelBuilder::blockSum(Num value, Value partials) {
  value = warpSum(value);
  barrier();
  ifThen(lane == i64(0), [&] { storeScalar(value, partials, warp, f32()); });
  barrier();
  Num sum = loadScalar(partials, i64(0), f32());
  for (int64_t w = 1; w < warps(); ++w) {
    sum = sum + loadScalar(partials, i64(w), f32());
  }
  return sum;
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

void KernelBuilder::loop(Int from, Int to, Int step, llvm::function_ref<void(Int)> body) {
  loop(from, to, step, ValueRange{}, [&](Int i, ValueRange) {
    body(i);
    return SmallVector<Value>{};
  });
}

SmallVector<Value> KernelBuilder::loop(Int from, Int to, Int step, ValueRange inits,
                                       llvm::function_ref<SmallVector<Value>(Int, ValueRange)> body) {
  auto op = scf::ForOp::create(*this, from.value, to.value, step.value, inits);
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

void KernelBuilder::overEqual(Value numbers, Int from, Int to, Int limit,
                              llvm::function_ref<void(Int, Int, Int, Int)> body) {
  auto read = [&](Int base) { return loadI32(numbers, min(base + lane, to - 1)); };
  ifThen(from < to, [&] {
    loop(from, to, i64(warpSize), ValueRange{read(from)}, [&](Int base, ValueRange carried) {
      Int i = base + lane, number{this, carried[0]}, next = read(base + warpSize);
      number = select(both(i < to, both(i64(-1) < number, number < limit)), number, i64(-1));
      Value same = matchAny(toI32(number));
      body(i, number, countBits(same, /*below=*/true), countBits(same));
      return SmallVector<Value>{next};
    });
  });
}

void KernelBuilder::ifThen(Value condition, llvm::function_ref<void()> then) { ifElse(condition, then, nullptr); }

void KernelBuilder::ifElse(Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(*this, condition, /*withElseRegion=*/static_cast<bool>(otherwise));
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(op.thenBlock());
  then();
  if (otherwise) {
    setInsertionPointToStart(op.elseBlock());
    otherwise();
  }
}

// The builders of scf set the insertion point of this builder for their bodies.
Value KernelBuilder::choose(Value condition, llvm::function_ref<Value()> then, llvm::function_ref<Value()> otherwise) {
  auto yield = [&](Value value) { scf::YieldOp::create(*this, value); };
  auto op = scf::IfOp::create(
      *this, condition, [&](OpBuilder &, Location) { yield(then()); },
      [&](OpBuilder &, Location) { yield(otherwise()); });
  return op.getResult(0);
}

void KernelBuilder::loopWhileNonZero(Int mask, llvm::function_ref<Int(Int)> body) {
  auto test = [&](OpBuilder &, Location, ValueRange carried) {
    Value isLeft = arith::CmpIOp::create(*this, arith::CmpIPredicate::ne, carried[0], i64(0));
    scf::ConditionOp::create(*this, isLeft, carried);
  };
  scf::WhileOp::create(*this, TypeRange{getI64Type()}, ValueRange{mask}, test,
                       [&](OpBuilder &, Location, ValueRange carried) {
                         scf::YieldOp::create(*this, ValueRange{body({this, carried[0]})});
                       });
}
