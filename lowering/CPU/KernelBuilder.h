//===- KernelBuilder.h - Writing a CPU kernel as vector/scf/arith ops ----===//
//
// A kernel is `void name(const uint64_t *args, int64_t workgroup, void
// *scratch)` (runtime/include/moert/kernel_abi.h). Emitters write one with this
// builder: 64-bit integers and f32 vectors as values with operators
// (lowering/Kernels/Values.h), loads that convert from the storage type, loops
// with carried values. It knows nothing of any particular kernel.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_CPU_KERNELBUILDER_H
#define MOE_LOWERING_CPU_KERNELBUILDER_H

#include "lowering/CPU/CpuTarget.h"
#include "lowering/Kernels/Values.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace mlir::moe::cpu {

using kernels::Int;
using kernels::Num;

class KernelBuilder : public ImplicitLocOpBuilder {
public:
  /// Opens the function `name` in `module`; `finish` closes it.
  KernelBuilder(ModuleOp module, StringRef name, const CpuTarget &target);
  void finish();

  const CpuTarget &target;
  const int lanes;
  Int workgroup;
  Value scratch;

  // Operands of the launch, by position; call in order.
  Value nextPointer();
  Int nextInt();
  Num nextFloat(); ///< f32 bits in the low half of the word

  // Types.
  Type f32() { return getF32Type(); }
  VectorType vec(Type element, int64_t n) { return VectorType::get({n}, element); }
  VectorType vecF32() { return vec(f32(), lanes); }
  VectorType vecI32() { return vec(getI32Type(), lanes); }
  Type ptr() { return LLVM::LLVMPointerType::get(getContext()); }

  // Constants and conversions.
  Int i64(int64_t value);
  Num number(double value, Type type); ///< scalar or splat
  Num number(double value) { return number(value, vecF32()); }
  Value integer(int64_t value, Type type); ///< of any integer type; scalar or splat
  Value laneNumbers();                     ///< 0, 1, 2, ... as a vector of i32
  Num splat(Num scalar, int64_t n);
  Num splat(Num scalar) { return splat(scalar, lanes); }
  Value splatI32(Int scalar); ///< a vector of i32
  Num toFloat(Int value);     ///< f32
  Value toI32(Int value);
  Int fromI32(Value value); ///< sign-extended

  Int min(Int a, Int c);
  Int max(Int a, Int c);
  Int ceilDiv(Int a, Int c) { return (a + c - 1) / c; }
  Num min(Num a, Num c);
  Num max(Num a, Num c);
  Int select(Value condition, Int a, Int c);
  Num select(Value condition, Num a, Num c);
  Value selectPointer(Value condition, Value a, Value c);
  /// The first `count` of `n` lanes: a vector of i1.
  Value firstLanes(Int count, int64_t n);

  // Memory. Offsets are in elements of `element`.
  Value at(Value base, Int offset, Type element);
  Value atBytes(Value base, Int bytes);
  Value load(Value pointer, Type type);
  void store(Value value, Value pointer);
  Int loadI32(Value base, Int index);
  void storeI32(Int value, Value base, Int index);
  Value loadPointer(Value table, Int index);
  /// `n` elements of storage type `element` as an f32 vector; with `count`,
  /// elements from there on are 0 and not read.
  Num loadVec(Value pointer, Type element, int64_t n, std::optional<Int> count = std::nullopt);
  /// Raw vector of `element`, masked likewise.
  Value loadRaw(Value pointer, Type element, int64_t n, std::optional<Int> count = std::nullopt);
  void storeVec(Num value, Value pointer, Type element, std::optional<Int> count = std::nullopt);
  Num loadScalar(Value pointer, Type element);
  void storeScalar(Num value, Value pointer, Type element);
  /// Rounds to `element` and back, as a store and a load would.
  Num round(Num value, Type element);

  // Vector arithmetic.
  Num fma(Num a, Num c, Num sum);
  /// sum[i] += a[2i] c[2i] + a[2i+1] c[2i+1] on vectors of bf16.
  Num dotBf16(Value a, Value c, Num sum);
  Num reduceAdd(Num value);
  Num reduceMax(Num value);
  Num exp(Num value);
  Num erf(Num value);
  Num sigmoid(Num value);
  Value shuffle(Value a, Value c, ArrayRef<int64_t> mask);
  /// Lane l of the result is the sum of vectors[l]; as many vectors as lanes.
  Num reduceTransposed(ArrayRef<Value> vectors);
  /// Transposes a square of lanes x lanes elements held in `vectors`.
  void transpose(MutableArrayRef<Value> vectors);

  // Control flow.
  void loop(Int from, Int to, int64_t step, llvm::function_ref<void(Int)> body);
  SmallVector<Value> loop(Int from, Int to, int64_t step, ValueRange inits,
                          llvm::function_ref<SmallVector<Value>(Int, ValueRange)> body);
  void ifThen(Value condition, llvm::function_ref<void()> then);
  void ifElse(Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise);
  /// body(i, count) for i = 0, n, 2n, ... below `size`, count elements each:
  /// full vectors without a mask, then one masked remainder unless `divisible`.
  void overVectors(Int size, int64_t n, bool divisible, llvm::function_ref<void(Int, std::optional<Int>)> body);
  /// The same with carried values.
  SmallVector<Value> overVectors(Int size, int64_t n, bool divisible, ValueRange inits,
                                 llvm::function_ref<SmallVector<Value>(Int, std::optional<Int>, ValueRange)> body);

private:
  /// Between a value as it lies in memory and f32.
  Num widen(Value raw, Type element);
  Value narrow(Num value, Type element);
  Value nextWord();
  Value arguments;
  int64_t nextArgument = 0;
};

} // namespace mlir::moe::cpu

#endif // MOE_LOWERING_CPU_KERNELBUILDER_H
