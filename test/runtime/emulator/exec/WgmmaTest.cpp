//===- WgmmaTest.cpp - Every row of wgmma, exact on integers ---------------===//
//
// Each wgmma.mma_async of the instruction table: every n, all types, A from
// registers and from a descriptor, both majors and all swizzles. Operands are laid
// out by the canonical layouts of the PTX ISA (9.7.15.5), written here as strides:
// in 16-byte units, K-major ((8,n),2) and MN-major ((w,n),(8,k)), with the
// exchange of units inside of 32, 64 or 128 bytes on top.
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

constexpr unsigned baseB = 32768, imageBytes = 81920;

/// How one operand lies in shared memory.
struct Placement {
  unsigned swizzle = 0; ///< 0: none, 1: 32, 2: 64, 3: 128 bytes
  bool mnMajor = false;
  unsigned leading = 0, stride = 0; ///< bytes
  unsigned elementBits = 16;

  /// Of `rows` rows; offsets leave gaps where the layout allows them, so that a mix-up shows.
  Placement(unsigned swizzle, bool mnMajor, unsigned elementBits)
      : swizzle(swizzle), mnMajor(mnMajor), elementBits(elementBits) {
    const unsigned span = 16U << swizzle;
    if (!mnMajor) {
      leading = swizzle ? 16 : 128; // with a swizzle it is not used
      stride = swizzle ? 8 * span : 256;
    } else if (swizzle) {
      stride = 8 * span;      // from eight k to the next eight
      leading = 2 * 8 * span; // from one span of rows to the next
    } else {
      leading = 128; // from eight k to the next eight
      stride = 256;  // from eight rows to the next eight
    }
  }
  uint64_t descriptor() const {
    const uint64_t modes[] = {0, 3, 2, 1};
    return modes[swizzle] << 62 | uint64_t(stride >> 4) << 32 | uint64_t(leading >> 4) << 16;
  }
  /// The byte that holds element (row, k), and its bit there.
  unsigned bit(unsigned row, unsigned k) const {
    unsigned at; // in bytes
    const unsigned units = 1U << swizzle;
    if (!mnMajor) {
      const unsigned byte = k * elementBits / 8, unit = byte / 16;
      at =
          row / 8 * stride + row % 8 * (swizzle ? 16 * units : 16) + (swizzle ? unit * 16 : unit * leading) + byte % 16;
    } else {
      const unsigned unit = row / 8, inside = row % 8 * 2;
      at = swizzle ? unit % units * 16 + unit / units * leading + k % 8 * 16 * units + k / 8 * stride
                   : unit * stride + k % 8 * 16 + k / 8 * leading;
      at += inside;
    }
    at ^= (at >> 7 & (units - 1)) << 4;
    return at * 8 + k * elementBits % 8;
  }
};

uint64_t bitsOf(double v, ptx::Type type) {
  if (ptx::isFloat(type) || type == ptx::Type::TF32 || type == ptx::Type::E4M3 || type == ptx::Type::E5M2) {
    return rounded(numberOf(v), type == ptx::Type::TF32 ? layoutF32 : layoutOf(type), ptx::Round::RN);
  }
  const unsigned width = ptx::bitsOf(type);
  return uint64_t(int64_t(v)) & ((uint64_t(1) << width) - 1);
}

struct Case {
  const Row *row;
  unsigned swizzleA, swizzleB;
  bool mnA, mnB;
  int scaleA, scaleB;
};

std::string list(const char *prefix, unsigned count) {
  std::string out = "{";
  for (unsigned i = 0; i < count; ++i) {
    out += (i ? ", " : "") + std::string(prefix) + std::to_string(i);
  }
  return out + "}";
}

std::string textOf(const Case &c, const Placement &a, const Placement &b, bool fromRegisters, unsigned registers) {
  const ptx::Type d = c.row->instruction.types[0];
  const std::string kind = d == ptx::Type::F32 ? "f32" : "b32";
  std::string loads, stores, immediates;
  for (unsigned i = 0; i < registers; ++i) {
    const std::string number = std::to_string(i), place = "[%rd3+" + std::to_string(i * 4) + "]";
    loads += "ld.global." + kind + " %d" + number + ", " + place + ";\n";
    stores += "st.global." + kind + " " + place + ", %d" + number + ";\n";
  }
  if (fromRegisters) {
    loads += "mul.wide.u32 %rd9, %r1, 16; add.u64 %rd9, %rd9, %rd1; ld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%rd9+" +
             std::to_string(imageBytes) + "];\n";
  }
  // scale-a and scale-b, then the majors of those operands that have a descriptor.
  unsigned count = 0;
  for (const ptx::Slot &slot : c.row->form->slots) {
    count += slot.kind == ptx::Slot::Kind::ImmediateOnly;
  }
  if (count >= 2) {
    immediates = ", " + std::to_string(c.scaleA) + ", " + std::to_string(c.scaleB);
  }
  if (count == 4) {
    immediates += std::string(", ") + (c.mnA ? "1" : "0");
  }
  if (count >= 3) {
    immediates += std::string(", ") + (c.mnB ? "1" : "0");
  }
  return kernel(".param .u64 in, .param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<16>; .reg .)" + kind +
                                                       " %d<" + std::to_string(registers) +
                                                       R"(>; .reg .b32 %a<4>; .reg .pred %p<4>;
  .shared .align 1024 .b8 s[)" + std::to_string(imageBytes) +
                                                       R"(];
  ld.param.u64 %rd1, [in];
  ld.param.u64 %rd3, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  shl.b32 %r3, %r1, 4;
COPY:
  cvt.u64.u32 %rd4, %r3;
  add.u64 %rd5, %rd1, %rd4;
  ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd5];
  add.u32 %r8, %r2, %r3;
  st.shared.v4.u32 [%r8], {%r4, %r5, %r6, %r7};
  add.u32 %r3, %r3, 2048;
  setp.lt.u32 %p1, %r3, )" + std::to_string(imageBytes) +
                                                       R"(;
  @%p1 bra COPY;
  mul.wide.u32 %rd8, %r1, )" + std::to_string(registers * 4) +
                                                       R"(;
  add.u64 %rd3, %rd3, %rd8;
)" + loads + R"(
  fence.proxy.async;
  bar.sync 0;
  shr.u32 %r6, %r2, 4;
  cvt.u64.u32 %rd6, %r6;
  or.b64 %rd7, %rd6, )" + std::to_string(b.descriptor()) +
                                                       R"(;
  add.u64 %rd7, %rd7, )" + std::to_string(baseB >> 4) + R"(;
  or.b64 %rd6, %rd6, )" + std::to_string(a.descriptor()) +
                                                       R"(;
  setp.eq.u32 %p2, %r1, %r1;
  wgmma.fence.sync.aligned;
  )" + c.row->mnemonic + " " + list("%d", registers) + ", " +
                                                       (fromRegisters ? "{%a0, %a1, %a2, %a3}" : "%rd6") +
                                                       ", %rd7, %p2" + immediates + R"(;
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
)" + stores + "ret;");
}

void check(const Case &c) {
  const ptx::Instruction &i = c.row->instruction;
  const ptx::Type d = i.types[0], ta = i.types[1], tb = i.types[2];
  const unsigned n = i.mods.n, K = i.mods.k, bits = ptx::bitsOf(ta);
  const bool fromRegisters = c.row->form->slots[1].kind == ptx::Slot::Kind::Fragment;
  const bool half = d == ptx::Type::F16, integers = d == ptx::Type::S32;
  const Placement placeA(c.swizzleA, c.mnA, bits), placeB(c.swizzleB, c.mnB, bits);
  const unsigned registers = half ? n / 4 : n / 2;

  std::mt19937 random(3);
  auto element = [&](ptx::Type type) {
    if (type == ptx::Type::B1) {
      return double(random() % 2);
    }
    if (type == ptx::Type::U8 || type == ptx::Type::S8) {
      return double(int(random() % 256) - (type == ptx::Type::S8 ? 128 : 0));
    }
    return double(int(random() % 9) - 4);
  };
  std::vector<double> A(64 * K), B(n * K), C(64 * n);
  std::vector<uint8_t> image(imageBytes + 128 * 16);
  auto put = [&](unsigned bit, uint64_t value, unsigned width) {
    if (width < 8) {
      image[bit / 8] = uint8_t(image[bit / 8] | value << bit % 8);
    } else {
      std::memcpy(&image[bit / 8], &value, width / 8);
    }
  };
  for (unsigned r = 0; r < 64; ++r) {
    for (unsigned k = 0; k < K; ++k) {
      A[r * K + k] = element(ta);
      if (!fromRegisters) {
        put(placeA.bit(r, k), bitsOf(A[r * K + k], ta), bits);
      } else {
        // Register 0: row g, the first 16 bytes of k; 1: row g + 8; 2 and 3: the second 16 bytes.
        const unsigned perRegister = 32 / bits, warp = r / 16, g = r % 8, quarter = k / perRegister % 4;
        const unsigned reg = (r % 16 / 8) + (k / perRegister / 4) * 2, thread = warp * 32 + g * 4 + quarter;
        put((imageBytes + thread * 16 + reg * 4) * 8 + k % perRegister * bits, bitsOf(A[r * K + k], ta), bits);
      }
    }
  }
  for (unsigned r = 0; r < n; ++r) {
    for (unsigned k = 0; k < K; ++k) {
      B[r * K + k] = element(tb);
      put(baseB * 8 + placeB.bit(r, k), bitsOf(B[r * K + k], tb), bits);
    }
  }
  for (double &v : C) {
    v = double(int(random() % 9) - 4);
    v = integers && random() % 4 == 0 ? (v < 0 ? INT32_MIN - v : INT32_MAX - v) : v;
  }
  const unsigned width = half ? 16 : 32;
  auto cell = [&](unsigned t, unsigned e) {
    unsigned row = t / 32 * 16 + t % 32 / 4 + (e & 2 ? 8 : 0), column = e / 4 * 8 + t % 4 * 2 + (e & 1);
    return row * n + column;
  };
  std::vector<uint8_t> out(64 * n * width / 8);
  for (unsigned t = 0; t < 128; ++t) {
    for (unsigned e = 0; e < n / 2; ++e) {
      const uint64_t value = bitsOf(C[cell(t, e)], d);
      std::memcpy(&out[(t * (n / 2) + e) * width / 8], &value, width / 8);
    }
  }
  Device device;
  const std::string text = textOf(c, placeA, placeB, fromRegisters, registers);
  ASSERT_TRUE(device.load(text)) << text;
  const uint64_t pin = device.upload(image), pout = device.upload(out);
  ASSERT_EQ(device.run({1, 1, 1}, {128, 1, 1}, pin, pout), LaunchError::None) << device.findings();
  ASSERT_EQ(device.findings(), "");
  out = device.download<uint8_t>(pout, out.size());
  unsigned immediates = 0;
  for (const ptx::Slot &slot : c.row->form->slots) {
    immediates += slot.kind == ptx::Slot::Kind::ImmediateOnly;
  }
  const double scale = immediates ? c.scaleA * c.scaleB : 1;
  for (unsigned t = 0; t < 128; ++t) {
    for (unsigned e = 0; e < n / 2; ++e) {
      const unsigned at = cell(t, e), row = at / n, column = at % n;
      double want = C[at];
      for (unsigned k = 0; k < K; ++k) {
        want += scale * A[row * K + k] * B[column * K + k];
      }
      if (i.mods.satfinite) {
        want = std::fmin(std::fmax(want, INT32_MIN), INT32_MAX);
      }
      uint64_t got = 0;
      std::memcpy(&got, &out[(t * (n / 2) + e) * width / 8], width / 8);
      ASSERT_EQ(got, want == 0 ? 0 : bitsOf(want, d)) << "thread " << t << " element " << e << " want " << want;
    }
  }
}

std::string describe(const Case &c) {
  return c.row->mnemonic + " swizzles " + std::to_string(c.swizzleA) + " " + std::to_string(c.swizzleB) + " MN-major " +
         std::to_string(c.mnA) + " " + std::to_string(c.mnB);
}
} // namespace

TEST(Wgmma, EveryRowOfTheTable) {
  const std::vector<Row> rows = rowsOf({ptx::Opcode::WgmmaMmaAsync}, true);
  ASSERT_GT(rows.size(), 900U);
  unsigned number = 0;
  for (const Row &row : rows) {
    ++number;
    const bool sixteen = ptx::bitsOf(row.instruction.types[1]) == 16;
    const bool registers = row.form->slots[1].kind == ptx::Slot::Kind::Fragment;
    // The layouts in turn; for one n all of them.
    const bool all = row.instruction.mods.n == 32;
    const unsigned possible = (registers ? 4 : 16) * (!sixteen ? 1 : registers ? 2 : 4);
    unsigned skipped = number * 7 % possible;
    for (unsigned choice = 0; choice < 64; ++choice) {
      Case c{&row,
             choice % 4,
             choice / 4 % 4,
             (choice & 16) != 0,
             (choice & 32) != 0,
             number % 3 ? 1 : -1,
             number % 2 ? 1 : -1};
      if ((!sixteen && (c.mnA || c.mnB)) || (registers && (c.mnA || c.swizzleA)) || (!all && skipped-- != 0)) {
        continue;
      }
      SCOPED_TRACE(describe(c));
      check(c);
      if (HasFatalFailure()) {
        return;
      }
    }
  }
}

TEST(Wgmma, TheOtherRowsAreThoseUsedHere) {
  std::string all;
  for (const Row &row : rowsOf({ptx::Opcode::WgmmaFence, ptx::Opcode::WgmmaCommitGroup, ptx::Opcode::WgmmaWaitGroup})) {
    all += row.mnemonic + " ";
  }
  EXPECT_EQ(all, "wgmma.fence.sync.aligned wgmma.commit_group.sync.aligned wgmma.wait_group.sync.aligned ");
}

/// The second product adds to what the first one left, whatever the time at which they land: the first begins with
/// zeros.
TEST(Wgmma, ProductsOnTheSameAccumulatorsAreInOrder) {
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .f32 %d<4>; .reg .pred %p<2>;
  .shared .align 128 .b8 s[4096];
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, s;
  shl.b32 %r3, %r1, 5;
  add.u32 %r3, %r3, %r2;
  mov.u32 %r4, 0x3F803F80;
  st.shared.v4.u32 [%r3], {%r4, %r4, %r4, %r4};
  st.shared.v4.u32 [%r3+16], {%r4, %r4, %r4, %r4};
  mov.f32 %d0, 0f40000000; mov.f32 %d1, %d0; mov.f32 %d2, %d0; mov.f32 %d3, %d0;
  fence.proxy.async;
  bar.sync 0;
  shr.u32 %r5, %r2, 4;
  cvt.u64.u32 %rd2, %r5;
  or.b64 %rd2, %rd2, 0x800080000;
  setp.ne.u32 %p0, %r1, %r1;
  setp.eq.u32 %p1, %r1, %r1;
  wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%d0, %d1, %d2, %d3}, %rd2, %rd2, %p0, 1, 1, 0, 0;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%d0, %d1, %d2, %d3}, %rd2, %rd2, %p1, 1, 1, 0, 0;
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
  mul.wide.u32 %rd3, %r1, 16;
  add.u64 %rd1, %rd1, %rd3;
  st.global.v4.f32 [%rd1], {%d0, %d1, %d2, %d3};
  ret;)");
  for (uint64_t seed = 0; seed < 16; ++seed) {
    Device device;
    device.options.timing = Timing::Random;
    device.options.seed = seed;
    ASSERT_TRUE(device.load(text));
    const uint64_t out = device.upload(std::vector<float>(512));
    ASSERT_EQ(device.run({1, 1, 1}, {128, 1, 1}, out), LaunchError::None) << device.findings();
    ASSERT_EQ(device.findings(), "");
    ASSERT_EQ(device.download<float>(out, 512), std::vector<float>(512, 32.0F)) << "seed " << seed;
  }
}
