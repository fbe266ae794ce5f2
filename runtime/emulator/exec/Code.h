//===- Code.h - Functions as the executor runs them -------------*- C++ -*-===//
//
// A function becomes a flat array of `Op`s: each holds the address of the C++
// function that executes it for 32 lanes, and where its operands lie. Registers
// of 32 bits and less are 32 lanes of uint32_t (narrow values zero-extended),
// 64-bit ones 32 lanes of uint64_t, predicates one mask of 32 bits; immediates
// and addresses of variables are registers too, in a block of constants that is
// filled once per launch. So no handler ever looks at operand kinds.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_CODE_H
#define MOERT_EMULATOR_EXEC_CODE_H

#include "runtime/core/Status.h"
#include "runtime/emulator/ptx/Module.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace moert::emulator {

struct Warp;
struct Op;

/// What a handler did: Next goes on behind it; Jumped has set the warp's pc; Blocked has parked the split (which stays
/// at this op unless the handler moved it); Failed has reported a fault that ends the launch.
enum class Step : uint8_t { Next, Jumped, Blocked, Failed };

/// Executes `op` for the lanes of `mask`.
using Handler = Step (*)(Warp &warp, const Op &op, uint32_t mask);

/// Where an operand lies: `offset` bytes into block `base`; `undef` is the index of its mask of undefined lanes.
struct Ref {
  uint32_t offset = 0;
  uint16_t undef = 0;   ///< 0: always defined (constants); 1: a sink
  uint8_t base = 0;     ///< 0 registers of the frame, 1 constants, 2 special registers
  uint8_t bits = 0;     ///< 1, 32 or 64 as stored; 128: two blocks of 64; 0: absent
  bool negated = false; ///< `!p`
  uint8_t width = 0;    ///< bits of the declared type of a register: 8, 16, 32, 64
};

/// How an op takes part in the bookkeeping around it.
enum OpFlags : uint16_t {
  OpPure = 1,    ///< destinations are undefined where a source is
  OpControl = 2, ///< runs even when no lane passes the guard
  OpMemory = 8,  ///< a weak access: where lanes may be run apart (ExecOptions::delayLanes)
  OpStrong = 16, ///< a volatile, relaxed, ... load or store: lanes may be run apart there too
  OpSync = 4,    ///< lanes that were run apart meet before it (branches, barriers, warp-wide operations)
};

/// Ref::base of a .param variable of the frame (arguments of calls): `offset` is its place there.
constexpr uint8_t refLocalParam = 3;

struct Op {
  Handler run = nullptr;
  uint32_t guard = 0;    ///< offset of the guard's mask in the frame
  uint32_t guardXor = 0; ///< ~0 for @!p
  uint16_t guardUndef = 0;
  bool guarded = false;
  uint16_t flags = 0;
  Ref d, d2, a, b, c, e;
  uint32_t target = 0;              ///< a pc, or an index by opcode
  uint32_t join = UINT32_MAX;       ///< pc where the lanes that part here meet again
  uint32_t nextSync = 0;            ///< pc of the next OpSync op of the same block
  uint32_t list = 0, listCount = 0; ///< into Code::refs
  uint32_t list2 = 0, list2Count = 0;
  int64_t imm = 0;   ///< address offset, constant operands
  uint8_t size = 0;  ///< bytes of one element in memory
  uint8_t count = 1; ///< elements
  uint8_t extra = 0;
  uint32_t site = 0;
  const ptx::Instruction *inst = nullptr;
};

/// A constant that depends on the launch.
struct Fixup {
  enum Kind { Shared, Parameter, DynamicShared } kind;
  uint32_t offset = 0; ///< in the constants
  uint32_t index = 0;  ///< variable
  int64_t addend = 0;
  uint8_t bits = 64;
};

struct FunctionCode {
  const ptx::Function *function = nullptr;
  uint32_t index = 0;
  std::vector<Op> ops;
  std::vector<uint32_t> blockPc;
  std::vector<Ref> registers; ///< of ptx::Function::registers
  uint32_t frameBytes = 0;
  uint32_t undefCount = 2;
  uint32_t sink = 0;  ///< offset of a place that takes what goes to `_`
  uint32_t carry = 0; ///< offset of the carry flag's mask
  // Device functions: sizes of the buffers that arguments travel in, per lane.
  uint32_t parameterBytes = 0, resultBytes = 0, paramBytes = 0;
  bool parametersInLocal = false; ///< it takes the address of a parameter, so they lie behind its .local variables

  uint32_t parametersAt() const { return (uint32_t(function->localBytes) + 15) / 16 * 16; }
  uint32_t localBytes() const {
    return parametersInLocal ? parametersAt() + parameterBytes : uint32_t(function->localBytes);
  }
  std::vector<uint32_t> parameterOffsets, resultOffsets;
};

/// Registers of the fragments of a matrix operation: [first, first + count) of Code::refs.
struct Fragments {
  uint32_t first[4] = {}, count[4] = {}; ///< d, a, b, c
};

/// All functions of a module.
struct Code {
  std::vector<FunctionCode> functions;
  std::vector<Ref> refs;
  std::vector<Fragments> fragments;
  std::vector<uint8_t> constants;
  std::map<std::pair<uint64_t, unsigned>, Ref> knownConstants;
  std::vector<Fixup> fixups;
  std::vector<uint64_t> variableAddress; ///< of global and const variables
  bool parametersInMemory = false;       ///< some kernel takes the address of its parameters
  bool localIsDefined = false;           ///< local memory is defined before anybody writes it
  bool reservedShared = false;           ///< some function asks where the system's part of shared memory lies
};

/// The value of a function's address.
constexpr uint64_t functionAddress(uint32_t index) { return 0xF000000000ULL + (uint64_t(index) + 1) * 16; }

/// Builds one function; offered to the selectors below.
class Builder {
public:
  Builder(Code &code, FunctionCode &out, const ptx::Module &module, const ptx::Function &function)
      : code(code), out(out), module(module), function(function) {}

  /// The operand as a source of `bits` (32 or 64; 1: predicate) or a destination.
  Ref ref(const ptx::Operand &operand, unsigned bits);
  Ref ref(const ptx::Instruction &inst, unsigned operand, unsigned bits) {
    return operand < inst.operandCount ? ref(function.operand(inst, operand), bits) : Ref();
  }
  /// `value` in every lane.
  Ref constant(uint64_t value, unsigned bits);
  /// The base of an address operand as 32 or 64-bit lanes; its offset goes to op.imm. False when there is no such base.
  bool address(const ptx::Operand &operand, Ref &base, Op &op);
  /// Elements of a vector operand (or the one operand) into Code::refs.
  void list(const ptx::Operand &operand, unsigned bits, uint32_t &first, uint32_t &count);
  /// The fragments of a matrix multiplication, D, A, B and C of `inst`, as `op.imm`.
  void fragments(const ptx::Instruction &inst, Op &op);
  bool fail(std::string why) {
    if (problem.empty()) {
      problem = std::move(why);
    }
    return false;
  }

  Code &code;
  FunctionCode &out;
  const ptx::Module &module;
  const ptx::Function &function;
  std::string problem;
};

// Selectors, one per file of handlers: fill in `op` and return true when the instruction is theirs.
bool selectInteger(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectBits(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectFloat(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectCompare(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectConvert(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectMove(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectControl(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectAccess(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectAtomic(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectSync(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectShuffle(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectCopy(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectMatrix(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectMbarrier(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectBulk(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectWarpgroup(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectTensormap(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectStack(Builder &builder, const ptx::Instruction &inst, Op &op);
bool selectWmma(Builder &builder, const ptx::Instruction &inst, Op &op);

/// Calls of functions without a body: vprintf, __assertfail, malloc, free (Builtins.cpp).
bool isBuiltin(const std::string &name);
Step callBuiltin(Warp &warp, const Op &op, uint32_t mask, const ptx::Function &function);

/// The op that a reconvergence point starts with.
Step joinLanes(Warp &warp, const Op &op, uint32_t mask);

/// Translates `module`; an error names the line and what is not supported.
Status translate(const ptx::Module &module, Code &code);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_CODE_H
