//===- MatrixTest.cpp - mma.sync and ldmatrix against f64 ------------------===//
//
// Every row of mma.sync in the instruction table, on integers for which all sums
// are exact. The fragments are filled by the tables of the PTX ISA as they are
// written there (section 9.7.14), not by the formula of Matrix.cpp.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/exec/Rows.h"
#include "test/runtime/emulator/exec/SoftFloat.h"

#include <cmath>
#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {
struct Shape {
  unsigned m, n, k;
  std::string d, a, b, c;
  unsigned bits; ///< of an element of A and B
  ptx::Modifiers mods;
  std::string mnemonic;

  /// m8n8k4 of f16: four products, each of lanes 4 q to 4 q + 3 and 16 more than those.
  bool quarters() const { return m == 8 && k == 4 && bits == 16; }
  unsigned products() const { return quarters() ? 4 : 1; }
};

Shape shapeOf(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  return {i.mods.m,
          i.mods.n,
          i.mods.k,
          nameOf(i.types[0]),
          nameOf(i.types[1]),
          nameOf(i.types[2]),
          nameOf(i.types[3]),
          ptx::bitsOf(i.types[1]),
          i.mods,
          row.mnemonic};
}

uint64_t bitsOf(double v, const std::string &type) {
  if (type[0] == 'f' || type[0] == 't' || type == "bf16" || type[0] == 'e') {
    const ptx::Type t = ptx::typeNamed(type);
    return rounded(numberOf(v), type == "tf32" ? layoutF32 : layoutOf(t), ptx::Round::RN);
  }
  return uint64_t(int64_t(v)) & (type == "s32" ? 0xFFFFFFFF : (1U << (type == "b1" ? 1 : type[1] == '4' ? 4 : 8)) - 1);
}

/// Row and column of element `i` of A in lane `l`, as the ISA's figures state for each shape.
void placeA(const Shape &s, unsigned l, unsigned i, unsigned &row, unsigned &column) {
  unsigned group = l >> 2, t = l % 4;
  if (s.quarters()) {
    row = (s.mods.majorA == ptx::Major::Row ? l % 4 : i % 4) + (l < 16 ? 0 : 4);
    column = s.mods.majorA == ptx::Major::Row ? i : l % 4;
    return;
  }
  if (s.m == 8) {
    unsigned perLane = s.k / 4;
    row = group;
    column = t * perLane + i;
    return;
  }
  switch (s.bits) {
  case 16: // a0,a1 row g; a2,a3 row g + 8; a4,a5 row g; a6,a7 row g + 8, columns + 8 from a4 on
    row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
    column = t * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    break;
  case 8: // four at a time
    row = (i < 4 || (i >= 8 && i < 12)) ? group : group + 8;
    column = t * 4 + (i & 3) + (i >= 8 ? 16 : 0);
    break;
  case 4:
    row = (i < 8 || (i >= 16 && i < 24)) ? group : group + 8;
    column = t * 8 + (i & 7) + (i >= 16 ? 32 : 0);
    break;
  case 1:
    row = (i < 32 || (i >= 64 && i < 96)) ? group : group + 8;
    column = t * 32 + (i & 31) + (i >= 64 ? 128 : 0);
    break;
  default: // 32 and 64: one at a time
    row = i % 2 == 0 ? group : group + 8;
    column = t + i / 2 * 4;
    break;
  }
}
void placeB(const Shape &s, unsigned l, unsigned i, unsigned &row, unsigned &column) {
  if (s.quarters()) {
    row = s.mods.majorB == ptx::Major::Row ? l % 4 : i;
    column = (s.mods.majorB == ptx::Major::Row ? i : l % 4) + (l < 16 ? 0 : 4);
    return;
  }
  unsigned t = l % 4, run = s.bits == 64 ? 1 : 32 / s.bits;
  column = l >> 2;
  row = t * run + i % run + i / run * run * 4;
}
/// Of C and D, whose type decides the places in m8n8k4 of f16.
void placeC(const Shape &s, const std::string &type, unsigned l, unsigned i, unsigned &row, unsigned &column) {
  if (s.quarters()) {
    row = (type == "f16" ? l % 4 : (l & 1) + (i & 2)) + (l < 16 ? 0 : 4);
    column = type == "f16" ? i : (i & 4) + (l & 2) + (i & 1);
    return;
  }
  row = (l >> 2) + (i >= 2 ? 8 : 0);
  column = l % 4 * 2 + (i & 1);
}

/// The kernel: fragments from memory, 64 bytes per lane and matrix, the product, D in the place of C.
std::string textOf(const Shape &s, unsigned regsA, unsigned regsB, unsigned regsC, unsigned regsD) {
  const bool wide = s.bits == 64;
  std::string body;
  auto list = [&](char name, unsigned count) {
    std::string out = "{";
    for (unsigned i = 0; i < count; ++i) {
      out += (i ? ", %" : "%") + std::string(1, name) + std::to_string(i);
    }
    return out + "}";
  };
  auto kind = [&](const std::string &type) { return std::string(type == "f64" || type == "f32" ? type : "b32"); };
  body += ".reg .b64 %p<8>; .reg .b32 %r<4>; .reg ." + std::string(wide ? "f64" : "b32") + " %a<8>, %b<8>; .reg ." +
          kind(s.c) + " %c<8>; .reg ." + kind(s.d) +
          " %d<8>;\n"
          "ld.param.u64 %p1, [pa]; ld.param.u64 %p2, [pb]; ld.param.u64 %p3, [pc]; mov.u32 %r1, %tid.x;\n"
          "mul.wide.u32 %p5, %r1, 64; add.u64 %p1, %p1, %p5; add.u64 %p2, %p2, %p5; add.u64 %p3, %p3, %p5;\n";
  auto move = [&](const char *what, char name, const char *pointer, unsigned count, const std::string &t) {
    for (unsigned i = 0; i < count; ++i) {
      std::string memory = std::string("[") + pointer + "+" + std::to_string(i * (wide ? 8 : 4)) + "]";
      std::string r = "%" + std::string(1, name) + std::to_string(i);
      body +=
          std::string(what) + ".global." + t + " " + (what[0] == 'l' ? r + ", " + memory : memory + ", " + r) + ";\n";
    }
  };
  move("ld", 'a', "%p1", regsA, wide ? "f64" : "b32");
  move("ld", 'b', "%p2", regsB, wide ? "f64" : "b32");
  move("ld", 'c', "%p3", regsC, kind(s.c));
  body += s.mnemonic + " " + list('d', regsD) + ", " + list('a', regsA) + ", " + list('b', regsB) + ", " +
          list('c', regsC) + ";\n";
  move("st", 'd', "%p3", regsD, kind(s.d));
  return kernel(".param .u64 pa, .param .u64 pb, .param .u64 pc", body + "ret;");
}

void check(const Shape &s) {
  const bool wide = s.bits == 64, integers = s.d == "s32";
  const unsigned products = s.products();
  const unsigned perA = products * s.m * s.k / 32, perB = products * s.n * s.k / 32, perC = products * s.m * s.n / 32;
  const unsigned perRegister = wide ? 1 : 32 / s.bits;
  auto widthC = [&](const std::string &type) { return wide ? 64U : type == "f16" ? 16U : 32U; };
  Device device;
  const std::string text =
      textOf(s, perA / perRegister, perB / perRegister, s.c == "f16" ? perC / 2 : perC, s.d == "f16" ? perC / 2 : perC);
  ASSERT_TRUE(device.load(text)) << text;

  std::mt19937 random(11);
  // Integers in their whole range; others small, so that every sum is exact.
  auto element = [&](const std::string &type) {
    if (type == "b1") {
      return double(random() % 2);
    }
    if (type == "u8" || type == "s8" || type == "u4" || type == "s4") {
      const int values = type[1] == '8' ? 256 : 16;
      return double(int(random() % values) - (type[0] == 's' ? values / 2 : 0));
    }
    return double(int(random() % 7) - 3);
  };
  std::vector<double> A(products * s.m * s.k), B(products * s.k * s.n), C(products * s.m * s.n);
  for (double &v : A) {
    v = element(s.a);
  }
  for (double &v : B) {
    v = element(s.b);
  }
  for (double &v : C) {
    v = double(int(random() % 7) - 3);
    v = integers && random() % 4 == 0 ? (v < 0 ? INT32_MIN - v : INT32_MAX - v) : v; // sums beyond 32 bits
  }
  std::vector<uint64_t> fa(32 * 8), fb(32 * 8), fc(32 * 8);
  auto put = [&](std::vector<uint64_t> &to, unsigned lane, unsigned element, uint64_t bits, unsigned width) {
    auto *bytes = reinterpret_cast<uint8_t *>(to.data()) + lane * 64;
    unsigned at = element * width;
    if (width < 8) {
      bytes[at / 8] = uint8_t(bytes[at / 8] | bits << at % 8);
    } else {
      std::memcpy(bytes + at / 8, &bits, width / 8);
    }
  };
  for (unsigned l = 0; l < 32; ++l) {
    const unsigned product = products == 4 ? l % 16 / 4 : 0;
    unsigned row, column;
    for (unsigned i = 0; i < perA; ++i) {
      placeA(s, l, i, row, column);
      put(fa, l, i, bitsOf(A[(product * s.m + row) * s.k + column], s.a), s.bits);
    }
    for (unsigned i = 0; i < perB; ++i) {
      placeB(s, l, i, row, column);
      put(fb, l, i, bitsOf(B[(product * s.k + row) * s.n + column], s.b), s.bits);
    }
    for (unsigned i = 0; i < perC; ++i) {
      placeC(s, s.c, l, i, row, column);
      put(fc, l, i, bitsOf(C[(product * s.m + row) * s.n + column], s.c), widthC(s.c));
    }
  }
  uint64_t pa = device.upload(fa), pb = device.upload(fb), pc = device.upload(fc);
  ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, pa, pb, pc), LaunchError::None);
  ASSERT_EQ(device.findings(), "");
  std::vector<uint64_t> got = device.download<uint64_t>(pc, 32 * 8);
  for (unsigned l = 0; l < 32; ++l) {
    const unsigned product = products == 4 ? l % 16 / 4 : 0;
    for (unsigned i = 0; i < perC; ++i) {
      unsigned row, column;
      placeC(s, s.d, l, i, row, column);
      double want = C[(product * s.m + row) * s.n + column];
      for (unsigned k = 0; k < s.k; ++k) {
        const double x = A[(product * s.m + row) * s.k + k], y = B[(product * s.k + k) * s.n + column];
        want += s.mods.mode == ptx::Mode::XorPopc ? double(x != y) : x * y;
      }
      if (s.mods.satfinite) {
        want = std::fmin(std::fmax(want, INT32_MIN), INT32_MAX);
      }
      const unsigned width = widthC(s.d);
      uint64_t bits = 0;
      std::memcpy(&bits, reinterpret_cast<uint8_t *>(got.data()) + l * 64 + i * width / 8, width / 8);
      uint64_t expected = want == 0 && s.d[0] == 'f' ? 0 : bitsOf(want, s.d);
      ASSERT_EQ(bits, expected) << "lane " << l << " element " << i << " want " << want;
    }
  }
}
} // namespace

TEST(Matrix, EveryMmaOfTheTableIsExactOnIntegers) {
  unsigned count = 0;
  for (const Row &row : rowsOf({ptx::Opcode::Mma}, true)) {
    SCOPED_TRACE(row.mnemonic);
    check(shapeOf(row));
    ++count;
    if (HasFatalFailure()) {
      return;
    }
  }
  EXPECT_GT(count, 90U);
}

TEST(Matrix, LdmatrixAndItsTranspose) {
  for (bool transposed : {false, true}) {
    Device device;
    std::string trans = transposed ? ".trans" : "";
    ASSERT_TRUE(device.load(kernel(".param .u64 p, .param .u64 q", R"(
  .reg .b64 %p<8>; .reg .b32 %r<16>;
  .shared .align 16 .b8 s[512];
  ld.param.u64 %p1, [p]; ld.param.u64 %p2, [q];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %p3, %r1, 16; add.u64 %p1, %p1, %p3; add.u64 %p2, %p2, %p3;
  ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%p1];
  mov.u32 %r6, s; shl.b32 %r7, %r1, 4; add.u32 %r6, %r6, %r7;
  st.shared.v4.u32 [%r6], {%r2, %r3, %r4, %r5};
  bar.sync 0;
  ldmatrix.sync.aligned.m8n8.x4)" + trans + R"(.shared.b16 {%r8, %r9, %r10, %r11}, [%r6];
  st.global.v4.u32 [%p2], {%r8, %r9, %r10, %r11};
  ret;)")));
    std::vector<uint16_t> in(256), out(256);
    for (unsigned i = 0; i < 256; ++i) {
      in[i] = uint16_t(i * 3 + 1);
    }
    uint64_t p = device.upload(in), q = device.upload(out);
    ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, p, q), LaunchError::None);
    EXPECT_EQ(device.findings(), "");
    EXPECT_EQ(device.counts.bankConflicts, 0U);
    out = device.download<uint16_t>(q, 256);
    for (unsigned l = 0; l < 32; ++l) {
      for (unsigned tile = 0; tile < 4; ++tile) {
        for (unsigned e = 0; e < 2; ++e) {
          unsigned row = l / 4, column = l % 4 * 2 + e;
          unsigned want = transposed ? column * 8 + row : row * 8 + column;
          EXPECT_EQ(out[l * 8 + tile * 2 + e], in[tile * 64 + want]);
        }
      }
    }
  }
}

TEST(Matrix, UndefinedRowsAndColumnsOnly) {
  // Lane 4 holds row 1 (and 9) of A: with its first register undefined, row 1 of D is undefined and nothing else.
  Device device;
  ASSERT_TRUE(device.load(kernel(".param .u64 q", R"(
  .reg .b64 %p<8>; .reg .b32 %r<16>, %u; .reg .f32 %f<8>; .reg .pred %q1;
  ld.param.u64 %p2, [q];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %p3, %r1, 16; add.u64 %p2, %p2, %p3;
  mov.u32 %r2, 0; mov.f32 %f1, 0f00000000;
  setp.ne.u32 %q1, %r1, 4;
  @%q1 mov.u32 %u, 0;
  mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f4, %f5, %f6, %f7}, {%u, %r2}, {%r2}, {%f1, %f1, %f1, %f1};
  st.global.v4.f32 [%p2], {%f4, %f5, %f6, %f7};
  ret;)")));
  uint64_t q = device.upload(std::vector<uint32_t>(128));
  ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, q), LaunchError::None);
  for (unsigned l = 0; l < 32; ++l) {
    bool row1 = l / 4 == 1;
    EXPECT_EQ(device.memory.firstUndefined(q + l * 16, 8), row1 ? 0U : 8U) << "lane " << l;
    EXPECT_EQ(device.memory.firstUndefined(q + l * 16 + 8, 8), 8U) << "lane " << l;
  }
}

TEST(BankConflicts, TransposeWithAndWithoutPadding) {
  // 32 lanes read a column of a 32-wide f32 tile: 32 rows in one bank without padding, none with.
  for (unsigned width : {32U, 33U}) {
    Device device;
    ASSERT_TRUE(device.load(kernel(".param .u64 q", ".reg .b32 %r<8>; .shared .align 4 .b8 s[4224];\n"
                                                    "mov.u32 %r1, %tid.x; mul.lo.u32 %r2, %r1, " +
                                                        std::to_string(width * 4) +
                                                        "; mov.u32 %r3, s; add.u32 %r3, %r3, %r2;\n"
                                                        "st.shared.u32 [%r3], %r1; ret;")));
    ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, uint64_t(0)), LaunchError::None);
    EXPECT_EQ(device.counts.sharedAccesses, 1U);
    EXPECT_EQ(device.counts.bankConflicts, width == 32 ? 31U : 0U);
  }
}

TEST(BankConflicts, StridesAndWidths) {
  // Lane l loads `bytes` at l * stride. Banks are words of 4 bytes, 32 of them; 8-byte accesses go by half warps,
  // 16-byte ones by quarters; lanes that read one word share it. Extra wavefronts, counted by hand.
  struct Case {
    unsigned bytes, stride, extra;
  };
  const Case cases[] = {
      {4, 4, 0},     // one word per bank
      {4, 0, 0},     // a broadcast
      {4, 8, 1},     // every other bank, two words each
      {4, 32, 7},    // banks 0, 8, 16, 24: eight words each
      {4, 12, 0},    // 3 and 32 have no common divisor
      {8, 8, 0},     // 16 lanes fill 32 banks
      {8, 16, 2},    // 16 lanes on banks 0, 1, 4, 5, ...: two words each, in both halves
      {8, 128, 30},  // 16 lanes on banks 0 and 1, in both halves
      {16, 16, 0},   // 8 lanes fill 32 banks
      {16, 32, 4},   // 8 lanes on half of the banks, in four quarters
      {16, 144, 0},  // rows of 128 bytes and a pad of 16
      {16, 128, 28}, // 8 lanes on banks 0 to 3, in four quarters
  };
  for (const Case &c : cases) {
    const std::string load = c.bytes == 4   ? "ld.shared.u32 %r4, [%r3];"
                             : c.bytes == 8 ? "ld.shared.v2.u32 {%r4, %r5}, [%r3];"
                                            : "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3];";
    Device device;
    ASSERT_TRUE(device.load(kernel("", ".reg .b32 %r<8>; .shared .align 16 .b8 s[4608];\n"
                                       "mov.u32 %r1, %tid.x; mul.lo.u32 %r2, %r1, " +
                                           std::to_string(c.stride) + "; mov.u32 %r3, s; add.u32 %r3, %r3, %r2;\n" +
                                           load + " ret;")));
    ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}), LaunchError::None) << device.findings();
    EXPECT_EQ(device.counts.bankConflicts, c.extra) << c.bytes << " bytes, stride " << c.stride;
  }
}

TEST(BankConflicts, LdmatrixWithAndWithoutSwizzle) {
  // Four tiles of 8 x 16 bytes from rows of 128 bytes: lane l gives row l % 8 of tile l / 8, 16-byte column l / 8.
  // Plainly the eight rows of a tile lie in the same four banks; with the columns exchanged (xor of the row) in all 32.
  for (bool swizzled : {false, true}) {
    Device device;
    ASSERT_TRUE(device.load(kernel("", std::string(R"(
  .reg .b32 %r<16>;
  .shared .align 128 .b8 s[1024];
  mov.u32 %r1, %tid.x;
  and.b32 %r2, %r1, 7;
  shr.u32 %r3, %r1, 3;
)") + (swizzled ? "xor.b32 %r3, %r3, %r2;\n" : "") +
                                           R"(
  shl.b32 %r4, %r2, 7;
  shl.b32 %r5, %r3, 4;
  add.u32 %r4, %r4, %r5;
  mov.u32 %r6, s;
  add.u32 %r4, %r4, %r6;
  ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r8, %r9, %r10, %r11}, [%r4];
  ret;)")));
    ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}), LaunchError::None) << device.findings();
    EXPECT_EQ(device.counts.bankConflicts, swizzled ? 0U : 28U);
  }
}
