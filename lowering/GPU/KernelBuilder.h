//===- KernelBuilder.h - Writing a GPU kernel as nvvm/llvm/scf/arith ops ---===//
//
// A kernel is an entry of PTX with one 64-bit parameter per operand of the
// launch, the words that a CPU kernel finds in its arguments. A workgroup is a
// block of threads of a fixed number (`threads`); its index is %ctaid.x.
// Emitters write what one thread does: 64-bit integers and f32 scalars as values
// with operators, loads that convert from the storage type, loops over the
// threads' share of a range, sums over a warp or a block, shared memory.
//
// Pointers of operands are of address space 1 (global), those of shared memory
// of 3. It knows nothing of any particular kernel.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_GPU_KERNELBUILDER_H
#define MOE_LOWERING_GPU_KERNELBUILDER_H

#include "lowering/GPU/GpuTarget.h"
#include "lowering/Kernels/Values.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace mlir::moe::gpu {

using kernels::Int;
using kernels::Num;

class KernelBuilder : public ImplicitLocOpBuilder {
public:
  static constexpr int64_t warpSize = 32;
  static constexpr unsigned global = 1, shared = 3;

  /// Opens the kernel `name` for `target` in `module` with blocks of `threads`; `finish` closes it.
  KernelBuilder(ModuleOp module, const GpuTarget &target, StringRef name, int64_t threads);
  void finish();
  /// Asks for registers to be spent such that so many blocks run on a multiprocessor: without it ptxas may spill a few
  /// to have more of them run.
  void expectBlocks(int32_t count);
  /// Where the target launches kernels early: waits for all those ahead, and lets the next one start. What they write
  /// is neither read nor written above; constant weights may be. `finish` puts it first where the emitter has no place.
  void awaitEarlierKernels();

  const GpuTarget &target;
  const int64_t threads;
  Int workgroup;
  Int gridSize();         ///< workgroups of the launch
  Int thread, lane, warp; ///< in the block; in the warp; the warp's number
  int64_t warps() const { return threads / warpSize; }

  // Operands of the launch, by position; call in order.
  Value nextPointer();
  Int nextInt();
  Num nextFloat(); ///< f32 bits in the low half of the word

  // Types.
  Type f32() { return getF32Type(); }
  Type pointer(unsigned space) { return LLVM::LLVMPointerType::get(getContext(), space); }

  // Constants and conversions.
  Int i64(int64_t value);
  Num number(double value, Type type);
  Num number(double value) { return number(value, f32()); }
  Value integer(int64_t value, Type type);
  Value i32(int64_t value) { return integer(value, getI32Type()); }
  Value flag(bool value) { return integer(value, getI1Type()); }
  Num toFloat(Int value); ///< f32
  Value toI32(Int value);
  Int fromI32(Value value);       ///< sign-extended
  Int fromBits(Value unsigned32); ///< zero-extended

  Int min(Int a, Int c);
  Int max(Int a, Int c);
  Int ceilDiv(Int a, Int c) { return (a + c - 1) / c; }
  /// a / c of numbers from 0 to 2^31: some 20 instructions, where 64 bits take over 100.
  Int quickDiv(Int a, Int c);
  Num min(Num a, Num c);
  Num max(Num a, Num c);
  Int select(Value condition, Int a, Int c);
  Num select(Value condition, Num a, Num c);
  Value selectPointer(Value condition, Value a, Value c);
  Value both(Value a, Value c);
  Value either(Value a, Value c);
  Value negate(Value condition);
  Value less(Num a, Num c); ///< ordered
  Value equal(Num a, Num c);

  // Memory. Offsets are in elements of `element`.
  Value at(Value base, Int offset, Type element);
  Value at(Value base, int64_t offset, Type element) { return at(base, i64(offset), element); }
  Value load(Value pointer, Type type);
  void store(Value value, Value pointer);
  Int loadI32(Value base, Int index) { return fromI32(load(at(base, index, getI32Type()), getI32Type())); }
  void storeI32(Int value, Value base, Int index) { store(toI32(value), at(base, index, getI32Type())); }
  Int loadI64(Value base, Int index) { return {this, load(at(base, index, getI64Type()), getI64Type())}; }
  void storeI64(Int value, Value base, Int index) { store(value, at(base, index, getI64Type())); }
  /// An entry of a table of device pointers.
  Value loadPointer(Value table, Int index);
  /// An element of storage type `element` as f32.
  Num loadScalar(Value pointer, Type element);
  Num loadScalar(Value base, Int index, Type element) { return loadScalar(at(base, index, element), element); }
  void storeScalar(Num value, Value pointer, Type element);
  void storeScalar(Num value, Value base, Int index, Type element) {
    storeScalar(value, at(base, index, element), element);
  }
  /// `count` consecutive elements as f32 by loads of at most 16 bytes, for which `pointer` must be aligned.
  /// `invariant`: nothing writes them while the kernel runs (weights).
  SmallVector<Num> loadVector(Value pointer, Type element, int64_t count, bool invariant = false);
  /// Rounds to `element` and back, as a store and a load would.
  Num round(Num value, Type element);
  /// Stores a pair of neighbours at once; `pointer` is aligned for both.
  void storePair(Num first, Num second, Value pointer, Type element);
  /// A pair of neighbours in one word (i32), rounded to bf16.
  Value packBF16(Num first, Num second);
  /// `count` elements of shared memory of the block.
  Value allocateShared(Type element, int64_t count, int64_t alignment = 16);
  /// The first multiple of `alignment` in the dynamic shared memory of the block, as an address of that space. The
  /// memory begins at a multiple of 128; who wants more asks for as much more memory.
  Int dynamicShared(int64_t alignment);
  /// A pointer to it, and the other way.
  Value sharedPointer(Int address) { return LLVM::IntToPtrOp::create(*this, pointer(shared), address.value); }
  Int addressOf(Value pointer) { return {this, LLVM::PtrToIntOp::create(*this, getI64Type(), pointer)}; }

  /// Instructions of PTX as text with operands $0, $1, ..., results first; `constraints` as LLVM has them. Never moved
  /// past other memory accesses.
  Value assemble(const Twine &text, const Twine &constraints, ValueRange operands, Type result = Type());

  // Arithmetic.
  Num fma(Num a, Num c, Num sum);
  Num exp(Num value);  ///< within some 2 units in the last place
  Num exp2(Num value); ///< ex2.approx
  Num sqrt(Num value);
  Num abs(Num value);
  Num erf(Num value);
  Num sigmoid(Num value);

  // Threads together.
  void barrier(); ///< of the block
  /// A barrier of the block, behind which all threads know whether `condition` is true in each.
  Value barrierAll(Value condition);
  void warpBarrier(); ///< of the warp
  /// The value of the lane whose number differs by `mask`.
  Num shuffleXor(Num value, int64_t mask);
  Int shuffleXor(Int value, int64_t mask); ///< of 32 bits
  /// The value of lane `source`.
  Num shuffle(Num value, Int source);
  Int shuffle(Int value, Int source); ///< of 32 bits
  /// The value `distance` lanes below; where there is none, one's own.
  Int shuffleUp(Int value, int64_t distance); ///< of 32 bits
  /// The sum of `value` over this lane and those below, of 32 bits.
  Int sumBelow(Int value);
  /// Bit l: `condition` of lane l.
  Value ballot(Value condition);
  /// Bit l: lane l has the same value (i32).
  Value matchAny(Value value);
  /// The number of bits set in `mask` (i32); with `below`, of those of lower lanes.
  Int countBits(Value mask, bool below = false);
  /// Every lane gets the sum, or the maximum, of its warp.
  Num warpSum(Num value);
  Num warpMax(Num value);
  /// The same of the block; `partials` are f32 [warps] in shared memory. Begins with a barrier, so that they may be
  /// used again at once.
  Num blockSum(Num value, Value partials);

  // Control flow.
  void loop(Int from, Int to, Int step, llvm::function_ref<void(Int)> body);
  SmallVector<Value> loop(Int from, Int to, Int step, ValueRange inits,
                          llvm::function_ref<SmallVector<Value>(Int, ValueRange)> body);
  /// body(i) for the thread's (or the lane's) share of [0, size): every `threads`-th, from its number on.
  void overThreads(Int size, llvm::function_ref<void(Int)> body) { loop(thread, size, i64(threads), body); }
  void overLanes(Int size, llvm::function_ref<void(Int)> body) { loop(lane, size, i64(warpSize), body); }
  /// body(i, numbers[i], lanes below that have the same number, all that have it) for i in the warp's [from, to), 32 at
  /// a time, while the next ones are read. numbers: i32; one outside of [0, limit) is -1, as what lanes beyond the last
  /// have.
  void overEqual(Value numbers, Int from, Int to, Int limit, llvm::function_ref<void(Int, Int, Int, Int)> body);
  void ifThen(Value condition, llvm::function_ref<void()> then);
  void ifElse(Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise);
  Value choose(Value condition, llvm::function_ref<Value()> then, llvm::function_ref<Value()> otherwise);
  /// mask = body(mask) as long as it is not 0.
  void loopWhileNonZero(Int mask, llvm::function_ref<Int(Int)> body);

private:
  /// Between a value as it lies in memory and f32.
  Num widen(Value raw, Type element);
  Value narrow(Num value, Type element);
  Value nextWord();
  ModuleOp module;
  LLVM::LLVMFuncOp function;
  int sharedCount = 0;
  bool awaits = false;
};

} // namespace mlir::moe::gpu

#endif // MOE_LOWERING_GPU_KERNELBUILDER_H
