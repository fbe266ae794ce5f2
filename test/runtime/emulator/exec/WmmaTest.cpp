//===- WmmaTest.cpp - Every row of wmma, ldmatrix, stmatrix and movmatrix --===//
//
// wmma keeps the layout of its fragments to itself, so its rows are tested together:
// each wmma.mma of the instruction table with loads and stores of each major, space,
// with and without a stride, on integers for which sums are exact. The test fails if
// a row of wmma.load or wmma.store was not among them. ldmatrix and stmatrix follow
// the fragment of the PTX ISA (9.7.14.5.15).
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/exec/Rows.h"
#include "test/runtime/emulator/exec/SoftFloat.h"

#include <cmath>
#include <map>
#include <random>
#include <set>

using namespace moert::emulator;
using namespace moert::emulator::testing;
using ptx::Major;
using ptx::Opcode;
using ptx::Type;

namespace {

using Bytes = std::vector<uint8_t>;
constexpr unsigned area = 4096; ///< bytes of one matrix; A, B, C, D one after another

/// A matrix in memory.
struct Matrix {
  unsigned rows, columns;
  Type type;
  bool rowMajor;
  unsigned lead; ///< elements from one row (column) to the next
  unsigned base; ///< byte offset

  unsigned bits() const { return type == Type::TF32 ? 32 : ptx::bitsOf(type); }
  unsigned bit(unsigned r, unsigned c) const { return (rowMajor ? r * lead + c : c * lead + r) * bits(); }
  uint64_t get(const Bytes &memory, unsigned r, unsigned c) const {
    uint64_t v = 0;
    std::memcpy(&v, &memory[base + bit(r, c) / 8], std::max(1U, bits() / 8));
    return bits() < 8 ? v >> bit(r, c) % 8 & ((1U << bits()) - 1) : v;
  }
  void put(Bytes &memory, unsigned r, unsigned c, uint64_t v) const {
    uint8_t *at = &memory[base + bit(r, c) / 8];
    if (bits() < 8) {
      *at = uint8_t(*at | v << bit(r, c) % 8);
    } else {
      std::memcpy(at, &v, bits() / 8);
    }
  }
};

uint64_t bitsOf(double v, Type type) {
  if (ptx::isFloat(type) || type == Type::TF32) {
    return rounded(numberOf(v), type == Type::TF32 ? layoutF32 : layoutOf(type), ptx::Round::RN);
  }
  const unsigned width = ptx::bitsOf(type);
  return uint64_t(int64_t(v)) & ((uint64_t(1) << width) - 1);
}

std::string registers(const char *prefix, unsigned count) {
  std::string out = "{";
  for (unsigned i = 0; i < count; ++i) {
    out += (i ? ", " : "") + std::string(prefix) + std::to_string(i);
  }
  return out + "}";
}
std::string declared(const char *prefix, ptx::FragmentShape shape) {
  const std::string type = shape.type == Type::F32 ? "f32" : shape.type == Type::F64 ? "f64" : "b32";
  return ".reg ." + type + " " + prefix + "<" + std::to_string(shape.count) + ">;\n";
}

/// Runs `body` on 16 KiB that lie in global memory at %rd1 and, as a copy that is brought back, in shared memory at
/// %r5.
Bytes after(const std::string &body, const Bytes &memory, bool shared) {
  const std::string text = kernel(".param .u64 p", R"(
  .reg .b32 %r<16>, %w<4>; .reg .b64 %rd<8>; .reg .pred %p<4>;
  .shared .align 128 .b8 s[16384];
  ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mov.u32 %r5, s; shl.b32 %r3, %r1, 4;
IN:
  cvt.u64.u32 %rd4, %r3; add.u64 %rd4, %rd4, %rd1; add.u32 %r4, %r5, %r3;
  ld.global.v4.u32 {%w0, %w1, %w2, %w3}, [%rd4]; st.shared.v4.u32 [%r4], {%w0, %w1, %w2, %w3};
  add.u32 %r3, %r3, 512; setp.lt.u32 %p2, %r3, 16384; @%p2 bra IN;
  bar.sync 0;
)" + body + "\nbar.sync 0;\n" +
                                                       (shared ? R"(
  shl.b32 %r3, %r1, 4;
OUT:
  cvt.u64.u32 %rd4, %r3; add.u64 %rd4, %rd4, %rd1; add.u32 %r4, %r5, %r3;
  ld.shared.v4.u32 {%w0, %w1, %w2, %w3}, [%r4]; st.global.v4.u32 [%rd4], {%w0, %w1, %w2, %w3};
  add.u32 %r3, %r3, 512; setp.lt.u32 %p2, %r3, 16384; @%p2 bra OUT;
)"
                                                               : "") +
                                                       "ret;");
  Device device;
  if (!device.load(text)) {
    ADD_FAILURE() << text;
    return memory;
  }
  const uint64_t p = device.upload(memory);
  EXPECT_EQ(device.run({1, 1, 1}, {32, 1, 1}, p), LaunchError::None) << device.findings();
  EXPECT_EQ(device.findings(), "");
  return device.download<uint8_t>(p, memory.size());
}

const char *const spaces[] = {".global", ".shared", ".shared::cta", ""};

/// One product; the combination of majors of C and D, space and stride is `choice`.
void check(const Row &row, unsigned choice, std::set<std::string> &used, const std::map<std::string, Row> &accesses) {
  const ptx::Instruction &i = row.instruction;
  const bool f16 = i.types[2] == Type::None;
  const Type d = i.types[0], a = f16 ? Type::F16 : i.types[1], b = f16 ? Type::F16 : i.types[2],
             c = f16 ? i.types[1] : i.types[3];
  const bool padded = choice & 1, rowC = choice & 2, rowD = choice & 4;
  const char *space = spaces[choice >> 3 & 3];
  const bool shared = *space && space[1] == 's';
  auto matrix = [&](unsigned rows, unsigned columns, Type type, bool rowMajor, unsigned number) {
    const unsigned run = rowMajor ? columns : rows, pad = type == Type::B1 ? 128 : ptx::bitsOf(type) == 4 ? 32 : 16;
    return Matrix{rows, columns, type, rowMajor, run + (padded ? pad : 0), number * area};
  };
  const Matrix A = matrix(i.mods.m, i.mods.k, a, i.mods.majorA == Major::Row, 0),
               B = matrix(i.mods.k, i.mods.n, b, i.mods.majorB == Major::Row, 1);
  const Matrix C = matrix(i.mods.m, i.mods.n, c, rowC, 2), D = matrix(i.mods.m, i.mods.n, d, rowD, 3);
  std::mt19937 random(choice);
  Bytes memory(4 * area);
  auto fill = [&](const Matrix &m, bool accumulator) {
    for (unsigned r = 0; r < m.rows; ++r) {
      for (unsigned k = 0; k < m.columns; ++k) {
        const double range = m.type == Type::B1                         ? 2
                             : m.type == Type::U4 || m.type == Type::S4 ? 16
                             : m.type == Type::U8 || m.type == Type::S8 ? 256
                                                                        : 7;
        const bool positive = m.type == Type::B1 || m.type == Type::U4 || m.type == Type::U8;
        double v = double(int(random() % unsigned(range))) - (positive ? 0 : std::floor(range / 2));
        if (accumulator && m.type == Type::S32 && random() % 4 == 0) {
          v = v < 0 ? INT32_MIN - v : INT32_MAX - v;
        }
        m.put(memory, r, k, bitsOf(v, m.type));
      }
    }
  };
  fill(A, false);
  fill(B, false);
  fill(C, true);
  const std::string shape =
      "m" + std::to_string(i.mods.m) + "n" + std::to_string(i.mods.n) + "k" + std::to_string(i.mods.k);
  std::string body;
  auto access = [&](const char *operation, const Matrix &m, const char *prefix, bool store) {
    const std::string mnemonic = std::string("wmma.") + operation + ".sync.aligned." + (m.rowMajor ? "row." : "col.") +
                                 shape + space + "." + nameOf(m.type);
    ASSERT_TRUE(accesses.count(mnemonic)) << mnemonic;
    used.insert(mnemonic);
    const ptx::FragmentShape fragment = fragmentShape(accesses.at(mnemonic).instruction, 'l');
    const std::string place = std::string(shared ? "[%r5+" : "[%rd1+") + std::to_string(m.base) + "]",
                      list = registers(prefix, fragment.count);
    const std::string stride = padded ? ", " + std::to_string(m.lead) : "";
    body += (store ? "" : declared(prefix, fragment)) + mnemonic + " " +
            (store ? place + ", " + list : list + ", " + place) + stride + ";\n";
  };
  access("load.a", A, "%a", false);
  access("load.b", B, "%b", false);
  access("load.c", C, "%c", false);
  auto list = [&](char which, const char *prefix) { return registers(prefix, fragmentShape(i, which).count); };
  body += declared("%d", fragmentShape(i, 'd')) + row.mnemonic + " " + list('d', "%d") + ", " + list('a', "%a") + ", " +
          list('b', "%b") + ", " + list('c', "%c") + ";\n";
  access("store.d", D, "%d", true);
  if (::testing::Test::HasFatalFailure()) {
    return;
  }
  const Bytes got = after(body, memory, shared);
  auto value = [&](const Matrix &m, unsigned r, unsigned k) {
    const uint64_t bits = m.get(memory, r, k);
    if (ptx::isFloat(m.type) || m.type == Type::TF32) {
      return hostValue(bits, m.type == Type::TF32 ? layoutF32 : layoutOf(m.type));
    }
    const unsigned width = m.bits();
    const bool isSigned = m.type == Type::S32 || m.type == Type::S8 || m.type == Type::S4;
    return isSigned ? double(int64_t(bits << (64 - width)) >> (64 - width)) : double(bits);
  };
  for (unsigned r = 0; r < i.mods.m; ++r) {
    for (unsigned n = 0; n < i.mods.n; ++n) {
      double want = value(C, r, n);
      for (unsigned k = 0; k < i.mods.k; ++k) {
        const double x = value(A, r, k), y = value(B, k, n);
        want += i.mods.mode == ptx::Mode::XorPopc ? double(x != y) : x * y;
      }
      want = i.mods.satfinite ? std::fmin(std::fmax(want, INT32_MIN), INT32_MAX) : want;
      const uint64_t mask = D.bits() == 64 ? ~uint64_t(0) : (uint64_t(1) << D.bits()) - 1;
      ASSERT_EQ(D.get(got, r, n) & mask, want == 0 ? 0 : bitsOf(want, d))
          << "row " << r << " column " << n << " want " << want;
    }
  }
}
} // namespace

TEST(Wmma, EveryRowOfTheTable) {
  std::map<std::string, Row> accesses;
  for (const Row &row : rowsOf({Opcode::WmmaLoad, Opcode::WmmaStore}, true)) {
    accesses.emplace(row.mnemonic, row);
  }
  std::set<std::string> used;
  unsigned number = 0;
  for (const Row &row : rowsOf({Opcode::WmmaMma}, true)) {
    // With strides for every other row.
    for (unsigned choice = number++ % 2; choice < 32; choice += 2) {
      SCOPED_TRACE(row.mnemonic + " choice " + std::to_string(choice));
      check(row, choice, used, accesses);
      if (HasFatalFailure() || HasNonfatalFailure()) {
        return;
      }
    }
  }
  for (const auto &[mnemonic, row] : accesses) {
    EXPECT_TRUE(used.count(mnemonic)) << mnemonic << " is used by no product here";
  }
}

TEST(MatrixRows, LdmatrixAndStmatrix) {
  for (const Row &row : rowsOf({Opcode::Ldmatrix, Opcode::Stmatrix}, true)) {
    SCOPED_TRACE(row.mnemonic);
    const ptx::Modifiers &mods = row.instruction.mods;
    const bool load = row.instruction.op == Opcode::Ldmatrix, generic = mods.space == ptx::Space::None;
    const unsigned tiles = mods.vector;
    // Lane l names row l % 8 of tile l / 8: 16 bytes at 48 l, so that rows are apart. Fragments lie at 4096 + 16 lane.
    std::string body = "mul.lo.u32 %r6, %r1, 48; add.u32 %r6, %r6, %r5; shl.b32 %r7, %r1, 4; add.u32 %r7, %r7, %r5;\n"
                       "cvt.u64.u32 %rd5, %r6; cvta.shared.u64 %rd5, %rd5;\n.reg .b32 %f<4>;\n";
    const std::string place = generic ? "[%rd5]" : "[%r6]";
    auto each = [&](const char *what) {
      for (unsigned t = 0; t < tiles; ++t) {
        const std::string r = "%f" + std::to_string(t), at = "[%r7+" + std::to_string(4096 + 4 * t) + "]";
        body += std::string(what) + (what[0] == 'l' ? r + ", " + at : at + ", " + r) + ";\n";
      }
    };
    if (load) {
      body += row.mnemonic + " " + registers("%f", tiles) + ", " + place + ";\n";
      each("st.shared.b32 ");
    } else {
      each("ld.shared.b32 ");
      body += row.mnemonic + " " + place + ", " + registers("%f", tiles) + ";\n";
    }
    Bytes memory(4 * area);
    std::mt19937 random(3);
    for (uint8_t &byte : memory) {
      byte = uint8_t(random());
    }
    Bytes want = memory;
    for (unsigned t = 0; t < tiles; ++t) {
      for (unsigned r = 0; r < 8; ++r) {
        for (unsigned c = 0; c < 8; ++c) {
          // Row r of a fragment is in lanes 4 r to 4 r + 3, two columns each.
          const unsigned fr = mods.transposed ? c : r, fc = mods.transposed ? r : c;
          const unsigned inTile = (t * 8 + r) * 48 + c * 2,
                         inFragment = 4096 + (fr * 4 + fc / 2) * 16 + t * 4 + fc % 2 * 2;
          const unsigned from = load ? inTile : inFragment, to = load ? inFragment : inTile;
          std::copy_n(memory.begin() + from, 2, want.begin() + to);
        }
      }
    }
    ASSERT_EQ(after(body, memory, true), want);
  }
}

TEST(MatrixRows, MovmatrixTransposes) {
  const std::vector<Row> rows = rowsOf({Opcode::Movmatrix}, true);
  ASSERT_EQ(rows.size(), 1U);
  Bytes memory(4 * area);
  for (unsigned i = 0; i < 64; ++i) {
    memory[i * 2] = uint8_t(i);
  }
  const Bytes got = after("shl.b32 %r7, %r1, 2; add.u32 %r7, %r7, %r5; ld.shared.b32 %r8, [%r7]; " + rows[0].mnemonic +
                              " %r9, %r8; st.shared.b32 [%r7], %r9;",
                          memory, true);
  for (unsigned r = 0; r < 8; ++r) {
    for (unsigned c = 0; c < 8; ++c) {
      EXPECT_EQ(got[(r * 8 + c) * 2], c * 8 + r);
    }
  }
}
