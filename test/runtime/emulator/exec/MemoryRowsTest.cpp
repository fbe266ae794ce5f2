//===- MemoryRowsTest.cpp - Every row of loads, stores and atomics ---------===//
//
// Each ld, st, atom and red of the instruction table in each space, type and
// vector length: bytes arrive where they belong, narrow types are extended in wider
// registers, read-modify-writes give the old value and leave the right new one,
// computed here in integers. What only orders or hints is executed between a store
// and a load of the same place, and must change nothing.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/exec/ReferenceCombine.h"
#include "test/runtime/emulator/exec/Rows.h"

#include <algorithm>
#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;
using ptx::Opcode;
using ptx::Reduce;
using ptx::Slot;
using ptx::Space;
using ptx::Type;

namespace {

constexpr unsigned area = 32; ///< bytes of one lane

struct Block32 {
  uint8_t bytes[area];
};

unsigned registerBits(Type type) { return std::max(16U, ptx::bitsOf(type)); }

std::string reg(const char *prefix, unsigned count, bool vector) {
  std::string out = vector ? "{" : "";
  for (unsigned i = 0; i < count; ++i) {
    out += (i ? ", " : "") + std::string(prefix) + std::to_string(i);
  }
  return out + (vector ? "}" : "");
}

/// The parts of a kernel that one row needs around it.
struct Frame {
  std::string before, parameters, body;
  std::string place; ///< the operand: an address of the lane's 32 bytes
};

/// Each lane's area in the row's space, filled from `in`; %rd1 is the lane's place in `in`, %rd2 in `out`.
Frame frameFor(Space space) {
  Frame f;
  f.parameters = ".param .align 32 .b8 block[32], .param .u64 in, .param .u64 out";
  f.body = R"(
  .reg .b32 %r<8>, %w<8>; .reg .b64 %rd<8>, %pol;
  .shared .align 32 .b8 s[1024];
  .local .align 32 .b8 own[32];
  ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 32;
  add.u64 %rd1, %rd1, %rd3; add.u64 %rd2, %rd2, %rd3;
  shl.b32 %r2, %r1, 5;
  mov.u32 %r3, s; add.u32 %r3, %r3, %r2;
  mov.u64 %rd4, own;
  createpolicy.fractional.L2::evict_last.b64 %pol, 0f3F800000;
  ld.global.v4.u32 {%w0, %w1, %w2, %w3}, [%rd1];
  ld.global.v4.u32 {%w4, %w5, %w6, %w7}, [%rd1+16];
)";
  const std::string fill = "{%w0, %w1, %w2, %w3};\n", fill2 = "{%w4, %w5, %w6, %w7};\n";
  switch (space) {
  case Space::Shared:
  case Space::SharedCluster:
    f.place = "[%r3]";
    f.body += "st.shared.v4.u32 [%r3], " + fill + "st.shared.v4.u32 [%r3+16], " + fill2;
    break;
  case Space::Local:
    f.place = "[%rd4]";
    f.body += "st.local.v4.u32 [%rd4], " + fill + "st.local.v4.u32 [%rd4+16], " + fill2;
    break;
  case Space::Const:
    f.place = "[constants]";
    break;
  case Space::Param:
    f.place = "[block]";
    break;
  default: // global and generic
    f.place = "[%rd1]";
    break;
  }
  return f;
}

std::vector<Block32> inputs(bool same) {
  std::mt19937 random(5);
  std::vector<Block32> out(32);
  for (Block32 &block : out) {
    for (uint8_t &byte : block.bytes) {
      byte = uint8_t(random() | (random() % 3 ? 0x80 : 0));
    }
  }
  if (same) {
    std::fill(out.begin(), out.end(), out[0]);
  }
  return out;
}

std::string constantsOf(const Block32 &block) {
  std::string text = ".const .align 32 .b8 constants[32] = {";
  for (unsigned i = 0; i < area; ++i) {
    text += (i ? ", " : "") + std::to_string(block.bytes[i]);
  }
  return text + "};\n";
}

uint64_t read(const uint8_t *from, unsigned bits) {
  uint64_t v = 0;
  std::memcpy(&v, from, bits / 8);
  return v;
}

void run(const std::string &text, const std::vector<Block32> &in, std::vector<Block32> &memory,
         std::vector<uint8_t> &out) {
  Device device;
  ASSERT_TRUE(device.load(text)) << text;
  const uint64_t pin = device.upload(in), pout = device.upload(out);
  ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, in[0], pin, pout), LaunchError::None) << text << device.findings();
  ASSERT_EQ(device.findings(), "") << text;
  memory = device.download<Block32>(pin, in.size());
  out = device.download<uint8_t>(pout, out.size());
}

void checkLoad(const Row &row, bool wide) {
  const ptx::Instruction &i = row.instruction;
  const Type type = i.types[0];
  const unsigned count = i.mods.vector, size = ptx::bitsOf(type) / 8;
  const bool inFunction = row.mnemonic.find("param::func") != std::string::npos;
  const unsigned bits = wide ? 64 : registerBits(type);
  Frame f = frameFor(i.mods.space == Space::None && i.op == Opcode::Ldu ? Space::Global : i.mods.space);
  const std::string kind = ".b" + std::to_string(bits);
  std::string load = ".reg " + kind + " %d<8>;\n" + row.mnemonic + " " + reg("%d", count, count > 1) + ", " +
                     (inFunction ? "[block]" : f.place) + (i.mods.cacheHint ? ", %pol" : "") + ";\n";
  for (unsigned e = 0; e < count; ++e) {
    load += "st.global" + kind + " [%rd2+" + std::to_string(e * bits / 8) + "], %d" + std::to_string(e) + ";\n";
  }
  const std::vector<Block32> in = inputs(i.mods.space == Space::Const || i.mods.space == Space::Param);
  std::string before = constantsOf(in[0]), body;
  if (inFunction) {
    before += ".func f(.param .align 32 .b8 block[32], .param .b64 out)\n{\n.reg .b64 %rd<4>, %pol;\nld.param.b64 "
              "%rd2, [out];\n"
              "createpolicy.fractional.L2::evict_last.b64 %pol, 0f3F800000;\n" +
              load + "ret;\n}\n";
    body = f.body +
           ".param .align 32 .b8 argument[32];\n.param .b64 place;\nst.param.v4.b32 [argument], {%w0, %w1, %w2, %w3};\n"
           "st.param.v4.b32 [argument+16], {%w4, %w5, %w6, %w7};\nst.param.b64 [place], %rd2;\ncall f, (argument, "
           "place);\nret;";
  } else {
    body = f.body + load + "ret;";
  }
  std::vector<Block32> memory;
  std::vector<uint8_t> out(32 * area * 2);
  // The results of a vector in wide registers need more than 32 bytes; such a row is tried with one register only.
  run(kernel(f.parameters, body, before), in, memory, out);
  for (unsigned l = 0; l < 32; ++l) {
    for (unsigned e = 0; e < count; ++e) {
      uint64_t want = read(in[l].bytes + e * size, std::min(64U, size * 8));
      if (ptx::isSigned(type)) {
        want = uint64_t(int64_t(want << (64 - size * 8)) >> (64 - size * 8));
      }
      want = bits >= 64 ? want : want & ((uint64_t(1) << bits) - 1);
      ASSERT_EQ(read(&out[l * area + e * bits / 8], std::min(64U, bits)), want) << "lane " << l << " element " << e;
      if (bits == 128) {
        ASSERT_EQ(read(&out[l * area + 8], 64), read(in[l].bytes + 8, 64));
      }
    }
  }
}

void checkStore(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  const Type type = i.types[0];
  const unsigned count = i.mods.vector, size = ptx::bitsOf(type) / 8, bits = registerBits(type);
  const bool call = i.mods.space == Space::Param;
  // The lane's area holds 0xEE; values come from `in`.
  Frame f = frameFor(Space::None);
  std::string body = f.body, place = "[%rd2]", readBack;
  const std::string blank = "{%e, %e, %e, %e};\n";
  body += ".reg .b32 %e; mov.u32 %e, 0xEEEEEEEE;\n";
  auto copyOut = [&](const std::string &space, const std::string &base) {
    for (unsigned part = 0; part < 2; ++part) {
      const std::string at = std::to_string(part * 16);
      readBack += "ld." + space + ".v4.u32 {%w0, %w1, %w2, %w3}, [" + base + "+" + at + "];\nst.global.v4.u32 [%rd2+" +
                  at + "], {%w0, %w1, %w2, %w3};\n";
    }
  };
  std::string before;
  if (i.mods.space == Space::Shared || i.mods.space == Space::SharedCluster) {
    place = "[%r3]";
    body += "st.shared.v4.u32 [%r3], " + blank + "st.shared.v4.u32 [%r3+16], " + blank;
    copyOut("shared", "%r3");
  } else if (i.mods.space == Space::Local) {
    place = "[%rd4]";
    body += "st.local.v4.u32 [%rd4], " + blank + "st.local.v4.u32 [%rd4+16], " + blank;
    copyOut("local", "%rd4");
  } else if (call) {
    place = "[argument]";
    body += ".param .align 32 .b8 argument[32];\n.param .b64 place;\nst.param.v4.b32 [argument], " + blank +
            "st.param.v4.b32 [argument+16], " + blank;
    before = ".func f(.param .align 32 .b8 block[32], .param .b64 out)\n{\n.reg .b64 %rd<4>; .reg .b32 "
             "%w<8>;\nld.param.b64 %rd2, [out];\n";
    for (unsigned part = 0; part < 2; ++part) {
      const std::string at = std::to_string(part * 16);
      before += "ld.param.v4.b32 {%w0, %w1, %w2, %w3}, [block+" + at + "];\nst.global.v4.u32 [%rd2+" + at +
                "], {%w0, %w1, %w2, %w3};\n";
    }
    before += "ret;\n}\n";
    readBack = "st.param.b64 [place], %rd2;\ncall f, (argument, place);\n";
  } else {
    body += "st.global.v4.u32 [%rd2], " + blank + "st.global.v4.u32 [%rd2+16], " + blank;
  }
  const std::string kind = ".b" + std::to_string(bits);
  body += ".reg " + kind + " %d<8>;\n";
  for (unsigned e = 0; e < count; ++e) {
    body += "ld.global" + kind + " %d" + std::to_string(e) + ", [%rd1+" +
            std::to_string(e * (bits == 128 ? 16 : std::min(8U, area / count))) + "];\n";
  }
  body += row.mnemonic + " " + place + ", " + reg("%d", count, count > 1) + (i.mods.cacheHint ? ", %pol" : "") + ";\n" +
          readBack + "ret;";
  const std::vector<Block32> in = inputs(false);
  std::vector<Block32> memory;
  std::vector<uint8_t> out(32 * area);
  run(kernel(f.parameters, body, before), in, memory, out);
  for (unsigned l = 0; l < 32; ++l) {
    for (unsigned at = 0; at < area; ++at) {
      const unsigned e = at / size;
      const unsigned from = bits == 128 ? 0 : e * std::min(8U, area / count);
      const unsigned want = at < count * size ? in[l].bytes[from + at % size] : 0xEE;
      ASSERT_EQ(out[l * area + at], want) << "lane " << l << " byte " << at;
    }
  }
}

void checkAtomic(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  const Type type = i.types[0];
  const bool pairs = type == Type::F16x2 || type == Type::BF16x2, returns = i.op == Opcode::Atom;
  const unsigned count = i.mods.vector, width = ptx::bitsOf(type), size = width / 8;
  const unsigned bits = registerBits(type), elements = pairs ? 2 * count : count;
  const unsigned elementSize = pairs ? 2 : size;
  ptx::Instruction single = i;
  single.types[0] = type == Type::F16x2 ? Type::F16 : type == Type::BF16x2 ? Type::BF16 : type;
  const bool cas = i.mods.reduce == Reduce::Cas,
             shared = i.mods.space == Space::Shared || i.mods.space == Space::SharedCluster;
  // The old value is the first half of the lane's area in `in`, operands follow in `values`.
  Frame f = frameFor(i.mods.space);
  const std::string kind = ".b" + std::to_string(bits);
  std::string body = f.body + ".reg " + kind + " %d<8>, %a<8>, %b<8>;\n";
  for (unsigned e = 0; e < count; ++e) {
    const std::string n = std::to_string(e), at = std::to_string(e * size);
    body += "ld.global" + kind + " %a" + n + ", [%rd2+" + at + "];\n";
    body += cas ? "ld.global" + kind + " %b" + n + ", [%rd2+16];\n" : "";
  }
  body += row.mnemonic + " " + (returns ? reg("%d", count, count > 1) + ", " : "") + f.place + ", " +
          reg("%a", count, count > 1) + (cas ? ", " + reg("%b", count, false) : "") +
          (i.mods.cacheHint ? ", %pol" : "") + ";\n";
  for (unsigned e = 0; e < count && returns; ++e) {
    body += "st.global" + kind + " [%rd2+" + std::to_string(e * bits / 8) + "], %d" + std::to_string(e) + ";\n";
  }
  if (shared) {
    body += "ld.shared.v4.u32 {%w0, %w1, %w2, %w3}, [%r3];\nst.global.v4.u32 [%rd1], {%w0, %w1, %w2, %w3};\n";
  }
  const std::vector<uint64_t> edges = edgesOf(single.types[0]);
  std::mt19937_64 random(3);
  for (unsigned round = 0; round < (elements > 1 ? 2U : 6U); ++round) {
    std::vector<Block32> in(32), memory;
    std::vector<uint8_t> out(32 * area);
    random.discard(round);
    for (unsigned l = 0; l < 32; ++l) {
      for (unsigned at = 0; at < 16; at += std::min(8U, elementSize)) {
        const uint64_t old = edges[random() % edges.size()], a = edges[random() % edges.size()];
        std::memcpy(in[l].bytes + at, &old, std::min(8U, elementSize));
        std::memcpy(&out[l * area + at], cas && l % 2 ? &old : &a, std::min(8U, elementSize));
        const uint64_t b = random();
        std::memcpy(&out[l * area + 16 + at], &b, std::min(8U, elementSize));
      }
    }
    const std::vector<uint8_t> operands = out;
    run(kernel(f.parameters, body + "ret;", constantsOf(in[0])), in, memory, out);
    for (unsigned l = 0; l < 32; ++l) {
      if (width == 128) {
        const bool hit = std::memcmp(in[l].bytes, &operands[l * area], 16) == 0;
        const uint8_t *want = !cas ? &operands[l * area] : hit ? &operands[l * area + 16] : in[l].bytes;
        ASSERT_EQ(std::memcmp(memory[l].bytes, want, 16), 0) << "lane " << l;
        ASSERT_EQ(std::memcmp(&out[l * area], in[l].bytes, 16), 0) << "the old value, lane " << l;
        continue;
      }
      for (unsigned e = 0; e < elements; ++e) {
        const uint64_t old = read(in[l].bytes + e * elementSize, elementSize * 8),
                       a = read(&operands[l * area + e * elementSize], elementSize * 8);
        const uint64_t b = read(&operands[l * area + 16 + e * elementSize], elementSize * 8);
        const uint64_t got = read(memory[l].bytes + e * elementSize, elementSize * 8),
                       want = combined(single, old, a, b);
        const bool nan = ptx::isFloat(single.types[0]) && decoded(want, layoutOf(single.types[0])).kind == Number::NaN;
        ASSERT_TRUE(got == want || (nan && decoded(got, layoutOf(single.types[0])).kind == Number::NaN))
            << std::hex << "lane " << l << " element " << e << ": old " << old << " operand " << a << " gives " << got
            << ", not " << want;
        if (returns) {
          ASSERT_EQ(read(&out[l * area + e * elementSize * (pairs ? 1 : bits / 8 / size)], elementSize * 8), old)
              << "lane " << l << " element " << e;
        }
      }
    }
  }
}

/// Hints and fences: operands that are valid, no effect on what lies in memory.
void checkHint(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  std::string operands;
  for (const Slot &slot : row.form->slots) {
    if (slot.optional) {
      continue;
    }
    operands += operands.empty() ? " " : ", ";
    switch (slot.kind) {
    case Slot::Kind::Destination:
      operands += "%rd7";
      break;
    case Slot::Kind::Address:
      operands += i.mods.space == Space::Local   ? "[%rd4]"
                  : i.mods.space == Space::Const ? "[constants]"
                  : i.mods.space == Space::Param ? "[block]"
                                                 : "[%rd6]";
      break;
    case Slot::Kind::ImmediateOnly:
      operands += "128";
      break;
    default:
      operands += slot.type == Type::F32 ? "0f3F800000" : slot.type == Type::U32 ? "128" : "%pol";
      break;
    }
  }
  Frame f = frameFor(Space::Local);
  // %rd6: the beginning of `in`, which has the alignment of a cache line and of a tensor map.
  const std::string body =
      f.body + "ld.param.u64 %rd6, [in];\nst.global.v4.u32 [%rd2], {%w0, %w1, %w2, %w3};\n" + row.mnemonic + operands +
      ";\nld.global.v4.u32 {%w4, %w5, %w6, %w7}, [%rd2];\nst.global.v4.u32 [%rd2+16], {%w4, %w5, %w6, %w7};\nret;";
  std::vector<Block32> in = inputs(false), memory;
  std::vector<uint8_t> out(32 * area);
  run(kernel(f.parameters, body, constantsOf(in[0])), in, memory, out);
  for (unsigned l = 0; l < 32; ++l) {
    ASSERT_EQ(std::memcmp(&out[l * area], in[l].bytes, 16), 0);
    ASSERT_EQ(std::memcmp(&out[l * area + 16], in[l].bytes, 16), 0);
    ASSERT_EQ(std::memcmp(memory[l].bytes, in[l].bytes, area), 0);
  }
}

void each(const std::vector<Opcode> &opcodes, const std::function<void(const Row &)> &check) {
  unsigned count = 0;
  for (const Row &row : rowsOf(opcodes)) {
    SCOPED_TRACE(row.mnemonic);
    check(row);
    ++count;
    if (::testing::Test::HasFatalFailure()) {
      return;
    }
  }
  EXPECT_GT(count, 0U);
}
} // namespace

TEST(MemoryRows, Loads) {
  each({Opcode::Ld, Opcode::Ldu}, [](const Row &row) {
    checkLoad(row, false);
    const Type type = row.instruction.types[0];
    if (row.instruction.mods.vector == 1 && !ptx::isFloat(type) && ptx::bitsOf(type) < 64) {
      checkLoad(row, true);
    }
  });
}
TEST(MemoryRows, Stores) { each({Opcode::St}, checkStore); }
TEST(MemoryRows, ReadModifyWrites) { each({Opcode::Atom, Opcode::Red}, checkAtomic); }
TEST(MemoryRows, HintsAndFencesChangeNothing) {
  std::vector<Opcode> others;
  for (Opcode opcode : opcodesOf(Family::Memory)) {
    const bool moves = opcode == Opcode::Ld || opcode == Opcode::Ldu || opcode == Opcode::St ||
                       opcode == Opcode::Atom || opcode == Opcode::Red;
    if (!moves && opcode != Opcode::Discard) { // RareTest.cpp: a discarded line is undefined
      others.push_back(opcode);
    }
  }
  each(others, checkHint);
}
TEST(MemoryRows, DiscardHasTwoRows) {
  std::string all;
  for (const Row &row : rowsOf({Opcode::Discard})) {
    all += row.mnemonic + " ";
    Device device;
    ASSERT_TRUE(device.load(
        kernel(".param .u64 p", ".reg .b64 %rd<2>; ld.param.u64 %rd1, [p]; " + row.mnemonic + " [%rd1], 128; ret;")));
    const uint64_t p = device.upload(std::vector<uint32_t>(64));
    ASSERT_EQ(device.run({1, 1, 1}, {1, 1, 1}, p), LaunchError::None);
    EXPECT_EQ(device.memory.firstUndefined(p, 256), 0U);
    EXPECT_EQ(device.memory.firstUndefined(p + 128, 128), 128U);
  }
  EXPECT_EQ(all, "discard.L2 discard.global.L2 ");
}
