//===- Translate.cpp - From decoded PTX to ops -----------------------------===//
//
// Lays out registers and constants, asks the selectors for each instruction,
// puts a join op in front of every block where lanes meet again, and patches
// branch targets. See Code.h for the form.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Code.h"
#include "runtime/emulator/exec/Warp.h"

#include <cstring>

namespace moert::emulator {

using ptx::Base;
using ptx::Opcode;
using ptx::Operand;
using ptx::OperandKind;
using ptx::Space;
using ptx::SpecialRegister;

Ref Builder::constant(uint64_t value, unsigned bits) {
  if (bits == 1) {
    value = value ? ~0U : 0;
  } else if (bits == 32) {
    value = uint32_t(value);
  }
  auto &found = code.knownConstants[{value, bits}];
  if (found.bits) {
    return found;
  }
  Ref made;
  made.base = 1;
  made.bits = uint8_t(bits);
  made.width = uint8_t(bits);
  while (code.constants.size() % 64) {
    code.constants.push_back(0);
  }
  made.offset = uint32_t(code.constants.size());
  unsigned bytes = bits / 8;
  unsigned lanes = 32;
  if (bits == 1) {
    bytes = 4;
    lanes = 1;
  }
  code.constants.resize(code.constants.size() + size_t(bytes) * lanes);
  for (unsigned l = 0; l < lanes; ++l) {
    std::memcpy(&code.constants[made.offset + size_t(l) * bytes], &value, bytes);
  }
  found = made;
  return made;
}

/// A constant whose value is known at launch.
static Ref launchConstant(Builder &b, Fixup::Kind kind, uint32_t index, int64_t addend, unsigned bits) {
  Ref made;
  made.base = 1;
  made.bits = uint8_t(bits);
  made.width = uint8_t(bits);
  while (b.code.constants.size() % 64) {
    b.code.constants.push_back(0);
  }
  made.offset = uint32_t(b.code.constants.size());
  b.code.constants.resize(b.code.constants.size() + size_t(bits) * 4);
  Fixup fixup;
  fixup.kind = kind;
  fixup.offset = made.offset;
  fixup.index = index;
  fixup.addend = addend;
  fixup.bits = uint8_t(bits);
  b.code.fixups.push_back(fixup);
  return made;
}

/// The address of a module variable as a constant.
static Ref variableConstant(Builder &b, uint32_t index, int64_t addend, unsigned bits) {
  const ptx::Variable &variable = b.module.variables[index];
  if (variable.space == Space::Shared) {
    return launchConstant(b, variable.sizeless ? Fixup::DynamicShared : Fixup::Shared, index, addend, bits);
  }
  return b.constant(b.code.variableAddress[index] + uint64_t(addend), bits);
}

Ref Builder::ref(const Operand &operand, unsigned bits) {
  switch (operand.kind) {
  case OperandKind::Register: {
    Ref r = out.registers[operand.index];
    r.negated = operand.negated;
    return r;
  }
  case OperandKind::Immediate:
    return constant(operand.bits, bits ? bits : 64);
  case OperandKind::Special: {
    auto special = SpecialRegister(operand.index);
    switch (special) {
    case SpecialRegister::Clock:
    case SpecialRegister::ClockHi:
    case SpecialRegister::Clock64:
    case SpecialRegister::Globaltimer:
    case SpecialRegister::GlobaltimerLo:
    case SpecialRegister::GlobaltimerHi:
    case SpecialRegister::CurrentGraphExec:
    case SpecialRegister::ReservedSmemOffsetBegin:
    case SpecialRegister::ReservedSmemOffsetEnd:
    case SpecialRegister::ReservedSmemOffsetCap:
    case SpecialRegister::ReservedSmemOffset0:
    case SpecialRegister::ReservedSmemOffset1:
      fail(std::string(nameOf(special)) + " can only be read with mov");
      return {};
    default:
      break;
    }
    Ref r;
    r.base = 2;
    r.bits = typeOf(special) == ptx::Type::U64 ? 64 : typeOf(special) == ptx::Type::Pred ? 1 : 32;
    r.width = r.bits;
    r.offset = operand.index * 256;
    return r;
  }
  case OperandKind::Symbol:
  case OperandKind::Address:
    if (operand.base == Base::Variable) {
      return variableConstant(*this, operand.index, operand.offset, bits ? bits : 64);
    }
    if (operand.base == Base::Function) {
      return constant(functionAddress(operand.index), 64);
    }
    if (operand.base == Base::None) {
      return constant(uint64_t(operand.offset), bits ? bits : 64);
    }
    if (operand.base == Base::Parameter && function.isKernel) {
      code.parametersInMemory = true;
      return launchConstant(*this, Fixup::Parameter, operand.index,
                            int64_t(function.parameters[operand.index].offset) + operand.offset, bits ? bits : 64);
    }
    if (operand.base == Base::Local && function.locals[operand.index].space == Space::Param) {
      Ref r;
      r.base = refLocalParam;
      r.bits = 8;
      r.offset = uint32_t(function.locals[operand.index].offset + uint64_t(operand.offset));
      return r;
    }
    fail("the address of this variable cannot be an operand here");
    return {};
  case OperandKind::Function:
    return constant(functionAddress(operand.index), 64);
  case OperandKind::Sink: {
    Ref r;
    r.undef = 1;
    r.bits = 0;
    r.offset = out.sink;
    r.width = 64;
    return r;
  }
  default:
    return {};
  }
}

bool Builder::address(const Operand &operand, Ref &base, Op &op) {
  op.imm = operand.offset;
  switch (operand.base) {
  case Base::Register:
    base = out.registers[operand.index];
    return true;
  case Base::None:
    base = constant(uint64_t(operand.offset), 64);
    op.imm = 0;
    return true;
  case Base::Variable:
    base = variableConstant(*this, operand.index, operand.offset, 64);
    op.imm = 0;
    return true;
  default:
    return false;
  }
}

void Builder::list(const Operand &operand, unsigned bits, uint32_t &first, uint32_t &count) {
  first = uint32_t(code.refs.size());
  if (operand.kind != OperandKind::Vector) {
    code.refs.push_back(ref(operand, bits));
    count = 1;
    return;
  }
  count = operand.count;
  for (uint32_t i = 0; i < operand.count; ++i) {
    code.refs.push_back(ref(function.elements[operand.index + i], bits));
  }
}

void Builder::fragments(const ptx::Instruction &inst, Op &op) {
  Fragments f;
  for (unsigned i = 0; i < 4; ++i) {
    list(function.operand(inst, i), inst.types[0] == ptx::Type::F64 ? 64 : 32, f.first[i], f.count[i]);
  }
  op.imm = int64_t(code.fragments.size());
  code.fragments.push_back(f);
}

/// Places for the registers of one function.
static void layRegisters(const ptx::Function &function, FunctionCode &out) {
  uint32_t offset = 64; // the carry flag and the sink's predicate
  out.carry = 0;
  uint16_t undef = 2;
  // Predicates first, then by size, so that wide ones stay aligned.
  out.registers.resize(function.registers.size());
  for (unsigned pass = 0; pass < 4; ++pass) {
    if (pass == 1) {
      offset = (offset + 127) / 128 * 128;
    }
    for (size_t i = 0; i < function.registers.size(); ++i) {
      unsigned width = ptx::bitsOf(function.registers[i].type);
      bool predicate = function.registers[i].type == ptx::Type::Pred;
      unsigned stored = predicate ? 1 : width <= 32 ? 32 : width;
      unsigned wanted = pass == 0 ? 1 : pass == 1 ? 128 : pass == 2 ? 64 : 32;
      if (stored != wanted) {
        continue;
      }
      Ref &r = out.registers[i];
      r.offset = offset;
      r.bits = uint8_t(stored);
      r.width = uint8_t(width);
      r.undef = undef++;
      offset += predicate ? 4 : stored * 4;
    }
  }
  offset = (offset + 127) / 128 * 128;
  out.sink = offset;
  offset += 512;
  out.frameBytes = offset;
  out.undefCount = undef;
}

static bool select(Builder &b, const ptx::Instruction &inst, Op &op) {
  return selectInteger(b, inst, op) || selectBits(b, inst, op) || selectFloat(b, inst, op) ||
         selectCompare(b, inst, op) || selectConvert(b, inst, op) || selectMove(b, inst, op) ||
         selectControl(b, inst, op) || selectAccess(b, inst, op) || selectAtomic(b, inst, op) ||
         selectSync(b, inst, op) || selectShuffle(b, inst, op) || selectCopy(b, inst, op) ||
         selectMatrix(b, inst, op) || selectMbarrier(b, inst, op) || selectBulk(b, inst, op) ||
         selectWarpgroup(b, inst, op) || selectWmma(b, inst, op) || selectTensormap(b, inst, op) ||
         selectStack(b, inst, op);
}

static Status translateFunction(const ptx::Module &module, const ptx::Function &function, Code &code,
                                FunctionCode &out) {
  out.function = &function;
  if (!function.isDefined) {
    return {};
  }
  if (function.registers.size() > 60000) {
    return error(moert::Code::Unsupported, "line ", function.location.line, ": function ", function.name, " has ",
                 function.registers.size(), " registers; at most 60000 are supported");
  }
  layRegisters(function, out);
  Builder builder(code, out, module, function);
  uint64_t offset = 0;
  for (const ptx::Variable &parameter : function.parameters) {
    offset = (offset + 15) / 16 * 16;
    out.parameterOffsets.push_back(uint32_t(offset));
    offset += parameter.size;
  }
  out.parameterBytes = function.isKernel ? 0 : uint32_t(offset);
  offset = 0;
  for (const ptx::Variable &result : function.results) {
    out.resultOffsets.push_back(uint32_t(offset));
    offset += (result.size + 15) / 16 * 16;
  }
  out.resultBytes = uint32_t(offset);
  out.paramBytes = uint32_t(function.paramBytes);

  std::vector<bool> joins(function.blocks.size());
  for (const ptx::Block &block : function.blocks) {
    if (block.reconvergence != ptx::none) {
      joins[block.reconvergence] = true;
    }
  }
  for (size_t b = 0; b < function.blocks.size(); ++b) {
    const ptx::Block &block = function.blocks[b];
    out.blockPc.push_back(uint32_t(out.ops.size()));
    if (joins[b]) {
      Op join;
      join.run = joinLanes;
      join.flags = OpControl | OpSync;
      join.inst = block.first < function.instructions.size() ? &function.instructions[block.first] : nullptr;
      out.ops.push_back(join);
    }
    for (uint32_t i = block.first; i < block.end; ++i) {
      const ptx::Instruction &inst = function.instructions[i];
      Op op;
      op.inst = &inst;
      if (inst.guard != ptx::none) {
        op.guarded = true;
        op.guard = out.registers[inst.guard].offset;
        op.guardUndef = out.registers[inst.guard].undef;
        op.guardXor = inst.guardNegated ? ~0U : 0;
      }
      if (!select(builder, inst, op) || !op.run || !builder.problem.empty()) {
        return error(moert::Code::Unsupported, "line ", inst.location.line, ": ", nameOf(inst.op), " of type ",
                     ptx::nameOf(inst.types[0]), " is not executed by the emulator",
                     builder.problem.empty() ? "" : ": ", builder.problem);
      }
      out.ops.push_back(op);
    }
  }
  // A function that ends without ret or exit returns.
  static const ptx::Instruction end = [] {
    ptx::Instruction made;
    made.op = Opcode::Ret;
    return made;
  }();
  Op last;
  ptx::Instruction copy = end;
  copy.block = 0;
  (void)selectControl(builder, copy, last);
  last.inst = &end;
  last.join = noPc;
  out.ops.push_back(last);

  uint32_t nextSync = uint32_t(out.ops.size() - 1);
  for (size_t i = out.ops.size(); i-- > 0;) {
    Op &op = out.ops[i];
    if (op.flags & OpSync) {
      nextSync = uint32_t(i);
    }
    op.nextSync = nextSync;
    if (op.run == joinLanes || &op == &out.ops.back()) {
      continue;
    }
    if (op.inst->op == Opcode::Bra) {
      op.target = out.blockPc[op.target];
    }
    if ((op.flags & OpControl) && op.join != noPc) {
      op.join = out.blockPc[op.join];
    }
  }
  return {};
}

Status translate(const ptx::Module &module, Code &code) {
  // Code for debuggers keeps everything in local memory and writes bit fields a part at a time, for which registers
  // that are undefined as a whole are too coarse.
  code.localIsDefined = module.target.debug;
  code.functions.resize(module.functions.size());
  for (size_t i = 0; i < module.functions.size(); ++i) {
    code.functions[i].index = uint32_t(i);
    MOERT_TRY(translateFunction(module, module.functions[i], code, code.functions[i]));
  }
  return {};
}

} // namespace moert::emulator
