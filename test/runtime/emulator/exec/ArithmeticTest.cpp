//===- ArithmeticTest.cpp - Instructions against the host, bit by bit ------===//
//
// Each case is one instruction on registers %a, %b, %c of one width and a host
// function of the same bits. Inputs are edge values in all combinations of a and
// b, and seeded random ones; results must be equal in every bit.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"

#include <cmath>
#include <functional>
#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;

namespace {
float f(uint64_t b) {
  auto bits = uint32_t(b);
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}
double d(uint64_t b) {
  double v;
  std::memcpy(&v, &b, 8);
  return v;
}
uint64_t u(float v) {
  uint32_t b;
  std::memcpy(&b, &v, 4);
  return v == v ? b : 0x7FFFFFFF;
}
uint64_t u(double v) {
  uint64_t b;
  std::memcpy(&b, &v, 8);
  return b;
}
int32_t s(uint64_t b) { return int32_t(uint32_t(b)); }

struct Case {
  unsigned bits; ///< of a, b, c, d
  const char *code;
  std::function<uint64_t(uint64_t, uint64_t, uint64_t)> host;
};
#define H [](uint64_t a, uint64_t b, uint64_t c)->uint64_t
#define UNUSED (void)a, (void)b, (void)c

const Case cases[] = {{32, "add.u32 %d, %a, %b;", H{UNUSED;
return uint32_t(a + b);
} // namespace
}
, {32, "sub.s32 %d, %a, %b;", H{UNUSED;
return uint32_t(a - b);
}
}
, {32, "add.sat.s32 %d, %a, %b;", H{UNUSED;
return uint32_t(std::min<int64_t>(std::max<int64_t>(int64_t(s(a)) + s(b), INT32_MIN), INT32_MAX));
}
}
, {32, "mul.lo.u32 %d, %a, %b;", H{UNUSED;
return uint32_t(a * b);
}
}
, {32, "mul.hi.u32 %d, %a, %b;", H{UNUSED;
return a * b >> 32;
}
}
, {32, "mul.hi.s32 %d, %a, %b;", H{UNUSED;
return uint32_t((int64_t(s(a)) * s(b)) >> 32);
}
}
, {32, "mad.lo.s32 %d, %a, %b, %c;", H{UNUSED;
return uint32_t(a * b + c);
}
}
, {32, "mad.hi.s32 %d, %a, %b, %c;", H{UNUSED;
return uint32_t(uint64_t((int64_t(s(a)) * s(b)) >> 32) + c);
}
}
, {32, "sad.s32 %d, %a, %b, %c;", H{UNUSED;
return uint32_t(uint64_t(std::llabs(int64_t(s(a)) - s(b))) + c);
}
}
, {32, "min.s32 %d, %a, %b;", H{UNUSED;
return uint32_t(std::min(s(a), s(b)));
}
}
, {32, "max.u32 %d, %a, %b;", H{UNUSED;
return std::max(uint32_t(a), uint32_t(b));
}
}
, {32, "abs.s32 %d, %a;", H{UNUSED;
return uint32_t(s(a) < 0 ? 0 - a : a);
}
}
, {32, "neg.s32 %d, %a;", H{UNUSED;
return uint32_t(0 - a);
}
}
, {32, "or.b32 %d, %b, 1; div.u32 %d, %a, %d;", H{UNUSED;
return uint32_t(a) / uint32_t(b | 1);
}
}
, {32, "or.b32 %d, %b, 1; rem.s32 %d, %a, %d;", H{UNUSED;
int32_t y = s(b | 1);
return uint32_t(y == -1 ? 0 : s(a) % y);
}
}
, {32, "and.b32 %d, %a, %b;", H{UNUSED;
return a & b;
}
}
, {32, "not.b32 %d, %a;", H{UNUSED;
return uint32_t(~a);
}
}
, {32, "lop3.b32 %d, %a, %b, %c, 0xD2;", H{UNUSED;
uint32_t r = 0;
for (int i = 0; i < 32; ++i) {
  unsigned k = (a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1);
  r |= uint32_t(0xD2 >> k & 1) << i;
}
return r;
}
}
, {32, "shl.b32 %d, %a, %b;", H{UNUSED;
return uint32_t(b) > 31 ? 0 : uint32_t(a << b);
}
}
, {32, "shr.s32 %d, %a, %b;", H{UNUSED;
return uint32_t(s(a) >> std::min<uint32_t>(uint32_t(b), 31));
}
}
, {32, "shr.u32 %d, %a, %b;", H{UNUSED;
return uint32_t(b) > 31 ? 0 : uint32_t(a) >> b;
}
}
, {32, "shf.l.wrap.b32 %d, %a, %b, %c;", H{UNUSED;
return uint32_t((b << 32 | a) << (c & 31) >> 32);
}
}
, {32, "shf.r.clamp.b32 %d, %a, %b, %c;", H{UNUSED;
uint64_t n = std::min<uint64_t>(c, 32);
return uint32_t((b << 32 | a) >> n);
}
}
, {32, "popc.b32 %d, %a;", H{UNUSED;
return uint64_t(__builtin_popcountll(a));
}
}
, {32, "clz.b32 %d, %a;", H{UNUSED;
return a ? uint64_t(__builtin_clz(uint32_t(a))) : 32;
}
}
, {32, "brev.b32 %d, %a;", H{UNUSED;
uint32_t r = 0;
for (int i = 0; i < 32; ++i) {
  r |= uint32_t(a >> i & 1) << (31 - i);
}
return r;
}
}
, {32, "bfind.u32 %d, %a;", H{UNUSED;
return a ? uint64_t(31 - __builtin_clz(uint32_t(a))) : 0xFFFFFFFF;
}
}
, {32, "bfe.u32 %d, %a, 5, 7;", H{UNUSED;
return a >> 5 & 127;
}
}
, {32, "bfe.s32 %d, %a, 28, 9;", H{UNUSED;
return uint32_t(s(a) >> 28);
}
}
, {32, "bfi.b32 %d, %a, %b, 4, 6;", H{UNUSED;
return (b & ~uint64_t(63 << 4)) | (a & 63) << 4;
}
}
, {32, "prmt.b32 %d, %a, %b, 0x5D10;", H{UNUSED;
uint64_t w = b << 32 | a;
auto byte = [&](int i) { return w >> i * 8 & 255; };
return byte(0) | byte(1) << 8 | (byte(5) & 128 ? 255ULL : 0ULL) << 16 | byte(5) << 24;
}
}
, {32, "dp4a.s32.u32 %d, %a, %b, %c;", H{UNUSED;
uint32_t r = uint32_t(c);
for (int i = 0; i < 4; ++i) {
  r += uint32_t(int32_t(int8_t(a >> i * 8)) * int32_t(b >> i * 8 & 255));
}
return r;
}
}
, {32, "add.cc.u32 %d, %a, %b; addc.u32 %d, %a, %c;", H{UNUSED;
return uint32_t(a + c + ((a + b) >> 32));
}
}
, {32, "sub.cc.u32 %d, %a, %b; subc.u32 %d, %a, %c;", H{UNUSED;
return uint32_t(a - c - (a < b));
}
}
, {32, "sub.cc.u32 %d, %a, %b; addc.u32 %d, %c, 0;", H{UNUSED;
return uint32_t(c + (a >= b));
}
}
, {32, "add.cc.u32 %d, %a, %b; subc.u32 %d, %a, %c;", H{UNUSED;
return uint32_t(a - c - ((a + b) >> 32 == 0));
}
}
, {32, "mad.lo.cc.u32 %d, %a, %b, %c; madc.hi.u32 %d, %a, %b, 0;", H{UNUSED;
return uint32_t((a * b >> 32) + (((a * b & 0xFFFFFFFF) + c) >> 32));
}
}
, {32, "mul24.lo.u32 %d, %a, %b;", H{UNUSED;
return uint32_t((a & 0xFFFFFF) * (b & 0xFFFFFF));
}
}
, {64, "add.u64 %d, %a, %b;", H{UNUSED;
return a + b;
}
}
, {64, "mul.hi.u64 %d, %a, %b;", H{UNUSED;
return uint64_t((unsigned __int128)(a)*b >> 64);
}
}
, {64, "mul.hi.s64 %d, %a, %b;", H{UNUSED;
return uint64_t(__int128(int64_t(a)) * int64_t(b) >> 64);
}
}
, {64, "max.s64 %d, %a, %b;", H{UNUSED;
return uint64_t(std::max(int64_t(a), int64_t(b)));
}
}
, {64, "brev.b64 %d, %a;", H{UNUSED;
uint64_t r = 0;
for (int i = 0; i < 64; ++i) {
  r |= (a >> i & 1) << (63 - i);
}
return r;
}
}
, {64, "add.cc.u64 %d, %a, %b; addc.u64 %d, %c, 0;", H{UNUSED;
return c + (a + b < a);
}
}
, {32, "add.f32 %d, %a, %b;", H{UNUSED;
return u(f(a) + f(b));
}
}
, {32, "mul.f32 %d, %a, %b;", H{UNUSED;
return u(f(a) * f(b));
}
}
, {32, "fma.rn.f32 %d, %a, %b, %c;", H{UNUSED;
return u(std::fmaf(f(a), f(b), f(c)));
}
}
, {32, "div.rn.f32 %d, %a, %b;", H{UNUSED;
return u(f(a) / f(b));
}
}
, {32, "sqrt.rn.f32 %d, %a;", H{UNUSED;
return u(std::sqrt(f(a)));
}
}
, {32, "min.f32 %d, %a, %b;", H{UNUSED;
float x = f(a), y = f(b);
return x != x ? u(y) : y != y ? u(x) : x == y ? u(std::signbit(x) ? x : y) : u(x < y ? x : y);
}
}
, {32, "max.NaN.f32 %d, %a, %b;", H{UNUSED;
float x = f(a), y = f(b);
return x != x || y != y ? 0x7FFFFFFF : x == y ? u(std::signbit(x) ? y : x) : u(x > y ? x : y);
}
}
, {32, "add.sat.f32 %d, %a, %b;", H{UNUSED;
float r = f(a) + f(b);
return u(r >= 0 ? std::min(r, 1.0F) : 0.0F);
}
}
, {32, "mul.ftz.f32 %d, %a, %b;", H{UNUSED;
auto z = [](float v) { return std::fabs(v) < 0x1p-126F ? std::copysign(0.0F, v) : v; };
float r = z(f(a)) * z(f(b));
double e = double(z(f(a))) * z(f(b));
return u(std::fabs(e) < 0x1p-126 && std::fabs(r) < 0x1p-126F ? std::copysign(0.0F, r) : r);
}
}
, {32, "cvt.rzi.s32.f32 %d, %a;", H{UNUSED;
double v = std::trunc(f(a));
return v != v ? 0 : uint32_t(int32_t(std::min(std::max(v, -2147483648.0), 2147483647.0)));
}
}
, {32, "cvt.rn.f32.u32 %d, %a;", H{UNUSED;
return u(float(uint32_t(a)));
}
}
, {32, "cvt.sat.u8.s32 %d, %a;", H{UNUSED;
return uint64_t(std::min(std::max(s(a), 0), 255));
}
}
, {32, "cvt.s32.s8 %d, %a;", H{UNUSED;
return uint32_t(int32_t(int8_t(a)));
}
}
, {32, "cvt.rn.bf16x2.f32 %d, %a, %b;", H{UNUSED;
auto n = [](uint64_t x) -> uint64_t {
  float v = f(x);
  return v != v ? 0x7FFF : (x + 0x7FFF + (x >> 16 & 1)) >> 16 & 0xFFFF;
};
return n(a) << 16 | n(b);
}
}
, {32, "{ .reg .b16 %h; cvt.rn.f16.f32 %h, %a; cvt.f32.f16 %d, %h; }", H{UNUSED;
float v = f(a);
return u(v != v ? v : float(_Float16(v)));
}
}
, {64, "add.f64 %d, %a, %b;", H{UNUSED;
double r = d(a) + d(b);
return u(r);
}
}
, {64, "fma.rn.f64 %d, %a, %b, %c;", H{UNUSED;
return u(std::fma(d(a), d(b), d(c)));
}
}
, {64, "cvt.rn.f64.s64 %d, %a;", H{UNUSED;
return u(double(int64_t(a)));
}
}
, {32, "{ .reg .pred %q; setp.lt.s32 %q, %a, %b; selp.b32 %d, %a, %c, %q; }", H{UNUSED;
return s(a) < s(b) ? a : c;
}
}
, {32, "{ .reg .pred %q; setp.leu.f32 %q, %a, %b; selp.u32 %d, 1, 0, %q; }", H{UNUSED;
return !(f(a) > f(b));
}
}
, {32, "set.gt.u32.s32 %d, %a, %b;", H{UNUSED;
return s(a) > s(b) ? 0xFFFFFFFF : 0;
}
}
, {32, "slct.b32.s32 %d, %a, %b, %c;", H{UNUSED;
return s(c) >= 0 ? a : b;
}
}
, {64, "{ .reg .b32 %l, %h; mov.b64 {%l, %h}, %a; mov.b64 %d, {%h, %l}; }", H{UNUSED;
return a << 32 | a >> 32;
}
}
,
}
;

const uint64_t edges[] = {0,
                          1,
                          2,
                          31,
                          32,
                          33,
                          0x7F,
                          0x80,
                          0xFF,
                          0x7FFF,
                          0x8000,
                          0xFFFF,
                          0x7FFFFFFF,
                          0x80000000,
                          0xFFFFFFFF,
                          0x3F800000,
                          0xBF800000,
                          0x7F800000,
                          0xFF800000,
                          0x7FC00000,
                          0x00800000,
                          0x00000001,
                          0x80000001,
                          0x4B000001,
                          0x33800000,
                          0x3FF0000000000000,
                          0x8000000000000000,
                          0x7FF0000000000000,
                          0x0010000000000000,
                          0xFFFFFFFFFFFFFFFF,
                          0x123456789ABCDEF0};
} // namespace

class Arithmetic : public ::testing::TestWithParam<int> {};

TEST_P(Arithmetic, EqualsTheHost) {
  const Case &c = cases[GetParam()];
  const uint64_t mask = c.bits == 64 ? ~uint64_t(0) : 0xFFFFFFFF;
  std::vector<uint64_t> a, b, third;
  std::mt19937_64 random(5);
  for (uint64_t x : edges) {
    for (uint64_t y : edges) {
      a.push_back(x & mask);
      b.push_back(y & mask);
      third.push_back(edges[random() % std::size(edges)] & mask);
    }
  }
  for (int i = 0; i < 1000; ++i) {
    a.push_back(random() & mask);
    b.push_back(random() & mask);
    third.push_back(random() & mask);
  }
  while (a.size() % 64) {
    a.push_back(3);
    b.push_back(4);
    third.push_back(5);
  }
  std::string bits = std::to_string(c.bits), type = ".b" + bits, scale = c.bits == 64 ? "8" : "4";
  std::string text =
      kernel(".param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd",
             ".reg .b32 %r<4>; .reg .b64 %p<8>; .reg " + type +
                 " %a, %b, %c, %d;\n"
                 "ld.param.u64 %p1, [pa]; ld.param.u64 %p2, [pb]; ld.param.u64 %p3, [pc];\n"
                 "ld.param.u64 %p4, [pd]; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x;\n"
                 "mad.lo.u32 %r1, %r1, 64, %r2; mul.wide.u32 %p5, %r1, " +
                 scale +
                 ";\n"
                 "add.u64 %p1, %p1, %p5; add.u64 %p2, %p2, %p5; add.u64 %p3, %p3, %p5; add.u64 %p4, %p4, %p5;\n"
                 "ld.global" +
                 type + " %a, [%p1]; ld.global" + type + " %b, [%p2]; ld.global" + type + " %c, [%p3];\n" + c.code +
                 "\nst.global" + type + " [%p4], %d; ret;");
  Device device;
  ASSERT_TRUE(device.load(text)) << text;
  auto run = [&](auto zero) {
    using T = decltype(zero);
    std::vector<T> va(a.begin(), a.end()), vb(b.begin(), b.end()), vc(third.begin(), third.end());
    uint64_t pa = device.upload(va), pb = device.upload(vb), pc = device.upload(vc);
    uint64_t pd = device.upload(std::vector<T>(a.size()));
    ASSERT_EQ(device.run({uint32_t(a.size() / 64), 1, 1}, {64, 1, 1}, pa, pb, pc, pd), LaunchError::None);
    ASSERT_EQ(device.findings(), "");
    std::vector<T> got = device.download<T>(pd, a.size());
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(uint64_t(got[i]), c.host(a[i], b[i], third[i]) & mask)
          << c.code << std::hex << " a " << a[i] << " b " << b[i] << " c " << third[i] << " got " << uint64_t(got[i]);
    }
  };
  if (c.bits == 64) {
    run(uint64_t(0));
  } else {
    run(uint32_t(0));
  }
}
INSTANTIATE_TEST_SUITE_P(Table, Arithmetic, ::testing::Range(0, int(std::size(cases))));

TEST(Approximate, WithinTheStatedError) {
  // Largest relative errors by PTX: ex2 2^-22.5, rcp and rsqrt 1 ulp (2^-23) and 2^-22.9, tanh 2^-11, sqrt 2^-23.
  const struct {
    const char *code;
    double (*host)(double);
    double error;
  } functions[] = {{"ex2.approx.f32", [](double x) { return std::exp2(x); }, 0x1p-22},
                   {"rcp.approx.f32", [](double x) { return 1 / x; }, 0x1p-23},
                   {"rsqrt.approx.f32", [](double x) { return 1 / std::sqrt(x); }, 0x1p-22},
                   {"sqrt.approx.f32", [](double x) { return std::sqrt(x); }, 0x1p-22},
                   {"tanh.approx.f32", [](double x) { return std::tanh(x); }, 0x1p-11}};
  for (const auto &function : functions) {
    Device device;
    ASSERT_TRUE(device.load(
        kernel(".param .u64 p", ".reg .b64 %p<4>; .reg .f32 %f<4>; .reg .b32 %r<4>; ld.param.u64 %p1, [p];\n"
                                "mov.u32 %r1, %tid.x; mul.wide.u32 %p2, %r1, 4; add.u64 %p1, %p1, %p2;\n"
                                "ld.global.f32 %f1, [%p1];\n" +
                                    std::string(function.code) + " %f2, %f1; st.global.f32 [%p1], %f2; ret;")));
    std::vector<float> x;
    for (int i = 0; i < 256; ++i) {
      x.push_back(0.03F * float(i + 1));
    }
    uint64_t p = device.upload(x);
    ASSERT_EQ(device.run({1, 1, 1}, {256, 1, 1}, p), LaunchError::None);
    std::vector<float> got = device.download<float>(p, x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      double want = function.host(double(x[i]));
      EXPECT_LE(std::fabs(got[i] - want), std::fabs(want) * function.error) << function.code << " of " << x[i];
    }
  }
}
