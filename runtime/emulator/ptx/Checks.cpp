//===- Checks.cpp - Rules across types, modifiers and constants -----------===//
//
// What the table cannot say: rules that relate two types, or a modifier to a
// constant operand.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/ParserState.h"

namespace moert::emulator::ptx {

namespace {

bool isInteger(Type type) { return type >= Type::U8 && type <= Type::S64; }

/// The rule of cvt's rounding that is broken, or nullptr.
const char *roundingProblem(const Instruction &instruction) {
  Type to = instruction.types[0], from = instruction.types[1];
  Round round = instruction.mods.round;
  bool toInteger = round >= Round::RNI && round <= Round::RPI;
  bool toFloat = round >= Round::RN && round <= Round::RP;
  bool plain = (isInteger(to) || to == Type::F16 || to == Type::F32 || to == Type::F64) &&
               (isInteger(from) || from == Type::F16 || from == Type::F32 || from == Type::F64);
  if (!plain) {
    return nullptr; // the table has one form per rounding there
  }
  if (isInteger(to) && isInteger(from)) {
    return round == Round::None ? nullptr : "no rounding between integers";
  }
  if (isInteger(to)) {
    return toInteger ? nullptr : "a rounding to an integer, such as .rzi";
  }
  if (isInteger(from)) {
    return toFloat ? nullptr : "a rounding, such as .rn";
  }
  if (bitsOf(to) < bitsOf(from)) {
    return toFloat ? nullptr : "a rounding, such as .rn";
  }
  if (bitsOf(to) > bitsOf(from)) {
    return round == Round::None ? nullptr : "no rounding: every value is exact in the wider type";
  }
  return toFloat ? "a rounding to an integer or none" : nullptr;
}

/// Whether every value of integer type `from` is one of `to`: then .sat has nothing to clamp.
bool holdsAll(Type to, Type from) {
  bool widerSigned = isSigned(to) && bitsOf(to) > bitsOf(from);
  return isSigned(from) == isSigned(to) ? bitsOf(to) >= bitsOf(from) : widerSigned;
}

bool comparisonFits(Cmp cmp, Type type) {
  if (isFloat(type)) {
    return cmp < Cmp::Lo || cmp > Cmp::Hs;
  }
  bool bits = type >= Type::B8 && type <= Type::B128;
  if (bits) {
    return cmp == Cmp::Eq || cmp == Cmp::Ne;
  }
  return isSigned(type) ? cmp <= Cmp::Ge : cmp <= Cmp::Hs;
}

} // namespace

bool TextParser::checkInstruction(const Instruction &instruction, Location location) {
  const Modifiers &mods = instruction.mods;
  std::string name = "'" + std::string(mnemonic) + "'";
  auto operand = [&](unsigned i) -> const Operand & { return function->operands[instruction.firstOperand + i]; };
  auto constant = [&](unsigned i, uint64_t &value) {
    value = operand(i).bits;
    return operand(i).kind == OperandKind::Immediate;
  };
  uint64_t value = 0;
  switch (instruction.op) {
  case Opcode::Cvt:
    if (const char *problem = roundingProblem(instruction)) {
      return fail(location, name + " needs " + problem);
    }
    if (mods.sat && isInteger(instruction.types[0]) && isInteger(instruction.types[1]) &&
        holdsAll(instruction.types[0], instruction.types[1])) {
      return fail(location, name + ": .sat has nothing to clamp, ." + nameOf(instruction.types[0]) +
                                " holds every value of ." + nameOf(instruction.types[1]));
    }
    break;
  case Opcode::Set:
  case Opcode::Setp: {
    Type type = instruction.op == Opcode::Set ? instruction.types[1] : instruction.types[0];
    if (!comparisonFits(mods.cmp, type)) {
      return fail(location, name + ": this comparison does not exist for ." + nameOf(type));
    }
    bool halfScalar = type == Type::F16 || type == Type::BF16;
    if (instruction.op == Opcode::Setp && halfScalar && operand(1).kind != OperandKind::None) {
      return fail(location, name + " has one predicate result; only the packed forms have two");
    }
    break;
  }
  case Opcode::Ld:
  case Opcode::Ldu:
  case Opcode::St:
  case Opcode::StAsync:
    if (mods.vector * bytesOf(instruction.type()) > 16) {
      return fail(location, name + " moves " + std::to_string(mods.vector * bytesOf(instruction.type())) +
                                " bytes; up to sm_90 an access has at most 16");
    }
    break;
  case Opcode::CpAsync:
    if (constant(2, value)) {
      bool fits = mods.cache == Cache::Cg ? value == 16 : value == 4 || value == 8 || value == 16;
      if (!fits) {
        return fail(location, name + " copies " + std::to_string(value) + " bytes; " +
                                  (mods.cache == Cache::Cg ? ".cg takes 16" : ".ca takes 4, 8 or 16"));
      }
      if (constant(3, value) && operand(3).kind == OperandKind::Immediate && value > operand(2).bits) {
        return fail(location, name + ": the source size " + std::to_string(value) + " is larger than the copy, " +
                                  std::to_string(operand(2).bits));
      }
    }
    break;
  case Opcode::Setmaxnreg:
    constant(0, value);
    if (value < 24 || value > 256 || value % 8 != 0) {
      return fail(location, name + " needs a multiple of 8 from 24 to 256, not " + std::to_string(value));
    }
    break;
  case Opcode::Bar: {
    unsigned first = mods.mode == Mode::Red ? 1 : 0;
    if (constant(first, value) && value > 15) {
      return fail(location, name + ": barrier " + std::to_string(value) + " does not exist; there are 0 to 15");
    }
    if (operand(first + 1).kind == OperandKind::Immediate) {
      value = operand(first + 1).bits;
      if (value == 0 || value % 32 != 0) {
        return fail(location, name + ": the number of threads must be a multiple of 32, not " + std::to_string(value));
      }
    }
    break;
  }
  case Opcode::WgmmaMmaAsync: {
    size_t count = function->operands.size() - instruction.firstOperand;
    for (unsigned i = 4; i < count; ++i) {
      auto scale = static_cast<int64_t>(operand(i).bits);
      bool isScale = i < 6;
      if (isScale ? scale != 1 && scale != -1 : scale != 0 && scale != 1) {
        return fail(location, name + ": operand " + std::to_string(i + 1) + " must be " +
                                  (isScale ? "1 or -1" : "0 or 1") + ", not " + std::to_string(scale));
      }
    }
    break;
  }
  case Opcode::MbarrierExpectTx:
  case Opcode::MbarrierCompleteTx:
  case Opcode::MbarrierArrive:
  case Opcode::MbarrierArriveDrop:
  case Opcode::MbarrierTestWait:
  case Opcode::MbarrierTryWait:
    if ((mods.sem == Sem::None) != (mods.scope == Scope::None)) {
      return fail(location, name + (mods.sem == Sem::None ? " has a scope without an order such as .relaxed"
                                                          : " has an order without a scope such as .cta"));
    }
    break;
  case Opcode::FenceProxy:
    if (mods.mode == Mode::Tensormap && mods.sem == Sem::Acquire && operand(1).bits != 128) {
      return fail(location, name + ": the size must be 128, not " + std::to_string(operand(1).bits));
    }
    break;
  case Opcode::TensormapCpFenceproxy:
    if (operand(2).bits != 128) {
      return fail(location, name + ": the size must be 128, not " + std::to_string(operand(2).bits));
    }
    break;
  case Opcode::Discard:
  case Opcode::Applypriority:
    if (operand(1).bits != 128) {
      return fail(location, name + ": the size must be 128, not " + std::to_string(operand(1).bits));
    }
    break;
  default:
    break;
  }
  return true;
}

} // namespace moert::emulator::ptx
