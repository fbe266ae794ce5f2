//===- Binding.cpp - Operands against the slots of a form -----------------===//
//
// Looks names up, checks register types as ptxas does (same width; .b fits
// everything; integers fit integers; ld, st and cvt take wider registers), and
// turns constants into the bits of the operand's type.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/ParserState.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace moert::emulator::ptx {

namespace {
bool isInteger(Type type) {
  return (type >= Type::U8 && type <= Type::S64) || type == Type::U16x2 || type == Type::S16x2;
}
bool isBits(Type type) { return type >= Type::B8 && type <= Type::B128; }
bool isPacked(Type type) {
  return type == Type::F16x2 || type == Type::BF16x2 || type == Type::U16x2 || type == Type::S16x2;
}

Type bitsType(unsigned bits) {
  switch (bits) {
  case 8:
    return Type::B8;
  case 16:
    return Type::B16;
  case 32:
    return Type::B32;
  case 64:
    return Type::B64;
  case 128:
    return Type::B128;
  default:
    return Type::None;
  }
}

/// The type of twice the width (mul.wide).
Type widened(Type type) {
  switch (type) {
  case Type::U16:
    return Type::U32;
  case Type::S16:
    return Type::S32;
  case Type::U32:
    return Type::U64;
  default:
    return Type::S64;
  }
}
} // namespace

bool TextParser::registerFits(Type reg, Type type, bool relaxed) const {
  if (reg == Type::Pred || type == Type::Pred) {
    return reg == type;
  }
  unsigned have = bitsOf(reg), need = bitsOf(type);
  if (have < need || (have > need && !relaxed)) {
    return false;
  }
  if (isBits(reg)) {
    return true;
  }
  if (isBits(type)) { // a wider float register has no meaning
    return have == need || !isFloat(reg);
  }
  if (isInteger(type)) {
    return isInteger(reg);
  }
  if (type == Type::F32 || type == Type::F64 || type == Type::F16 || type == Type::F16x2) {
    return reg == type;
  }
  return false; // bf16, tf32, fp8: .b registers only
}

bool TextParser::specialNamed(std::string_view name, SpecialRegister &out) const {
  static const std::unordered_map<std::string_view, SpecialRegister> *const specials = [] {
    auto *map = new std::unordered_map<std::string_view, SpecialRegister>();
#define EMU_PTX_INSERT(enumerator, name, type) map->emplace(name, SpecialRegister::enumerator);
    EMU_PTX_SPECIALS(EMU_PTX_INSERT)
#undef EMU_PTX_INSERT
    return map;
  }();
  auto found = specials->find(name);
  if (found == specials->end()) {
    return false;
  }
  out = found->second;
  return true;
}

bool TextParser::bindRegister(const RawOperand &raw, uint32_t index, Type type, bool relaxed, Operand &out) {
  const Register &reg = function->registers[index];
  if (!registerFits(reg.type, type, relaxed)) {
    return fail(raw.location, "operand '" + reg.name + "' is ." + nameOf(reg.type) + ", '" + std::string(mnemonic) +
                                  "' needs ." + nameOf(type) + " here");
  }
  if (raw.offset != 0) {
    return fail(raw.location, "'" + reg.name + "' cannot have an offset outside of an address");
  }
  out.kind = OperandKind::Register;
  out.index = index;
  return true;
}

bool TextParser::bindConstant(const RawOperand &raw, Type type, Operand &out) {
  const Constant &constant = raw.constant;
  out.kind = OperandKind::Immediate;
  uint64_t bits = constant.bits;
  if (type == Type::Pred) {
    if (!constant.isInteger()) {
      return fail(raw.location, "a predicate needs an integer constant");
    }
    out.bits = bits != 0;
    return true;
  }
  if (constant.isInteger()) {
    if (type == Type::F32 || type == Type::F64) {
      return fail(raw.location, std::string("a .") + nameOf(type) +
                                    " operand needs a floating-point constant, such as 1.0 or 0f3F800000");
    }
    unsigned width = bitsOf(type);
    if (width < 64) {
      uint64_t mask = (uint64_t(1) << width) - 1;
      bool negative = isSigned(type) && !isPacked(type) && (bits >> (width - 1) & 1);
      bits = negative ? bits | ~mask : bits & mask;
    }
    out.bits = bits;
    return true;
  }
  double value = 0;
  float single = 0;
  if (constant.kind == Constant::Kind::Single) {
    auto low = static_cast<uint32_t>(bits);
    std::memcpy(&single, &low, sizeof(single));
    value = single;
  } else {
    std::memcpy(&value, &bits, sizeof(value));
    single = static_cast<float>(value);
  }
  if (type == Type::F32 || (type == Type::B32 && constant.kind == Constant::Kind::Single)) {
    uint32_t low = static_cast<uint32_t>(bits);
    if (constant.kind != Constant::Kind::Single) {
      std::memcpy(&low, &single, sizeof(low));
    }
    out.bits = low;
    return true;
  }
  if (type == Type::F64 || (type == Type::B64 && constant.kind == Constant::Kind::Double)) {
    std::memcpy(&out.bits, &value, sizeof(value));
    return true;
  }
  return fail(raw.location, std::string("a floating-point constant does not fit a .") + nameOf(type) + " operand");
}

bool TextParser::bindScalar(const Slot &slot, Type type, const Instruction &instruction, const RawOperand &raw,
                            Operand &out) {
  bool destination = slot.kind == Slot::Kind::Destination || slot.kind == Slot::Kind::PredicateDestination;
  bool predicate = slot.kind == Slot::Kind::PredicateSource || slot.kind == Slot::Kind::PredicateDestination;
  type = predicate ? Type::Pred : type;
  switch (raw.kind) {
  case RawOperand::Kind::Sink:
    if (!slot.sink) {
      return fail(raw.location, "'_' cannot stand here in '" + std::string(mnemonic) + "'");
    }
    out.kind = OperandKind::Sink;
    return true;
  case RawOperand::Kind::Constant:
    if (destination || slot.kind == Slot::Kind::RegisterOnly) {
      return fail(raw.location, "'" + std::string(mnemonic) + "' needs a register here, not a constant");
    }
    return bindConstant(raw, type, out);
  case RawOperand::Kind::Name:
    break;
  case RawOperand::Kind::Address:
  case RawOperand::Kind::Vector:
  case RawOperand::Kind::Tensor:
    return fail(raw.location, "'" + std::string(mnemonic) + "' needs a single register" +
                                  (destination ? "" : " or constant") + " here");
  }
  if (slot.kind == Slot::Kind::ImmediateOnly) {
    return fail(raw.location,
                "'" + std::string(mnemonic) + "' needs a constant here, not '" + std::string(raw.name) + "'");
  }
  if (slot.sink && slot.count == 1) {
    return fail(raw.location, "'" + std::string(mnemonic) + "' gives no result on .shared::cluster: write '_'");
  }
  if (raw.negated && slot.kind != Slot::Kind::PredicateSource) {
    return fail(raw.location, "'!' is for predicate sources only");
  }
  const Entry *entry = lookup(raw.name);
  if (entry && entry->kind == Entry::Kind::Register) {
    out.negated = raw.negated;
    if (slot.relaxed && slot.kind == Slot::Kind::RegisterOnly && type == Type::None) { // isspacep: an address
      type = bitsOf(function->registers[entry->index].type) == 32 ? Type::B32 : Type::B64;
    }
    return bindRegister(raw, entry->index, type, slot.relaxed, out);
  }
  SpecialRegister special;
  if (!entry && specialNamed(raw.name, special)) {
    if (instruction.op != Opcode::Mov || destination) {
      return fail(raw.location, "special register '" + std::string(raw.name) + "' can only be the source of mov");
    }
    if (!registerFits(typeOf(special), type, false)) {
      return fail(raw.location, "'" + std::string(raw.name) + "' is ." + nameOf(typeOf(special)) + ", '" +
                                    std::string(mnemonic) + "' needs ." + nameOf(type));
    }
    const std::string_view stem = raw.name.substr(0, raw.name.find('.'));
    const Entry *hiding = stem.size() < raw.name.size() ? lookup(stem) : nullptr;
    if (hiding && hiding->kind == Entry::Kind::Register) {
      return fail(raw.location, "'" + std::string(raw.name) + "' is no special register here: '" + std::string(stem) +
                                    "' is a register of the module's own");
    }
    const Gate gate = gateOf(special);
    if (gate.ptx > module.target.version || gate.sm > module.target.sm) {
      return fail(raw.location, "'" + std::string(raw.name) + "' needs .version " + std::to_string(gate.ptx / 10) +
                                    "." + std::to_string(gate.ptx % 10) + " and .target sm_" + std::to_string(gate.sm) +
                                    " at least, the module says " + std::to_string(module.target.version / 10) + "." +
                                    std::to_string(module.target.version % 10) + " and sm_" +
                                    std::to_string(module.target.sm));
    }
    out.kind = OperandKind::Special;
    out.index = static_cast<uint32_t>(special);
    return true;
  }
  bool takesAddress = instruction.op == Opcode::Mov || instruction.op == Opcode::Cvta ||
                      instruction.op == Opcode::Mapa || instruction.op == Opcode::Getctarank;
  if (entry && takesAddress && slot.kind == Slot::Kind::Source && bitsOf(type) >= 32) {
    out.kind = entry->kind == Entry::Kind::Function ? OperandKind::Function : OperandKind::Symbol;
    out.index = entry->index;
    out.offset = raw.offset;
    switch (entry->kind) {
    case Entry::Kind::Variable:
      out.base = Base::Variable;
      return true;
    case Entry::Kind::Local:
      out.base = Base::Local;
      return true;
    case Entry::Kind::Parameter:
      out.base = Base::Parameter;
      return true;
    case Entry::Kind::Function:
      return true;
    default:
      break;
    }
  }
  if (entry) {
    return fail(raw.location,
                "'" + std::string(raw.name) + "' is no register; '" + std::string(mnemonic) + "' needs one here");
  }
  return fail(raw.location, "unknown name '" + std::string(raw.name) + "'");
}

bool TextParser::bindVector(const Slot &slot, Type type, const Instruction &instruction, const RawOperand &raw,
                            size_t count, Operand &out) {
  if (raw.kind != RawOperand::Kind::Vector) {
    return fail(raw.location,
                "'" + std::string(mnemonic) + "' needs a vector of " + std::to_string(count) + " in braces here");
  }
  if (raw.parts.size() != count) {
    return fail(raw.location, "the vector has " + std::to_string(raw.parts.size()) + " elements, '" +
                                  std::string(mnemonic) + "' needs " + std::to_string(count));
  }
  std::vector<Operand> elements(count);
  for (size_t i = 0; i < count; ++i) {
    if (!bindScalar(slot, type, instruction, raw.parts[i], elements[i])) {
      return false;
    }
  }
  out.kind = OperandKind::Vector;
  out.index = static_cast<uint32_t>(function->elements.size());
  out.count = static_cast<uint32_t>(count);
  function->elements.insert(function->elements.end(), elements.begin(), elements.end());
  return true;
}

bool TextParser::bindAddress(const Instruction &instruction, const RawOperand &raw, bool first, Operand &out) {
  if (raw.kind != RawOperand::Kind::Address) {
    return fail(raw.location, "'" + std::string(mnemonic) + "' needs an [address] here");
  }
  out.kind = OperandKind::Address;
  out.offset = raw.offset;
  if (raw.name.empty()) {
    return true;
  }
  const Entry *entry = lookup(raw.name);
  if (!entry) {
    return fail(raw.location, "unknown name '" + std::string(raw.name) + "'");
  }
  out.index = entry->index;
  Space space = Space::None;
  switch (entry->kind) {
  case Entry::Kind::Register: {
    Type type = function->registers[entry->index].type;
    if (isFloat(type) || (bitsOf(type) != 32 && bitsOf(type) != 64)) {
      return fail(raw.location, "'" + std::string(raw.name) + "' is ." + nameOf(type) +
                                    "; an address needs an integer register of 32 or 64 bits");
    }
    out.base = Base::Register;
    return true;
  }
  case Entry::Kind::Variable:
    out.base = Base::Variable;
    space = module.variables[entry->index].space;
    break;
  case Entry::Kind::Local:
    out.base = Base::Local;
    space = function->locals[entry->index].space;
    break;
  case Entry::Kind::Parameter:
    out.base = Base::Parameter;
    space = Space::Param;
    break;
  case Entry::Kind::Result:
    out.base = Base::Result;
    space = Space::Param;
    break;
  default:
    return fail(raw.location, "'" + std::string(raw.name) + "' has no address in memory");
  }
  Space wanted = instruction.mods.space == Space::SharedCluster ? Space::Shared : instruction.mods.space;
  bool checked = instruction.op == Opcode::Ld || instruction.op == Opcode::St || instruction.op == Opcode::Atom ||
                 instruction.op == Opcode::Red;
  if (first && checked && wanted != Space::None && wanted != space) {
    return fail(raw.location, "'" + std::string(raw.name) + "' is in ." + nameOf(space) + ", '" +
                                  std::string(mnemonic) + "' accesses ." + nameOf(wanted));
  }
  return true;
}

bool TextParser::bindSlot(const Slot &slot, Type type, const Instruction &instruction, const RawOperand &raw,
                          Operand &out) {
  switch (slot.kind) {
  case Slot::Kind::Address:
    return bindAddress(instruction, raw, true, out);
  case Slot::Kind::Tensor: {
    if (raw.kind != RawOperand::Kind::Tensor) {
      return fail(raw.location, "'" + std::string(mnemonic) + "' needs [tensor map, {coordinates}] here");
    }
    Operand parts[2];
    Slot coordinate;
    if (!bindAddress(instruction, raw.parts[0], false, parts[0]) ||
        !bindVector(coordinate, Type::S32, instruction, raw.parts[1], instruction.mods.dims, parts[1])) {
      return false;
    }
    out.kind = OperandKind::Tensor;
    out.index = static_cast<uint32_t>(function->elements.size());
    out.count = 2;
    function->elements.insert(function->elements.end(), parts, parts + 2);
    return true;
  }
  case Slot::Kind::Label: {
    if (raw.kind != RawOperand::Kind::Name || raw.negated || raw.offset != 0) {
      return fail(raw.location, "'" + std::string(mnemonic) + "' needs a label here");
    }
    out.kind = OperandKind::Label;
    LabelUse use;
    use.operand = static_cast<uint32_t>(function->operands.size());
    use.name = raw.name;
    use.scope = scope;
    use.location = raw.location;
    labelUses.push_back(use);
    return true;
  }
  case Slot::Kind::Targets: {
    const Entry *entry = raw.kind == RawOperand::Kind::Name ? lookup(raw.name) : nullptr;
    if (!entry || entry->kind != Entry::Kind::Targets) {
      return fail(raw.location, "'" + std::string(mnemonic) + "' needs the name of a .branchtargets list here");
    }
    out.kind = OperandKind::Targets;
    out.index = entry->index;
    return true;
  }
  case Slot::Kind::Fragment: {
    FragmentShape shape = fragmentShape(instruction, slot.fragment);
    bool destination = slot.fragment == 'd' || instruction.op == Opcode::WmmaLoad;
    Slot element;
    element.kind = destination ? Slot::Kind::Destination : Slot::Kind::Source;
    return bindVector(element, shape.type, instruction, raw, shape.count, out);
  }
  default:
    break;
  }
  switch (slot.shape) {
  case Slot::Shape::ByVector:
    if (instruction.mods.vector > 1) {
      return bindVector(slot, type, instruction, raw, instruction.mods.vector, out);
    }
    if (raw.kind == RawOperand::Kind::Vector && raw.parts.size() == 1) { // Triton writes scalars as { %r1 }
      return bindScalar(slot, type, instruction, raw.parts[0], out);
    }
    break;
  case Slot::Shape::ByMatrices: {
    // One register may stand without braces.
    if (instruction.mods.vector == 1 && raw.kind != RawOperand::Kind::Vector) {
      RawOperand whole;
      whole.kind = RawOperand::Kind::Vector;
      whole.location = raw.location;
      whole.parts.push_back(raw);
      return bindVector(slot, type, instruction, whole, 1, out);
    }
    return bindVector(slot, type, instruction, raw, instruction.mods.vector, out);
  }
  case Slot::Shape::Packed:
    if (raw.kind == RawOperand::Kind::Vector) {
      size_t count = raw.parts.size();
      Type part = count == 2 || count == 4 ? bitsType(bitsOf(type) / static_cast<unsigned>(count)) : Type::None;
      if (part == Type::None) {
        return fail(raw.location, "." + std::string(nameOf(type)) + " has no " + std::to_string(count) + " parts");
      }
      Slot element = slot;
      element.sink = slot.kind == Slot::Kind::Destination;
      return bindVector(element, part, instruction, raw, count, out);
    }
    break;
  case Slot::Shape::Any:
    if (raw.kind == RawOperand::Kind::Vector) {
      return bindVector(slot, type, instruction, raw, raw.parts.size(), out);
    }
    return fail(raw.location, "'" + std::string(mnemonic) + "' needs a vector in braces here");
  case Slot::Shape::Scalar:
  case Slot::Shape::Fixed:
    break;
  }
  return bindScalar(slot, type, instruction, raw, out);
}

bool TextParser::bind(const CompiledForm &form, Instruction &instruction, const std::vector<RawOperand> &raw) {
  size_t required = 0;
  for (const Slot &slot : form.slots) {
    bool absent = slot.optional || (slot.kind == Slot::Kind::Policy && !instruction.mods.cacheHint);
    required += absent ? 0 : 1;
  }
  size_t next = 0, requiredLeft = required;
  auto count = [&] {
    std::string expected = form.form->operands;
    return "'" + std::string(mnemonic) + "' takes other operands than the " + std::to_string(raw.size()) + " here: `" +
           (expected.empty() ? "none" : expected) + "`";
  };
  for (const Slot &slot : form.slots) {
    bool optional = slot.optional;
    bool present = true;
    if (slot.kind == Slot::Kind::Policy) {
      present = instruction.mods.cacheHint;
    } else if (slot.paired) {
      present = next > 0 && raw[next - 1].piped;
      if (!present && !optional) {
        return fail(instruction.location, count());
      }
    } else if (optional) {
      present = raw.size() - next > requiredLeft;
    }
    Operand operand;
    if (!present) {
      function->operands.push_back(operand);
      continue;
    }
    requiredLeft -= optional ? 0 : 1;
    if (next >= raw.size()) {
      return fail(instruction.location, count());
    }
    const RawOperand &given = raw[next];
    if (next > 0 && raw[next - 1].piped && !slot.paired) {
      return fail(given.location, "'" + std::string(mnemonic) + "' has no second destination after '|'");
    }
    ++next;
    Type type = slot.type;
    bool isAddress = slot.relaxed && slot.kind == Slot::Kind::RegisterOnly;
    if (type == Type::None && !isAddress) {
      type = instruction.types[slot.typeIndex];
    }
    if (slot.wide) {
      type = widened(type);
    }
    if (!bindSlot(slot, type, instruction, given, operand)) {
      return false;
    }
    function->operands.push_back(operand);
  }
  if (next != raw.size()) {
    return fail(instruction.location, count());
  }
  return true;
}

} // namespace moert::emulator::ptx
