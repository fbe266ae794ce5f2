//===- CopyRowsTest.cpp - Every row of asynchronous copies -----------------===//
//
// cp.async, bulk copies and reductions, st.async and red.async of the instruction
// table: the bytes arrive, and nothing else changes, at every timing and without a
// finding. Tensor copies are in TensorRowsTest.cpp.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/exec/ReferenceCombine.h"
#include "test/runtime/emulator/exec/Rows.h"

#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;
using ptx::Opcode;
using ptx::Slot;
using ptx::Space;
using ptx::Type;

namespace {

constexpr unsigned size = 512; ///< bytes of a buffer

using Bytes = std::vector<uint8_t>;

/// `a` and `b` as `in`, one after the other; a kernel works on shared buffers of 512 bytes, filled from them: s from a,
/// t from b. What it leaves: global memory, and per block the buffers.
struct Outcome {
  Bytes global, s, t;
};

Outcome outcomeOf(const std::string &body, const Bytes &a, const Bytes &b, unsigned blocks = 1) {
  const std::string text = kernel(".param .u64 in, .param .u64 out", R"(
  .reg .b32 %r<24>, %w<8>; .reg .b64 %rd<16>, %pol; .reg .pred %p<8>; .reg .b16 %h<4>;
  .shared .align 128 .b8 s[512]; .shared .align 128 .b8 t[512]; .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out];
  mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x;
  mov.u32 %r5, s; mov.u32 %r6, bar; mov.u32 %r7, t;
  shl.b32 %r3, %r1, 4; cvt.u64.u32 %rd3, %r3;
  add.u32 %r8, %r5, %r3; add.u32 %r9, %r7, %r3; add.u64 %rd4, %rd1, %rd3;
  createpolicy.fractional.L2::evict_last.b64 %pol, 0f3F800000;
  ld.global.v4.u32 {%w0, %w1, %w2, %w3}, [%rd4]; st.shared.v4.u32 [%r8], {%w0, %w1, %w2, %w3};
  ld.global.v4.u32 {%w0, %w1, %w2, %w3}, [%rd4+512]; st.shared.v4.u32 [%r9], {%w0, %w1, %w2, %w3};
  setp.eq.u32 %p1, %r1, 0; setp.ne.u32 %p2, %r1, 0;
  mov.u32 %r10, %cluster_ctarank; mov.u32 %r15, %cluster_nctarank; sub.u32 %r10, %r15, %r10; sub.u32 %r10, %r10, 1;
  mapa.shared::cluster.u32 %r11, %r5, %r10; mapa.shared::cluster.u32 %r12, %r6, %r10; add.u32 %r13, %r11, %r3;
  @%p1 mbarrier.init.shared.b64 [%r6], 1;
  fence.proxy.async; fence.mbarrier_init.release.cluster;
  bar.sync 0; barrier.cluster.arrive; barrier.cluster.wait;
)" + body + R"(
  barrier.cluster.arrive; barrier.cluster.wait;
  mul.wide.u32 %rd5, %r2, 1024; add.u64 %rd5, %rd5, %rd2; add.u64 %rd5, %rd5, %rd3;
  ld.shared.v4.u32 {%w0, %w1, %w2, %w3}, [%r8]; st.global.v4.u32 [%rd5], {%w0, %w1, %w2, %w3};
  ld.shared.v4.u32 {%w0, %w1, %w2, %w3}, [%r9]; st.global.v4.u32 [%rd5+512], {%w0, %w1, %w2, %w3};
  ret;)");
  Outcome outcome;
  for (Timing timing : {Timing::Late, Timing::Early, Timing::Random}) {
    Device device;
    if (!device.load(text)) {
      ADD_FAILURE() << text;
      return outcome;
    }
    device.config.cluster = {blocks, 1, 1};
    device.options.timing = timing;
    device.options.stepLimit = 100000;
    Bytes in = a;
    in.insert(in.end(), b.begin(), b.end());
    const uint64_t pin = device.upload(in), pout = device.upload(Bytes(blocks * 2 * size));
    EXPECT_EQ(device.run({blocks, 1, 1}, {32, 1, 1}, pin, pout), LaunchError::None) << text << device.findings();
    EXPECT_EQ(device.findings(), "") << text;
    outcome.global = device.download<uint8_t>(pin, 2 * size);
    const Bytes out = device.download<uint8_t>(pout, blocks * 2 * size);
    outcome.s.clear();
    outcome.t.clear();
    for (unsigned block = 0; block < blocks; ++block) {
      outcome.s.insert(outcome.s.end(), out.begin() + block * 2 * size, out.begin() + block * 2 * size + size);
      outcome.t.insert(outcome.t.end(), out.begin() + block * 2 * size + size, out.begin() + (block + 1) * 2 * size);
    }
  }
  return outcome;
}

Bytes someBytes(unsigned seed) {
  std::mt19937 random(seed);
  Bytes out(size);
  for (uint8_t &byte : out) {
    byte = uint8_t(random());
  }
  return out;
}
/// `a` with [at, at + count) from `b`.
Bytes mixed(Bytes a, const Bytes &b, unsigned at, unsigned count) {
  std::copy_n(b.begin() + at, count, a.begin() + at);
  return a;
}
Bytes twice(const Bytes &a) {
  Bytes out = a;
  out.insert(out.end(), a.begin(), a.end());
  return out;
}

const std::string waitForPhase0 =
    "\nWAIT: mbarrier.try_wait.parity.acquire.cluster.shared.b64 %p3, [%r6], 0; @!%p3 bra WAIT;\n";
std::string expectBytes(unsigned bytes) {
  return "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r6], " + std::to_string(bytes) + ";\n";
}
std::string policyOf(const Row &row) { return row.instruction.mods.cacheHint ? ", %pol" : ""; }

const Bytes a = someBytes(1), b = someBytes(2);

void checkCpAsync(const Row &row) {
  const bool predicate = std::any_of(row.form->slots.begin(), row.form->slots.end(),
                                     [](const Slot &s) { return s.kind == Slot::Kind::PredicateSource; });
  for (unsigned count : {4U, 8U, 16U}) {
    if (row.instruction.mods.cache == ptx::Cache::Cg && count != 16) {
      continue;
    }
    // Each lane replaces the beginning of its 16 bytes of s by those of b; `kept` of them, the others become zero.
    std::vector<std::pair<std::string, unsigned>> variants;
    if (predicate) {
      variants = {{", %p1", count}}; // lane 0 ignores its source
    } else {
      variants = {{"", count}, {", " + std::to_string(count / 2), count / 2}, {", 0", 0}};
    }
    for (const auto &[operand, kept] : variants) {
      const Outcome got = outcomeOf(row.mnemonic + " [%r8], [%rd4+512], " + std::to_string(count) + operand +
                                        policyOf(row) + ";\ncp.async.wait_all;\nbar.sync 0;",
                                    a, b);
      Bytes want = a;
      for (unsigned l = 0; l < 32; ++l) {
        for (unsigned k = 0; k < count; ++k) {
          want[l * 16 + k] = k < kept && !(predicate && l == 0) ? b[l * 16 + k] : 0;
        }
      }
      ASSERT_EQ(got.s, want) << count << operand;
    }
  }
}

void checkGroup(const Row &row) {
  const std::string copy = "cp.async.cg.shared.global [%r8], [%rd4+512], 16;\n";
  std::string body;
  switch (row.instruction.op) {
  case Opcode::CpAsyncCommitGroup:
    body = copy + row.mnemonic + ";\ncp.async.wait_group 0;";
    break;
  case Opcode::CpAsyncWaitGroup: // the group before the last one
    body = copy + "cp.async.commit_group;\ncp.async.cg.shared.global [%r9], [%rd4], 16;\ncp.async.commit_group;\n" +
           row.mnemonic + " 1;\nld.shared.v4.u32 {%w0, %w1, %w2, %w3}, [%r8];\n" + row.mnemonic + " 0;";
    break;
  case Opcode::CpAsyncWaitAll:
    body = copy + row.mnemonic + ";";
    break;
  default: { // cp.async.mbarrier.arrive: one arrival of each lane; without .noinc it counts itself in
    const std::string place = row.instruction.mods.space == Space::None ? "[%rd6]" : "[%r6]";
    const unsigned pending = row.instruction.mods.noInc ? 33 : 1;
    body = "bar.sync 0;\n@%p1 mbarrier.inval.shared.b64 [%r6];\n@%p1 mbarrier.init.shared.b64 [%r6], " +
           std::to_string(pending) + ";\nbar.sync 0;\ncvt.u64.u32 %rd6, %r6; cvta.shared.u64 %rd6, %rd6;\n" + copy +
           row.mnemonic + " " + place + ";\nbar.sync 0;\n@%p1 mbarrier.arrive.shared.b64 _, [%r6];" + waitForPhase0;
    break;
  }
  }
  const Outcome got = outcomeOf(body + "\nbar.sync 0;", a, b);
  ASSERT_EQ(got.s, b);
  ASSERT_EQ(got.t, row.instruction.op == Opcode::CpAsyncWaitGroup ? a : b);
}

void checkBulk(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  if (i.mods.space == Space::Global) { // 128 bytes of s to b in global memory
    const Outcome got =
        outcomeOf("@%p1 " + row.mnemonic + " [%rd1+640], [%r5+128], 128" + policyOf(row) +
                      ";\n@%p1 cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group 0;\nbar.sync 0;",
                  a, b);
    const Bytes want = mixed(b, a, 128, 128);
    ASSERT_EQ(Bytes(got.global.begin() + size, got.global.end()), want);
    return;
  }
  if (i.mods.multicast) { // block 0 for both
    const Outcome got =
        outcomeOf(expectBytes(128) + "setp.eq.u32 %p4, %r2, 0; and.pred %p4, %p4, %p1; mov.u16 %h1, 3;\n@%p4 " +
                      row.mnemonic + " [%r5+128], [%rd1+640], 128, [%r6], %h1" + policyOf(row) + ";" + waitForPhase0,
                  a, b, 2);
    ASSERT_EQ(got.s, twice(mixed(a, b, 128, 128)));
    return;
  }
  if (i.mods.source == Space::Shared) { // t to s of the other block
    const Outcome got = outcomeOf(expectBytes(128) + "add.u32 %r14, %r11, 128;\n@%p1 " + row.mnemonic +
                                      " [%r14], [%r7+128], 128, [%r12];" + waitForPhase0,
                                  a, b, 2);
    ASSERT_EQ(got.s, twice(mixed(a, b, 128, 128)));
    return;
  }
  const Outcome got = outcomeOf(expectBytes(128) + "@%p1 " + row.mnemonic + " [%r5+128], [%rd1+640], 128, [%r6]" +
                                    policyOf(row) + ";" + waitForPhase0,
                                a, b);
  ASSERT_EQ(got.s, mixed(a, b, 128, 128));
  ASSERT_EQ(got.t, b);
}

/// Bytes of elements of the type, its edges among them.
Bytes elementsOf(Type type, unsigned seed, bool normal) {
  std::mt19937 random(seed);
  std::vector<uint64_t> edges = edgesOf(type);
  const unsigned bytes = ptx::bitsOf(type) / 8;
  if (normal) { // whether reductions flush f32 is not tested here
    const Layout layout = layoutOf(type);
    edges = {uint64_t(layout.bias()) << layout.mantissa, uint64_t(layout.bias() + 3) << layout.mantissa, 0,
             (uint64_t(layout.bias()) << layout.mantissa) + 5};
  }
  Bytes out(size);
  for (unsigned at = 0; at < size; at += bytes) {
    const uint64_t v = edges[random() % edges.size()];
    std::memcpy(&out[at], &v, bytes);
  }
  return out;
}

Bytes reduced(const ptx::Instruction &i, const Bytes &old, const Bytes &operand, unsigned at, unsigned count) {
  Bytes out = old;
  const unsigned bytes = ptx::bitsOf(i.types[0]) / 8;
  for (unsigned k = at; k < at + count; k += bytes) {
    uint64_t x = 0, y = 0;
    std::memcpy(&x, &old[k], bytes);
    std::memcpy(&y, &operand[k], bytes);
    uint64_t r = combined(i, x, y, 0);
    if (ptx::isFloat(i.types[0]) && decoded(r, layoutOf(i.types[0])).kind == Number::NaN) {
      r = (uint64_t(1) << (ptx::bitsOf(i.types[0]) - 1)) - 1;
    }
    std::memcpy(&out[k], &r, bytes);
  }
  return out;
}

void checkReduction(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  const bool normal = i.types[0] == Type::F32 || i.types[0] == Type::F64;
  const Bytes x = elementsOf(i.types[0], 3, normal), y = elementsOf(i.types[0], 4, normal);
  if (i.mods.space == Space::Global) {
    const Outcome got =
        outcomeOf("@%p1 " + row.mnemonic + " [%rd1+640], [%r5+128], 256" + policyOf(row) +
                      ";\n@%p1 cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group 0;\nbar.sync 0;",
                  x, y);
    ASSERT_EQ(Bytes(got.global.begin() + size, got.global.end()), reduced(i, y, x, 128, 256));
    return;
  }
  const Outcome got = outcomeOf(expectBytes(256) + "add.u32 %r14, %r11, 128;\n@%p1 " + row.mnemonic +
                                    " [%r14], [%r7+128], 256, [%r12];" + waitForPhase0,
                                x, y, 2);
  ASSERT_EQ(got.s, twice(reduced(i, x, y, 128, 256)));
}

/// st.async and red.async: every lane to its place in the other block.
void checkRemote(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  const Type type = i.types[0];
  const unsigned bytes = ptx::bitsOf(type) / 8 * i.mods.vector;
  const bool store = i.op == Opcode::StAsync, generic = i.mods.space == Space::None;
  const std::string kind = ".b" + std::to_string(ptx::bitsOf(type));
  std::string values, load = ".reg " + kind + " %v<4>;\n";
  for (unsigned e = 0; e < i.mods.vector; ++e) {
    load +=
        "ld.shared" + kind + " %v" + std::to_string(e) + ", [%r9+" + std::to_string(e * ptx::bitsOf(type) / 8) + "];\n";
    values += (e ? ", %v" : "%v") + std::to_string(e);
  }
  values = i.mods.vector > 1 ? "{" + values + "}" : values;
  // Without a space the addresses are those of shared::cluster all the same.
  const std::string addresses = generic ? "cvt.u64.u32 %rd6, %r13; cvta.shared::cluster.u64 %rd6, %rd6; cvt.u64.u32 "
                                          "%rd7, %r12; cvta.shared::cluster.u64 %rd7, %rd7;\n"
                                        : "";
  const std::string to = generic ? "[%rd6]" : "[%r13]", bar = generic ? "[%rd7]" : "[%r12]";
  const Bytes x = elementsOf(type, 5, false), y = elementsOf(type, 6, false);
  const Outcome got = outcomeOf(expectBytes(32 * bytes) + load + addresses + row.mnemonic + " " + to + ", " + values +
                                    ", " + bar + ";" + waitForPhase0,
                                x, y, 2);
  Bytes want = x;
  for (unsigned l = 0; l < 32; ++l) {
    want = store ? mixed(want, y, l * 16, bytes) : reduced(i, want, y, l * 16, bytes);
  }
  ASSERT_EQ(got.s, twice(want));
}
} // namespace

TEST(CopyRows, BytesArriveAndNothingElseChanges) {
  unsigned count = 0;
  for (const Row &row : rowsOf(opcodesOf(Family::Copy))) {
    SCOPED_TRACE(row.mnemonic);
    ++count;
    switch (row.instruction.op) {
    case Opcode::CpAsync:
      checkCpAsync(row);
      break;
    case Opcode::CpAsyncCommitGroup:
    case Opcode::CpAsyncWaitGroup:
    case Opcode::CpAsyncWaitAll:
    case Opcode::CpAsyncMbarrierArrive:
      checkGroup(row);
      break;
    case Opcode::CpAsyncBulk:
      checkBulk(row);
      break;
    case Opcode::CpReduceAsyncBulk:
      checkReduction(row);
      break;
    case Opcode::StAsync:
    case Opcode::RedAsync:
      checkRemote(row);
      break;
    case Opcode::CpAsyncBulkPrefetch: {
      const Outcome got = outcomeOf("@%p1 " + row.mnemonic + " [%rd1], 128" + policyOf(row) + ";", a, b);
      ASSERT_EQ(got.s, a);
      break;
    }
    case Opcode::CpAsyncBulkCommitGroup:
    case Opcode::CpAsyncBulkWaitGroup: {
      const bool commit = row.instruction.op == Opcode::CpAsyncBulkCommitGroup;
      const Outcome got =
          outcomeOf("@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1+640], [%r5+128], 128;\n@%p1 " +
                        (commit ? row.mnemonic : "cp.async.bulk.commit_group") + ";\n@%p1 " +
                        (commit ? "cp.async.bulk.wait_group" : row.mnemonic) + " 0;\nbar.sync 0;",
                    a, b);
      ASSERT_EQ(Bytes(got.global.begin() + size, got.global.end()), mixed(b, a, 128, 128));
      break;
    }
    case Opcode::CpAsyncBulkTensor:
    case Opcode::CpAsyncBulkPrefetchTensor:
    case Opcode::CpReduceAsyncBulkTensor:
    case Opcode::TensormapReplace:
    case Opcode::TensormapCpFenceproxy:
      break; // TensorRowsTest.cpp
    default:
      FAIL() << "no case for this row";
    }
    if (HasFatalFailure() || HasNonfatalFailure()) {
      return;
    }
  }
  EXPECT_GT(count, 100U);
}
