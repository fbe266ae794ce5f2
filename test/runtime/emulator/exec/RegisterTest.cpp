//===- RegisterTest.cpp - Every row of the table that works on registers ---===//
//
// Walks the instruction table as the support page does: each form in each type
// with every combination of its modifiers becomes a kernel, which runs on operands
// chosen to hurt (zeros of both signs, NaNs, infinities, subnormals, the least and
// largest integers, shift counts beyond the width), all of them with one another.
// Results, predicates and carry flags are compared with Reference.h, bit by bit
// where the ISA is exact. A form without a reference fails: the table cannot
// outgrow its test.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/exec/Reference.h"
#include "test/runtime/emulator/exec/Rows.h"

#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;
using ptx::CompiledForm;
using ptx::Instruction;
using ptx::Opcode;
using ptx::Slot;
using ptx::Type;

namespace {

constexpr unsigned laneCount = 1024;

bool isInteger(Type t) { return t >= Type::U8 && t <= Type::S64; }

/// Bit patterns that an operand of the type should have met.
std::vector<uint64_t> edgesOf(Type type, std::mt19937_64 &random) {
  const Type single = elementOf(type);
  std::vector<uint64_t> out;
  if (ptx::isFloat(single) || single == Type::E4M3 || single == Type::E5M2) {
    const Layout layout = layoutOf(single);
    const uint64_t sign = uint64_t(1) << (layout.width() - 1), one = uint64_t(layout.bias()) << layout.mantissa;
    const uint64_t infinity = ((uint64_t(1) << layout.exponent) - 1) << layout.mantissa, least = uint64_t(1)
                                                                                                 << layout.mantissa;
    for (uint64_t v : {uint64_t(0), one, one + 1, one - 1, uint64_t(1), least - 1, least, least + 1, infinity,
                       infinity - 1, infinity + 1, infinity | least / 2, sign - 1}) {
      out.push_back(v);
      out.push_back(v | sign);
    }
    if (layout.width() == 16) { // what tensor copies fill with, for fma.oob
      out.push_back(single == Type::F16 ? 0x7EFF : 0x7FEF);
    }
    for (double v : {0.5,
                     1.5,
                     2.5,
                     -3.5,
                     3.14159265,
                     127.5,
                     255.5,
                     -128.5,
                     32768.0,
                     65535.5,
                     2147483648.0,
                     4294967296.0,
                     -2147483649.0,
                     9223372036854775808.0,
                     18446744073709551616.0,
                     1e-3,
                     448.0,
                     464.0,
                     57344.0,
                     61440.0,
                     65520.0,
                     1e30}) {
      out.push_back(rounded(numberOf(v), layout, ptx::Round::RN));
    }
    // Exponents near each other, so that sums cancel.
    for (unsigned k = 0; k < 8; ++k) {
      out.push_back((random() & sign) | ((one + ((random() % 4) << layout.mantissa)) & ~(least - 1)) |
                    (random() & (least - 1)));
    }
  } else {
    const unsigned width = std::min(64U, ptx::bitsOf(single));
    const uint64_t top = uint64_t(1) << (width - 1);
    for (uint64_t v : {uint64_t(0),
                       uint64_t(1),
                       uint64_t(2),
                       uint64_t(3),
                       uint64_t(5),
                       uint64_t(7),
                       uint64_t(8),
                       uint64_t(15),
                       uint64_t(16),
                       uint64_t(17),
                       uint64_t(31),
                       uint64_t(32),
                       uint64_t(33),
                       uint64_t(63),
                       uint64_t(64),
                       uint64_t(65),
                       uint64_t(127),
                       uint64_t(128),
                       uint64_t(255),
                       uint64_t(256),
                       uint64_t(0x7FFF),
                       uint64_t(0x8000),
                       uint64_t(0xFFFF),
                       top,
                       top - 1,
                       top + 1,
                       ~uint64_t(0),
                       ~uint64_t(0) - 1,
                       uint64_t(0x5555555555555555),
                       uint64_t(0x00FF00FF00FF00FF)}) {
      out.push_back(v);
    }
  }
  for (unsigned k = 0; k < 8; ++k) {
    out.push_back(random());
  }
  if (lanesOf(type) == 2 || type == Type::U16x2 || type == Type::S16x2) {
    const unsigned width = lanesOf(type) == 2 ? ptx::bitsOf(single) : 16;
    const auto count = out.size();
    for (size_t k = 0; k < count; ++k) {
      out[k] = low(out[k], width) | out[random() % count] << width;
    }
  }
  return out;
}

/// How the operands of a form become registers of a kernel.
struct Plan {
  std::string text; ///< the instruction with its operands
  struct Source {
    Type type;
    unsigned bits; ///< of the register; 1: a predicate
  };
  std::vector<Source> sources;
  std::vector<uint64_t> immediates; ///< by source; used where bits is 0
  unsigned resultBits = 0;          ///< 0: no destination but predicates
  bool p = false, q = false;
};

/// `wide`: 64-bit registers where a wider one is allowed.
Plan planOf(const Row &row, bool wide, uint64_t immediate) {
  Plan plan;
  const Instruction &i = row.instruction;
  std::string operands;
  for (const Slot &slot : row.form->slots) {
    if (slot.paired && i.op == Opcode::Setp && (i.types[0] == Type::F16 || i.types[0] == Type::BF16)) {
      continue; // these have one result
    }
    Type type = slot.type == Type::None ? i.types[slot.typeIndex] : slot.type;
    // With bf16 an 8-bit type wants a register of 8 bits.
    unsigned bits = std::max(slot.relaxed ? 16U : 8U, ptx::bitsOf(type));
    bits = slot.wide ? 2 * bits : bits;
    bits = wide && slot.relaxed && isInteger(type) ? 64 : bits;
    operands += operands.empty() ? " " : slot.paired ? "|" : ", ";
    auto source = [&](unsigned registerBits, uint64_t value) {
      operands += registerBits ? (registerBits == 1 ? "%c" : "%s") + std::to_string(plan.sources.size())
                               : std::to_string(value);
      plan.sources.push_back({type, registerBits});
      plan.immediates.push_back(value);
    };
    switch (slot.kind) {
    case Slot::Kind::Destination:
      if (type == Type::Pred) {
        operands += "%p0";
        plan.p = true;
      } else {
        operands += "%d";
        plan.resultBits = bits;
      }
      break;
    case Slot::Kind::PredicateDestination:
      operands += plan.p ? "%p1" : "%p0";
      (plan.p ? plan.q : plan.p) = true;
      break;
    case Slot::Kind::PredicateSource:
      type = Type::Pred;
      source(1, 0);
      break;
    case Slot::Kind::ImmediateOnly:
      source(0, immediate);
      break;
    default:
      source(bits, 0);
      break;
    }
  }
  plan.text = row.mnemonic + operands + ";";
  return plan;
}

std::string kernelOf(const Plan &plan, bool setsCarry, bool subtracts, unsigned carryBits) {
  std::string body =
      ".reg .b64 %rd<4>; .reg .b32 %r<8>, %bit<8>; .reg .pred %p<2>, %c<6>; .reg .b64 %carry64; .reg .b32 %carry32;\n";
  for (size_t k = 0; k < plan.sources.size(); ++k) {
    if (plan.sources[k].bits > 1) {
      body += ".reg .b" + std::to_string(plan.sources[k].bits) + " %s" + std::to_string(k) + ";\n";
    }
  }
  if (plan.resultBits) {
    body += ".reg .b" + std::to_string(plan.resultBits) + " %d;\n";
  }
  body += "ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out];\n"
          "mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x; mad.lo.u32 %r1, %r1, 256, %r2; mul.wide.u32 %rd3, %r1, 64;\n"
          "add.u64 %rd1, %rd1, %rd3; add.u64 %rd2, %rd2, %rd3;\n";
  for (size_t k = 0; k < plan.sources.size(); ++k) {
    const std::string number = std::to_string(k), place = "[%rd1+" + std::to_string(8 * k) + "]";
    if (plan.sources[k].bits == 1) {
      body += "ld.global.u32 %bit" + number + ", " + place + "; setp.ne.u32 %c" + number + ", %bit" + number + ", 0;\n";
    } else if (plan.sources[k].bits) {
      body += "ld.global.b" + std::to_string(plan.sources[k].bits) + " %s" + number + ", " + place + ";\n";
    }
  }
  if (carryBits) {
    // The flag before the instruction is the word at 56: carries of a sum, borrows of a difference.
    const std::string width = std::to_string(carryBits), carry = "%carry" + width;
    body += "ld.global.u" + width + " " + carry + ", [%rd1+56];\n";
    body += subtracts ? "sub.cc.u" + width + " " + carry + ", 0, " + carry + ";\n"
                      : "add.cc.u" + width + " " + carry + ", " + carry + ", -1;\n";
  }
  body += plan.text + "\n";
  if (setsCarry) {
    body += std::string(subtracts ? "subc" : "addc") + ".u32 %r3, 0, 0; st.global.u32 [%rd2+16], %r3;\n";
  }
  if (plan.resultBits) {
    body += "st.global.b" + std::to_string(plan.resultBits) + " [%rd2], %d;\n";
  }
  for (unsigned k = 0; k < 2; ++k) {
    if (k ? plan.q : plan.p) {
      const std::string number = std::to_string(k);
      body += "selp.u32 %r4, 1, 0, %p" + number + "; st.global.u32 [%rd2+" + std::to_string(8 + 4 * k) + "], %r4;\n";
    }
  }
  return kernel(".param .u64 in, .param .u64 out", body + "ret;");
}

/// One row with one choice of registers and of its immediate.
void check(const Row &row, bool wide, uint64_t immediate) {
  const Instruction &i = row.instruction;
  const Plan plan = planOf(row, wide, immediate);
  const bool usesCarry = i.op == Opcode::Addc || i.op == Opcode::Subc || i.op == Opcode::Madc;
  const bool subtracts = i.op == Opcode::Sub || i.op == Opcode::Subc;
  const unsigned carryBits = usesCarry ? ptx::bitsOf(i.types[0]) : 0;
  Device device;
  const std::string text = kernelOf(plan, i.mods.cc, subtracts, carryBits);
  ASSERT_TRUE(device.load(text)) << text;

  std::mt19937_64 random(7);
  std::vector<std::vector<uint64_t>> edges;
  for (const Plan::Source &source : plan.sources) {
    edges.push_back(source.type == Type::Pred ? std::vector<uint64_t>{0, 1} : edgesOf(source.type, random));
  }
  // Every pair of the first two operands as far as there are lanes; the others at random.
  const size_t count = plan.sources.size();
  std::vector<uint64_t> in(laneCount * 8), out(laneCount * 8);
  const size_t rows = count ? edges[0].size() : 1, columns = count > 1 ? edges[1].size() : 1;
  for (unsigned l = 0; l < laneCount; ++l) {
    for (size_t k = 0; k < count; ++k) {
      const size_t pick = l < rows * columns && k < 2 ? (k ? l / rows : l % rows) : random() % edges[k].size();
      in[l * 8 + k] = plan.sources[k].bits ? edges[k][pick] : plan.immediates[k];
      // Narrow types leave garbage above them in their registers.
      if (plan.sources[k].bits > ptx::bitsOf(plan.sources[k].type) && plan.sources[k].bits > 1) {
        in[l * 8 + k] =
            low(in[l * 8 + k], ptx::bitsOf(plan.sources[k].type)) | random() << ptx::bitsOf(plan.sources[k].type);
      }
    }
    in[l * 8 + 7] = random() & 1;
  }
  const uint64_t pin = device.upload(in), pout = device.upload(out);
  ASSERT_EQ(device.run({laneCount / 256, 1, 1}, {256, 1, 1}, pin, pout), LaunchError::None) << device.findings();
  ASSERT_EQ(device.findings(), "");
  out = device.download<uint64_t>(pout, laneCount * 8);
  for (unsigned l = 0; l < laneCount; ++l) {
    Given given;
    given.carry = in[l * 8 + 7] & 1;
    given.resultBits = plan.resultBits;
    for (size_t k = 0; k < count && k < std::size(given.s); ++k) {
      given.s[k] = plan.sources[k].bits ? low(in[l * 8 + k], plan.sources[k].bits) : plan.immediates[k];
      given.sourceBits[k] = plan.sources[k].bits;
    }
    Wanted wanted;
    ASSERT_TRUE(reference(i, given, wanted)) << "no reference for this form; add it to Reference*.cpp";
    auto where = [&] {
      char words[256];
      std::snprintf(words, sizeof words, "a 0x%llx b 0x%llx c 0x%llx carry %d", (unsigned long long)given.s[0],
                    (unsigned long long)given.s[1], (unsigned long long)given.s[2], given.carry);
      return plan.text + " on " + words;
    };
    ASSERT_TRUE(plan.resultBits || wanted.p) << "nothing to compare";
    for (const Wanted::Part &part : wanted.d) {
      const uint64_t got = low(low(out[l * 8], plan.resultBits) >> part.at, part.bits);
      ASSERT_TRUE(part.allowed.admits(got))
          << where() << " gives 0x" << std::hex << got << ", not " << part.allowed.str();
    }
    if (plan.p) {
      ASSERT_TRUE(wanted.p.has_value());
      ASSERT_EQ(uint32_t(out[l * 8 + 1]), uint32_t(*wanted.p)) << where();
    }
    if (plan.q) {
      ASSERT_TRUE(wanted.q.has_value());
      ASSERT_EQ(uint32_t(out[l * 8 + 1] >> 32), uint32_t(*wanted.q)) << where();
    }
    if (i.mods.cc) {
      ASSERT_EQ(uint32_t(out[l * 8 + 2]), *wanted.carry ? (subtracts ? ~0U : 1U) : 0U) << "the flag of " << where();
    }
  }
}

class Registers : public ::testing::TestWithParam<Opcode> {};
} // namespace

TEST_P(Registers, GiveWhatTheIsaSays) {
  unsigned count = 0;
  for (const Row &row : rowsOf({GetParam()}, true)) {
    if (row.form->slots[0].shape == Slot::Shape::Packed) {
      continue; // mov.b: below
    }
    ++count;
    const bool takesConstant = row.instruction.op == Opcode::Lop3;
    for (uint64_t immediate :
         takesConstant ? std::vector<uint64_t>{0xD2, 0x96, 0xE8, 0xCA, 0, 255} : std::vector<uint64_t>{0}) {
      check(row, false, immediate);
    }
    if (row.instruction.op == Opcode::Cvt &&
        (isInteger(row.instruction.types[0]) || isInteger(row.instruction.types[1])) && row.form->slots[0].relaxed) {
      check(row, true, 0);
    }
    if (HasFatalFailure()) {
      return;
    }
  }
  EXPECT_GT(count, 0U);
}

TEST(Moves, PartsStandLowestFirst) {
  // A word is taken apart and put together with the parts the other way round.
  struct Case {
    unsigned bits, parts;
  };
  for (const Case &c : {Case{16, 2}, Case{32, 2}, Case{32, 4}, Case{64, 2}, Case{64, 4}, Case{128, 2}}) {
    const unsigned part = c.bits / c.parts;
    std::string forward, backward;
    for (unsigned k = 0; k < c.parts; ++k) {
      forward += (k ? ", %x" : "%x") + std::to_string(k);
      backward += (k ? ", %x" : "%x") + std::to_string(c.parts - 1 - k);
    }
    const std::string type = ".b" + std::to_string(c.bits);
    const std::string body = ".reg .b64 %rd<4>; .reg " + type + " %s, %d; .reg .b" + std::to_string(part) +
                             " %x<4>;\nld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out];\nld.global" + type +
                             " %s, [%rd1];\nmov" + type + " {" + forward + "}, %s;\nmov" + type + " %d, {" + backward +
                             "};\nmov" + type + " %s, %d;\nst.global" + type + " [%rd2], %s; ret;";
    SCOPED_TRACE(body);
    std::vector<uint8_t> in(16), out(16);
    for (unsigned k = 0; k < 16; ++k) {
      in[k] = uint8_t(17 * k + 3);
    }
    Device device;
    ASSERT_TRUE(device.load(kernel(".param .u64 in, .param .u64 out", body)));
    const uint64_t pin = device.upload(in), pout = device.upload(out);
    ASSERT_EQ(device.run({1, 1, 1}, {1, 1, 1}, pin, pout), LaunchError::None);
    EXPECT_EQ(device.findings(), "");
    out = device.download<uint8_t>(pout, c.bits / 8);
    for (unsigned k = 0; k < c.bits / 8; ++k) {
      EXPECT_EQ(out[k], in[(c.parts - 1 - k / (part / 8)) * (part / 8) + k % (part / 8)]) << k;
    }
  }
}

static std::string nameFor(const ::testing::TestParamInfo<Opcode> &info) {
  std::string name = nameOf(info.param);
  for (char &c : name) {
    c = c == '.' ? '_' : c;
  }
  return name;
}
INSTANTIATE_TEST_SUITE_P(Table, Registers, ::testing::ValuesIn(opcodesOf(Family::Registers)), nameFor);
