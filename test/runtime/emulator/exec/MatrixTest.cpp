//===- MatrixTest.cpp - mma.sync and ldmatrix against f64 ------------------===//
//
// Every shape and type of mma.sync that is executed, on small integers, where
// all sums are exact. The fragments are filled by the tables of the PTX ISA as
// they are written there (section 9.7.14), not by the formula of Matrix.cpp.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"

#include <cmath>
#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {
struct Shape {
  unsigned m, n, k;
  const char *d, *a, *b, *c;
  unsigned bits; ///< of an element of A and B
};
const Shape shapes[] = {
    {16, 8, 8, "f32", "f16", "f16", "f32", 16},   {16, 8, 16, "f32", "f16", "f16", "f32", 16},
    {16, 8, 16, "f16", "f16", "f16", "f16", 16},  {16, 8, 8, "f16", "f16", "f16", "f16", 16},
    {16, 8, 8, "f32", "bf16", "bf16", "f32", 16}, {16, 8, 16, "f32", "bf16", "bf16", "f32", 16},
    {16, 8, 4, "f32", "tf32", "tf32", "f32", 32}, {16, 8, 8, "f32", "tf32", "tf32", "f32", 32},
    {16, 8, 32, "f32", "e4m3", "e4m3", "f32", 8}, {16, 8, 32, "f32", "e4m3", "e5m2", "f32", 8},
    {16, 8, 32, "f32", "e5m2", "e4m3", "f32", 8}, {16, 8, 32, "f32", "e5m2", "e5m2", "f32", 8},
    {8, 8, 4, "f64", "f64", "f64", "f64", 64},    {16, 8, 4, "f64", "f64", "f64", "f64", 64},
    {16, 8, 8, "f64", "f64", "f64", "f64", 64},   {16, 8, 16, "f64", "f64", "f64", "f64", 64},
    {8, 8, 16, "s32", "s8", "s8", "s32", 8},      {16, 8, 16, "s32", "s8", "u8", "s32", 8},
    {16, 8, 32, "s32", "u8", "s8", "s32", 8},     {16, 8, 32, "s32", "s8", "s8", "s32", 8},
    {8, 8, 32, "s32", "s4", "u4", "s32", 4},      {16, 8, 32, "s32", "u4", "u4", "s32", 4},
    {16, 8, 64, "s32", "s4", "s4", "s32", 4},
};

uint64_t bitsOf(double v, const std::string &type) {
  if (type == "f64") {
    uint64_t b;
    std::memcpy(&b, &v, 8);
    return b;
  }
  if (type == "f32" || type == "tf32" || type == "bf16") {
    auto x = float(v);
    uint32_t b;
    std::memcpy(&b, &x, 4);
    return type == "bf16" ? b >> 16 : b;
  }
  if (type == "f16") {
    auto x = _Float16(v);
    uint16_t b;
    std::memcpy(&b, &x, 2);
    return b;
  }
  if (type == "e4m3" || type == "e5m2") {
    // Small integers: sign, exponent, mantissa by hand.
    if (v == 0) {
      return 0;
    }
    int mantissa = type == "e4m3" ? 3 : 2, bias = type == "e4m3" ? 7 : 15, e = 0;
    double x = std::fabs(v);
    while (x >= 2) {
      x /= 2;
      ++e;
    }
    return uint64_t(v < 0) << 7 | uint64_t(e + bias) << mantissa | uint64_t((x - 1) * (1 << mantissa));
  }
  return uint64_t(int64_t(v)) & (type == "s32" ? 0xFFFFFFFF : type[1] == '4' ? 15 : 255);
}

/// Row and column of element `i` of A in lane `l`, as the ISA's figures state for each shape.
void placeA(const Shape &s, unsigned l, unsigned i, unsigned &row, unsigned &column) {
  unsigned group = l >> 2, t = l % 4;
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
  default: // 32 and 64: one at a time
    row = i % 2 == 0 ? group : group + 8;
    column = t + i / 2 * 4;
    break;
  }
}
void placeB(const Shape &s, unsigned l, unsigned i, unsigned &row, unsigned &column) {
  unsigned t = l % 4, run = s.bits == 64 ? 1 : 32 / s.bits;
  column = l >> 2;
  row = t * run + i % run + i / run * run * 4;
}

void check(const Shape &s) {
  const bool wide = s.bits == 64;
  const unsigned perA = s.m * s.k / 32, perB = s.n * s.k / 32, perC = s.m * s.n / 32;
  const unsigned perRegister = wide ? 1 : 32 / s.bits;
  const bool halfC = std::string(s.c) == "f16";
  const unsigned regsA = perA / perRegister, regsB = perB / perRegister, regsC = halfC ? perC / 2 : perC;
  std::string type = wide ? "b64" : "b32", body;
  auto list = [&](char name, unsigned count) {
    std::string out = "{";
    for (unsigned i = 0; i < count; ++i) {
      out += (i ? ", %" : "%") + std::string(1, name) + std::to_string(i);
    }
    return out + "}";
  };
  std::string reg = std::string(s.c) == "f32" || wide ? (wide ? "f64" : "f32") : "b32";
  body += ".reg .b64 %p<8>; .reg .b32 %r<4>; .reg ." + std::string(wide ? "f64" : "b32") + " %a<8>, %b<8>; .reg ." +
          reg +
          " %c<8>, %d<8>;\n"
          "ld.param.u64 %p1, [pa]; ld.param.u64 %p2, [pb]; ld.param.u64 %p3, [pc]; mov.u32 %r1, %tid.x;\n"
          "mul.wide.u32 %p5, %r1, 64; add.u64 %p1, %p1, %p5; add.u64 %p2, %p2, %p5; add.u64 %p3, %p3, %p5;\n";
  std::string step = wide ? "8" : "4";
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
  move("ld", 'c', "%p3", regsC, reg);
  body += "mma.sync.aligned.m" + std::to_string(s.m) + "n8k" + std::to_string(s.k) + ".row.col." + s.d + "." + s.a +
          "." + s.b + "." + s.c + " " + list('d', regsC) + ", " + list('a', regsA) + ", " + list('b', regsB) + ", " +
          list('c', regsC) + ";\n";
  move("st", 'd', "%p3", regsC, reg);
  Device device;
  ASSERT_TRUE(device.load(kernel(".param .u64 pa, .param .u64 pb, .param .u64 pc", body + "ret;"))) << body;

  std::mt19937 random(11);
  bool unsignedA = s.a[0] == 'u', unsignedB = s.b[0] == 'u';
  auto small = [&](bool isUnsigned) { return double(int(random() % 7) - (isUnsigned ? 0 : 3)); };
  std::vector<double> A(s.m * s.k), B(s.k * s.n), C(s.m * s.n);
  for (double &v : A) {
    v = small(unsignedA);
  }
  for (double &v : B) {
    v = small(unsignedB);
  }
  for (double &v : C) {
    v = small(false);
  }
  std::vector<uint64_t> fa(32 * 8), fb(32 * 8), fc(32 * 8);
  auto put = [&](std::vector<uint64_t> &to, unsigned lane, unsigned element, uint64_t bits, unsigned width) {
    auto *bytes = reinterpret_cast<uint8_t *>(to.data()) + lane * 64;
    unsigned at = element * width;
    if (width == 4) {
      bytes[at / 8] = uint8_t(bytes[at / 8] | bits << at % 8);
    } else {
      std::memcpy(bytes + at / 8, &bits, width / 8);
    }
  };
  for (unsigned l = 0; l < 32; ++l) {
    unsigned row, column;
    for (unsigned i = 0; i < perA; ++i) {
      placeA(s, l, i, row, column);
      put(fa, l, i, bitsOf(A[row * s.k + column], s.a), s.bits);
    }
    for (unsigned i = 0; i < perB; ++i) {
      placeB(s, l, i, row, column);
      put(fb, l, i, bitsOf(B[row * s.n + column], s.b), s.bits);
    }
    for (unsigned i = 0; i < perC; ++i) {
      row = (l >> 2) + (i >= 2 ? 8 : 0);
      column = l % 4 * 2 + (i & 1);
      put(fc, l, i, bitsOf(C[row * s.n + column], s.c), wide ? 64 : halfC ? 16 : 32);
    }
  }
  uint64_t pa = device.upload(fa), pb = device.upload(fb), pc = device.upload(fc);
  ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, pa, pb, pc), LaunchError::None);
  ASSERT_EQ(device.findings(), "");
  std::vector<uint64_t> got = device.download<uint64_t>(pc, 32 * 8);
  for (unsigned l = 0; l < 32; ++l) {
    for (unsigned i = 0; i < perC; ++i) {
      unsigned row = (l >> 2) + (i >= 2 ? 8 : 0), column = l % 4 * 2 + (i & 1);
      double want = C[row * s.n + column];
      for (unsigned k = 0; k < s.k; ++k) {
        want += A[row * s.k + k] * B[k * s.n + column];
      }
      unsigned width = wide ? 64 : halfC ? 16 : 32;
      uint64_t bits = 0;
      std::memcpy(&bits, reinterpret_cast<uint8_t *>(got.data()) + l * 64 + i * width / 8, width / 8);
      uint64_t expected = want == 0 && s.d[0] == 'f' ? 0 : bitsOf(want, s.d);
      ASSERT_EQ(bits, expected) << "lane " << l << " element " << i << " want " << want;
    }
  }
}
} // namespace

TEST(Matrix, EveryShapeAndTypeIsExactOnSmallIntegers) {
  for (const Shape &s : shapes) {
    SCOPED_TRACE(std::string("m") + std::to_string(s.m) + "n8k" + std::to_string(s.k) + " " + s.d + " " + s.a + " " +
                 s.b);
    check(s);
  }
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
