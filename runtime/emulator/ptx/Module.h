//===- Module.h - A PTX module after parsing --------------------*- C++ -*-===//
//
// What the parser hands over and everybody else reads: variables, functions
// and decoded instructions with every name resolved. Key idea: dense indices
// and plain structs, so that who executes can translate a function once into
// its own form and needs no text; names and lines stay for findings.
// Holds no run-time state, and is immutable after parseModule.
//
// How the parts refer to each other, for `ld.shared.v2.f32 {%f1, %f2}, [%r1+8]`
// guarded by `@!%p1`:
//
//   Instruction  op Ld, space Shared, vector 2, types[0] F32, guard = register
//                index of %p1, guardNegated; operands [first, first + 2)
//   operand 0    Vector: elements [index, index + count) of Function::elements,
//                each a Register operand
//   operand 1    Address: base Register, index of %r1, offset 8
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_PTX_MODULE_H
#define MOERT_EMULATOR_PTX_MODULE_H

#include "runtime/emulator/ptx/Types.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moert::emulator::ptx {

constexpr uint32_t none = UINT32_MAX;

/// Where in the text; both count from 1.
struct Location {
  uint32_t line = 0;
  uint32_t column = 0;
};

/// One register of one function. Its index is its place in Function::registers.
struct Register {
  std::string name; ///< as written, with '%' where the text has one: "%r12"
  Type type = Type::None;
};

enum class OperandKind : uint8_t {
  None,      ///< optional operand that is absent (kept, so that positions are fixed)
  Register,  ///< index = register; negated: `!%p` (source predicates)
  Immediate, ///< bits = the value in the operand's type: integers sign- or zero-extended to 64 bits, floats as
             ///< f16/f32/f64 pattern
  Special,   ///< index = SpecialRegister
  Symbol,    ///< address of a variable as a value (mov %r, sym+4): base, index, offset as in Address
  Address,   ///< [base + offset], see `base`
  Vector,   ///< {a, b, ...}: elements [index, index + count) of Function::elements (Register, Immediate, Sink, Special)
  Sink,     ///< `_`
  Label,    ///< index = block
  Function, ///< index = function of the module (direct call), or its address as a value (mov)
  Targets,  ///< index = into Function::branchTables (brx.idx), Function::callTables (call with .calltargets)
  Prototype, ///< index = into Function::prototypes
  Tensor,    ///< [map, {c0, c1, ...}]: an Address operand and a Vector operand: elements [index, index + 2)
};

/// What an address or symbol is relative to.
enum class Base : uint8_t {
  None,      ///< an absolute address: offset alone
  Register,  ///< index = register; its width is 32 or 64 bits
  Variable,  ///< index = into Module::variables
  Local,     ///< index = into Function::locals: .local and .param declared in the function
  Parameter, ///< index = into Function::parameters
  Result,    ///< index = into Function::results
  Function,  ///< index = into Module::functions
};

/// One operand. 24 bytes, no ownership.
struct Operand {
  OperandKind kind = OperandKind::None;
  Base base = Base::None; ///< Address, Symbol
  bool negated = false;   ///< Register of a predicate: `!p`
  uint32_t index = none;  ///< see OperandKind and Base
  uint32_t count = 0;     ///< Vector, Tensor: how many elements
  union {
    int64_t offset = 0; ///< Address, Symbol
    uint64_t bits;      ///< Immediate
  };
};

/// Everything after the root of the mnemonic. Fields that the opcode does not use keep their defaults.
struct Modifiers {
  Space space = Space::None;   ///< memory operations: .space; cvta/isspacep/mapa: the space; cp: the destination
  Space source = Space::None;  ///< cp: the source
  Space barrier = Space::None; ///< st.async, cp.async.bulk: of the mbarrier, when stated
  Sem sem = Sem::None;
  Scope scope = Scope::None;
  Cache cache = Cache::None;
  Round round = Round::None;
  Half half = Half::None;
  Cmp cmp = Cmp::None;
  BoolOp boolOp = BoolOp::None;
  Reduce reduce = Reduce::None;
  Mode mode = Mode::None;
  Completion completion = Completion::None;
  Major majorA = Major::None; ///< mma, wmma (also of wmma.load/store)
  Major majorB = Major::None;
  uint8_t vector = 1; ///< .v2, .v4, .v8; ldmatrix/stmatrix: .x1, .x2, .x4
  uint8_t dims = 0;   ///< cp...tensor: 1 to 5
  uint16_t m = 0;     ///< matrix shape; ldmatrix/stmatrix: m x n of one tile
  uint16_t n = 0;
  uint16_t k = 0;
  uint16_t prefetchBytes = 0; ///< .L2::64B, 128B, 256B
  bool ftz = false;
  bool sat = false;       ///< .sat: clamps to [0, 1], or integer overflow
  bool satfinite = false; ///< cvt, mma: .satfinite
  bool relu = false;
  bool approx = false;
  bool full = false;        ///< div.full
  bool nan = false;         ///< min/max/redux .NaN
  bool xorsignAbs = false;  ///< min/max.xorsign.abs
  bool abs = false;         ///< redux.abs
  bool oob = false;         ///< fma.oob
  bool cc = false;          ///< writes the carry flag (add.cc ...); addc, subc and madc always read it
  bool wrap = false;        ///< shf, bmsk, szext: .wrap (otherwise .clamp)
  bool shiftAmount = false; ///< bfind.shiftamt
  bool uniform = false;     ///< bra.uni, call.uni, ret.uni
  bool aligned = false;     ///< .aligned; also set on `bar`, which always is
  bool nonCoherent = false; ///< ld.global.nc
  bool cacheHint = false;   ///< .L2::cache_hint: the last operand is the policy
  bool to = false;          ///< cvta.to
  bool parity = false;      ///< mbarrier.test_wait.parity, try_wait.parity
  bool noComplete = false;  ///< mbarrier.arrive.noComplete
  bool expectTx = false;    ///< mbarrier.arrive.expect_tx
  bool noInc = false;       ///< cp.async.mbarrier.arrive.noinc
  bool transposed = false;  ///< ldmatrix/stmatrix .trans
  bool multicast = false;   ///< .multicast::cluster
  bool read = false;        ///< cp.async.bulk.wait_group.read
  bool noftz = false;       ///< atom/red .noftz
  bool evicts = false;      ///< .L1::evict_first and the like
  bool ofCta = false;       ///< the space is spelt .shared::cta
  bool ofFunction = false;  ///< the space is spelt .param::entry or .param::func
};

/// One decoded instruction. Operands stand in the order of the text, an optional one that is absent is kept as None,
/// and `d|p` is two operands; Table.h lists them per instruction. A call has: target (Function, or Register), results
/// (Vector), arguments (Vector), and Prototype or Targets for an indirect one, None otherwise.
struct Instruction {
  Opcode op = Opcode::Trap;
  /// Types in the order in which the mnemonic has them; for cvt, set, slct: destination, source; for mma: d, a, b, c.
  Type types[4] = {Type::None, Type::None, Type::None, Type::None};
  Modifiers mods;
  uint32_t guard = none; ///< predicate register of `@p`, none = always
  bool guardNegated = false;
  uint8_t operandCount = 0;
  uint32_t firstOperand = 0; ///< into Function::operands
  uint32_t block = 0;
  /// Loads behind `.pragma "used_bytes_mask M"`: bit i = byte i of the access is used. 0 = no such pragma.
  uint64_t usedBytesMask = 0;
  Location location;

  Type type() const { return types[0]; }
};

/// A part of an initialiser that is an address: of a variable or function, to be written at `offset`.
struct Relocation {
  uint64_t offset = 0;    ///< in bytes, in the variable
  uint8_t size = 8;       ///< bytes written: 8 or 4; 1 when `shift` selects a byte by a mask such as 0xFF00(sym)
  uint8_t shift = 0;      ///< right shift before truncation
  bool generic = false;   ///< generic(sym): the generic address; otherwise the address in its space
  bool function = false;  ///< target indexes Module::functions
  uint32_t target = none; ///< into Module::variables
  int64_t addend = 0;
};

enum class Linkage : uint8_t { Internal, Visible, Extern, Weak, Common };

/// A variable of the module, a parameter, or a variable declared inside a function.
struct Variable {
  std::string name;
  Space space = Space::None;
  Type type = Type::None; ///< of one element
  Linkage linkage = Linkage::Internal;
  uint32_t align = 1;
  uint8_t vector = 1; ///< .v2, .v4
  bool sizeless =
      false; ///< `extern .shared .b8 s[];`: size 0, all such variables lie at the start of dynamic shared memory
  bool managed = false;
  std::vector<uint64_t> dims; ///< empty for a scalar
  uint64_t size = 0;          ///< bytes
  /// Parameters: offset in the kernel's parameter block. .local and .param of a function: offset in its frame of that
  /// space.
  uint64_t offset = 0;
  std::vector<uint8_t> data; ///< initialiser, shorter than size where the rest is zero; empty when there is none
  std::vector<Relocation> relocations;
  /// Kernel parameters: .ptr .space .align (a hint), none without.
  Space pointerSpace = Space::None;
  uint32_t pointerAlign = 0;
  /// A device function's parameter or result in the .reg space: register that holds it; none for .param space.
  uint32_t reg = none;
  Location location;
};

/// A maximal run of instructions entered at its start only.
struct Block {
  uint32_t first = 0, end = 0;      ///< [first, end) of Function::instructions
  std::vector<uint32_t> successors; ///< blocks; the fall-through one last
  /// Immediate post-dominator: where lanes that part at the end of this block meet again; none = at the function's end.
  /// Paths that end a thread early (exit, trap, a bare ret of a kernel) are left out: exited lanes meet nobody.
  uint32_t reconvergence = none;
  std::string label; ///< first label at its start, for messages; may be empty
};

/// Directives that bound a launch; 0 = not given.
struct LaunchBounds {
  uint32_t maxntid[3] = {0, 0, 0}; ///< missing dimensions are 1 when the directive is there
  uint32_t reqntid[3] = {0, 0, 0};
  uint32_t reqnctapercluster[3] = {0, 0, 0};
  uint32_t maxclusterrank = 0;
  uint32_t minnctapersm = 0;
  uint32_t maxnctapersm = 0;
  uint32_t maxnreg = 0;
  bool explicitcluster = false;
  bool blocksareclusters = false;
};

/// The signature of a `.callprototype`: sizes decide how arguments are passed.
struct Prototype {
  std::string name;
  std::vector<Variable> results;
  std::vector<Variable> parameters;
  bool noreturn = false;
};

/// A kernel (.entry) or device function (.func). A declaration alone has no instructions.
struct Function {
  std::string name;
  bool isKernel = false;
  bool isDefined = false;
  bool noreturn = false;
  Linkage linkage = Linkage::Internal;
  Location location;
  LaunchBounds bounds;
  std::vector<std::string> pragmas;

  std::vector<Variable> parameters;
  std::vector<Variable> results; ///< device functions: at most one
  uint64_t parameterBytes = 0;   ///< kernels: size of the parameter block

  std::vector<Register> registers;
  std::vector<Variable> locals; ///< .local and .param declared in the body (other spaces: Module::variables)
  uint64_t localBytes = 0;      ///< frame of .local variables
  uint32_t localAlign = 1;
  uint64_t paramBytes = 0; ///< frame of .param variables (arguments of calls)

  std::vector<Instruction> instructions;
  std::vector<Operand> operands;                   ///< of all instructions
  std::vector<Operand> elements;                   ///< of Vector and Tensor operands
  std::vector<Block> blocks;                       ///< block 0 is the entry
  std::vector<std::vector<uint32_t>> branchTables; ///< .branchtargets: blocks
  std::vector<std::vector<uint32_t>> callTables;   ///< .calltargets: functions
  std::vector<Prototype> prototypes;

  /// Kernels: Module::variables in .shared that this kernel (or a function it can call) uses, with their offsets.
  struct SharedPlace {
    uint32_t variable = none;
    uint32_t offset = 0;
  };
  std::vector<SharedPlace> shared;
  uint32_t sharedBytes = 0;         ///< static shared memory of a kernel
  uint32_t dynamicSharedAlign = 16; ///< the largest alignment of the sizeless variables used
  bool isRecursive = false;         ///< can reach itself through calls
  bool hasIndirectCalls = false;    ///< this function, or one it can call

  const Operand &operand(const Instruction &instruction, unsigned i) const {
    return operands[instruction.firstOperand + i];
  }
};

/// `.version` and `.target` as written.
struct Target {
  uint16_t version = 0; ///< 10 * major + minor: 78 is 7.8
  uint16_t sm = 0;      ///< 90 for sm_90a
  char suffix = 0;      ///< 'a', 'f' or 0
  bool debug = false;
  bool unifiedAddressing = true;
};

/// A whole PTX text.
struct Module {
  Target target;
  uint32_t addressSize = 64;
  std::vector<Variable>
      variables; ///< includes .shared, .global and .const variables that functions declare (see Function::locals)
  std::vector<Function> functions; ///< one per name: a declaration and its definition are one entry
  std::vector<std::string> files;  ///< .file, for messages: index as in the text

  /// Index of a function or variable by name, or `none`.
  uint32_t findFunction(std::string_view name) const;
  uint32_t findVariable(std::string_view name) const;
};

} // namespace moert::emulator::ptx

#endif // MOERT_EMULATOR_PTX_MODULE_H
