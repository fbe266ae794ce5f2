//===- Samples.cpp - Instructions made from the table ---------------------===//
//
// Registers are named by their type and a number. Combinations that
// rules across types forbid (Checks.cpp) are left out here by the same rules of
// the PTX ISA, written down a second time.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/ptx/Samples.h"

using namespace moert::emulator::ptx;

namespace {

/// One choice per position of the mnemonic: index of a word or type, or -1 for leaving an optional one out.
using Choice = std::vector<int>;

std::string mnemonicOf(const CompiledForm &form, const Choice &choice) {
  std::string_view whole = form.form->mnemonic;
  std::string text(whole.substr(0, whole.find(' ')));
  for (size_t p = 0; p < form.positions.size(); ++p) {
    if (choice[p] < 0) {
      continue;
    }
    const Position &position = form.positions[p];
    auto index = static_cast<size_t>(choice[p]);
    text +=
        std::string(".") + (position.types.empty() ? textOf(*position.words[index]) : nameOf(position.types[index]));
  }
  return text;
}

std::string registerOf(Type type, unsigned number) {
  std::string prefix = type == Type::Pred  ? "%pred_"
                       : type == Type::F32 ? "%f32_"
                       : type == Type::F64 ? "%f64_"
                                           : "%b" + std::to_string(bitsOf(type) < 16 ? 16 : bitsOf(type)) + "_";
  return prefix + std::to_string(number);
}

bool is(Type type, std::initializer_list<Type> list) {
  for (Type candidate : list) {
    if (candidate == type) {
      return true;
    }
  }
  return false;
}

bool isInteger(Type type) { return type >= Type::U8 && type <= Type::S64; }

/// Whether the PTX ISA has this combination.
bool exists(const Instruction &i) {
  const Modifiers &m = i.mods;
  Type to = i.types[0], from = i.types[1];
  if (i.op == Opcode::Cvt) {
    bool toInt = isInteger(to), fromInt = isInteger(from);
    bool half = is(to, {Type::F16x2, Type::BF16x2}) || is(from, {Type::BF16}) || is(to, {Type::BF16});
    bool rni = m.round >= Round::RNI && m.round <= Round::RPI, rnd = m.round >= Round::RN && m.round <= Round::RP;
    bool plain = !half && (toInt || is(to, {Type::F16, Type::F32, Type::F64})) &&
                 (fromInt || is(from, {Type::F16, Type::F32, Type::F64}));
    if (plain) {
      bool narrow = toInt ? !fromInt : fromInt || bitsOf(to) < bitsOf(from);
      bool good = toInt && fromInt ? m.round == Round::None
                  : toInt          ? rni
                  : narrow         ? rnd
                                   : (bitsOf(to) == bitsOf(from) ? !rnd : m.round == Round::None);
      bool single = to == Type::F32 || from == Type::F32;
      auto low = [](Type t) { return isSigned(t) ? static_cast<int>(bitsOf(t)) - 1 : 0; };
      auto high = [](Type t) { return static_cast<int>(bitsOf(t)) - (isSigned(t) ? 1 : 0); };
      bool clamps = !toInt || !fromInt || low(from) > low(to) || high(from) > high(to);
      return good && (!m.ftz || single) && (!m.sat || clamps);
    }
    return true;
  }
  if (i.op == Opcode::Set || i.op == Opcode::Setp) {
    Type type = i.op == Opcode::Set ? from : to;
    bool unsignedOnly = m.cmp >= Cmp::Lo && m.cmp <= Cmp::Hs, floatOnly = m.cmp >= Cmp::Equ;
    if (isFloat(type)) {
      return !unsignedOnly;
    }
    if (type >= Type::B8 && type <= Type::B128) {
      return m.cmp == Cmp::Eq || m.cmp == Cmp::Ne;
    }
    return !floatOnly && !(unsignedOnly && isSigned(type));
  }
  bool barrier = i.op >= Opcode::MbarrierExpectTx && i.op <= Opcode::MbarrierTryWait;
  if (barrier && (m.sem == Sem::None) != (m.scope == Scope::None)) {
    return false;
  }
  if (is(Type::None, {to}) || m.vector == 1) {
    return true;
  }
  if (i.op == Opcode::Ld || i.op == Opcode::Ldu || i.op == Opcode::St || i.op == Opcode::StAsync) {
    return m.vector * bitsOf(to) <= 128;
  }
  return true;
}

std::string vectorOf(Type type, size_t count, unsigned first) {
  std::string text = "{";
  for (size_t i = 0; i < count; ++i) {
    text += (i ? ", " : "") + registerOf(type, first + static_cast<unsigned>(i));
  }
  return text + "}";
}

/// The constant that a form wants where it takes constants only.
std::string constantOf(const Instruction &i, size_t slot) {
  switch (i.op) {
  case Opcode::CpAsync:
    return "16";
  case Opcode::Setmaxnreg:
    return "64";
  case Opcode::WgmmaMmaAsync:
    return slot < 6 ? "1" : "0";
  case Opcode::FenceProxy:
  case Opcode::TensormapCpFenceproxy:
  case Opcode::Discard:
  case Opcode::Applypriority:
    return "128";
  case Opcode::Alloca:
    return "16";
  default:
    return "1";
  }
}

std::string addressOf(const Instruction &i, unsigned number) {
  bool first = number == 0;
  if (i.mods.space == Space::Const && first) {
    return "[constants]";
  }
  if (i.mods.space == Space::Param && first) {
    return i.op == Opcode::St ? "[argument]" : "[parameter]";
  }
  return "[%b64_" + std::to_string(number) + "]";
}

std::string operandsOf(const CompiledForm &form, const Instruction &instruction) {
  std::string text;
  unsigned number = 0, addresses = 0;
  for (size_t s = 0; s < form.slots.size(); ++s) {
    const Slot &slot = form.slots[s];
    if (slot.kind == Slot::Kind::Policy && !instruction.mods.cacheHint) {
      continue;
    }
    bool oneResult = instruction.op == Opcode::Setp && is(instruction.types[0], {Type::F16, Type::BF16});
    if (slot.optional && (!slot.paired || oneResult)) {
      continue;
    }
    text += text.empty() ? " " : slot.paired ? "|" : ", ";
    Type type = slot.type == Type::None ? instruction.types[slot.typeIndex] : slot.type;
    if (slot.wide) {
      type = bitsOf(type) == 16 ? Type::B32 : Type::B64;
    }
    size_t count = slot.shape == Slot::Shape::ByVector && instruction.mods.vector > 1 ? instruction.mods.vector
                   : slot.shape == Slot::Shape::ByMatrices                            ? instruction.mods.vector
                   : slot.shape == Slot::Shape::Any ? static_cast<size_t>(instruction.mods.dims - 2)
                                                    : 0;
    switch (slot.kind) {
    case Slot::Kind::Destination:
    case Slot::Kind::Source:
    case Slot::Kind::RegisterOnly:
      if (slot.sink && slot.count == 1) {
        text += "_";
      } else if (slot.relaxed && type == Type::None) {
        text += registerOf(Type::B64, number++);
      } else if (count) {
        text += vectorOf(type, count, number);
        number += static_cast<unsigned>(count);
      } else {
        bool narrow = bitsOf(type) == 8 && !slot.relaxed;
        text += narrow ? "%b8_" + std::to_string(number++) : registerOf(type, number++);
      }
      break;
    case Slot::Kind::ImmediateOnly:
      text += constantOf(instruction, s);
      break;
    case Slot::Kind::PredicateDestination:
    case Slot::Kind::PredicateSource:
      text += registerOf(Type::Pred, number++);
      break;
    case Slot::Kind::Address:
      text += addressOf(instruction, addresses++);
      break;
    case Slot::Kind::Tensor:
      text += "[%b64_0, " + vectorOf(Type::B32, instruction.mods.dims, 0) + "]";
      break;
    case Slot::Kind::Label:
      text += "done";
      break;
    case Slot::Kind::Targets:
      text += "targets";
      break;
    case Slot::Kind::Fragment: {
      FragmentShape shape = fragmentShape(instruction, slot.fragment);
      // D and C share registers: wgmma reads and writes its accumulator.
      text += vectorOf(shape.type, shape.count, slot.fragment == 'a' ? 200 : slot.fragment == 'b' ? 220 : 0);
      break;
    }
    case Slot::Kind::Policy:
      text += "%b64_9";
      break;
    }
  }
  return text;
}

} // namespace

std::vector<Sample> makeSamples(const std::function<bool(const CompiledForm &)> &wanted, bool everyCombination) {
  std::vector<Sample> out;
  for (size_t f = 0; f < allForms().size(); ++f) {
    const CompiledForm &form = allForms()[f];
    if (wanted && !wanted(form)) {
      continue;
    }
    Choice base;
    for (const Position &position : form.positions) {
      base.push_back(position.optional ? -1 : 0);
    }
    std::vector<Choice> choices{base};
    for (size_t p = 0; p < form.positions.size(); ++p) {
      size_t count = form.positions[p].types.size() + form.positions[p].words.size();
      std::vector<Choice> more;
      for (const Choice &earlier : choices) {
        // Types are combined with one another; words are tried one at a time.
        bool plain = everyCombination || !form.positions[p].types.empty() || earlier == base ||
                     form.form->op == Opcode::MbarrierTryWait || form.form->op == Opcode::MbarrierArrive ||
                     form.form->op == Opcode::MbarrierExpectTx;
        for (size_t c = 0; plain && c < count; ++c) {
          Choice next = earlier;
          next[p] = static_cast<int>(c);
          if (next != earlier) {
            more.push_back(next);
          }
        }
      }
      choices.insert(choices.end(), more.begin(), more.end());
    }
    for (const Choice &choice : choices) {
      std::string mnemonic = mnemonicOf(form, choice);
      std::vector<std::string_view> words;
      for (size_t p = 0; p < form.positions.size(); ++p) {
        if (choice[p] >= 0) {
          auto index = static_cast<size_t>(choice[p]);
          words.push_back(form.positions[p].types.empty() ? textOf(*form.positions[p].words[index])
                                                          : nameOf(form.positions[p].types[index]));
        }
      }
      Instruction instruction;
      size_t misfit = 0;
      if (!matchMnemonic(form, words, instruction, misfit) || !exists(instruction)) {
        continue;
      }
      Sample sample;
      sample.text = mnemonic + operandsOf(form, instruction) + ";";
      sample.mnemonic = mnemonic;
      sample.instruction = instruction;
      sample.form = f;
      Gate gate = gateOf(*form.form, instruction.mods);
      sample.ptx = gate.ptx;
      sample.sm = gate.sm & (archSpecific - 1);
      sample.arch = (gate.sm & archSpecific) != 0;
      out.push_back(sample);
    }
  }
  return out;
}

std::string moduleAround(const std::string &instructions, unsigned ptx, const std::string &target) {
  return ".version " + std::to_string(ptx / 10) + "." + std::to_string(ptx % 10) + "\n.target " + target +
         "\n.address_size 64\n"
         ".const .align 16 .b8 constants[64];\n"
         ".visible .entry kernel(.param .align 16 .b8 parameter[64]) {\n"
         ".reg .pred %pred_<64>;\n.reg .b8 %b8_<64>;\n.reg .b16 %b16_<64>;\n.reg .b32 %b32_<256>;\n.reg .b64 "
         "%b64_<64>;\n"
         ".reg .f32 %f32_<256>;\n.reg .f64 %f64_<256>;\n" +
         std::string(ptx >= 83 ? ".reg .b128 %b128_<8>;\n" : "") +
         ".param .align 16 .b8 argument[64];\n"
         "targets: .branchtargets done, done;\n" +
         instructions + "\ndone:\nret;\n}\n";
}
