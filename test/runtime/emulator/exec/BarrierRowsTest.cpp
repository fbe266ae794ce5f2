//===- BarrierRowsTest.cpp - Every row of barriers and mbarriers -----------===//
//
// Each barrier of the instruction table hands a value from every thread to another:
// what was written before is read behind it, without a finding, and the counts,
// phases and reductions are right. Forms that order nothing by themselves
// (.relaxed) stand behind or before a fence.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/exec/Rows.h"

#include <functional>

using namespace moert::emulator;
using namespace moert::emulator::testing;
using ptx::Mode;
using ptx::Opcode;
using ptx::Reduce;
using ptx::Scope;
using ptx::Sem;
using ptx::Space;

namespace {

constexpr unsigned threads = 64;

/// What each thread of `blocks` blocks stores; thread t of block b starts with 100 b + t in its shared word.
std::vector<uint32_t> exchange(const std::string &body, unsigned blocks = 1) {
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<24>; .reg .b64 %rd<8>; .reg .pred %p<8>;
  .shared .align 16 .b32 s[64];
  .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x;
  mad.lo.u32 %r3, %r2, 64, %r1; mul.wide.u32 %rd2, %r3, 4; add.u64 %rd1, %rd1, %rd2;
  mad.lo.u32 %r4, %r2, 100, %r1;
  mov.u32 %r5, s; mov.u32 %r6, bar;
  mad.lo.u32 %r7, %r1, 4, %r5; xor.b32 %r8, %r1, 63; mad.lo.u32 %r8, %r8, 4, %r5;
  cvt.u64.u32 %rd5, %r6; cvta.shared.u64 %rd5, %rd5;
  setp.eq.u32 %p1, %r1, 0; setp.lt.u32 %p2, %r1, 32;
)" + body + "\nst.global.u32 [%rd1], %r10; ret;");
  std::vector<uint32_t> got;
  for (Timing timing : {Timing::Late, Timing::Early, Timing::Random}) {
    Device device;
    if (!device.load(text)) {
      ADD_FAILURE() << text;
      return {};
    }
    device.config.cluster = {blocks, 1, 1};
    device.options.timing = timing;
    device.options.stepLimit = 100000;
    const uint64_t out = device.upload(std::vector<uint32_t>(threads * blocks));
    EXPECT_EQ(device.run({blocks, 1, 1}, {threads, 1, 1}, out), LaunchError::None) << text << device.findings();
    EXPECT_EQ(device.findings(), "") << text;
    got = device.download<uint32_t>(out, threads * blocks);
  }
  return got;
}

/// Every thread has read the word of thread 63 - t.
void expectSwapped(const std::string &body) {
  const std::vector<uint32_t> got = exchange("st.shared.u32 [%r7], %r4;\n" + body + "\nld.shared.u32 %r10, [%r8];");
  for (unsigned t = 0; t < got.size(); ++t) {
    ASSERT_EQ(got[t], 63 - t);
  }
}

const std::string initialised = "@%p1 mbarrier.init.shared.b64 [%r6], 64; bar.sync 0;\n";
const std::string waitForPhase0 =
    "\nWAIT: mbarrier.try_wait.parity.acquire.cta.shared.b64 %p3, [%r6], 0; @!%p3 bra WAIT;\n";

std::string fenceFor(Scope scope) {
  return std::string("fence.acq_rel.") + (scope == Scope::Cluster ? "cluster" : "cta") + ";\n";
}

/// The operand that names the block's mbarrier: a generic address where the row has no space.
std::string barrierOf(const Row &row) { return row.instruction.mods.space == Space::None ? "[%rd5]" : "[%r6]"; }

void checkBar(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  if (i.mods.mode == Mode::Sync) {
    expectSwapped(row.mnemonic + " 3;");
    expectSwapped(row.mnemonic + " 3, 64;");
  } else if (i.mods.mode == Mode::Arrive) {
    // The first warp arrives, the second waits and reads what the first wrote.
    const auto got = exchange(
        "st.shared.u32 [%r7], %r4; mov.u32 %r10, 1;\n@%p2 bra FIRST; bar.sync 3, 64; ld.shared.u32 %r10, [%r8]; "
        "bra END;\nFIRST: " +
        row.mnemonic + " 3, 64;\nEND: ");
    for (unsigned t = 0; t < threads; ++t) {
      ASSERT_EQ(got[t], t < 32 ? 1 : 63 - t);
    }
  } else {
    const bool counts = i.mods.reduce == Reduce::Popc;
    for (unsigned limit : {0U, 20U, 64U}) {
      const std::string predicate = "setp.lt.u32 %p4, %r1, " + std::to_string(limit) + ";\n";
      for (const char *number : {" %r10, 2, %p4;", " %r10, 2, 64, %p4;", " %p5, 2, %p4;", " %p5, 2, 64, %p4;"}) {
        const bool toPredicate = std::string(number).find("%p5") != std::string::npos;
        if (toPredicate == counts) {
          continue;
        }
        const auto got =
            exchange(predicate + row.mnemonic + number + (toPredicate ? " selp.u32 %r10, 1, 0, %p5;" : ""));
        const uint32_t want = counts ? limit : i.mods.reduce == Reduce::And ? limit == 64 : limit > 0;
        ASSERT_EQ(got, std::vector<uint32_t>(threads, want));
      }
    }
  }
}

void checkCluster(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  const bool arrives = i.mods.mode == Mode::Arrive;
  const std::string before = i.mods.sem == Sem::Relaxed ? "fence.acq_rel.cluster;\n" : "";
  const std::string both = arrives ? before + row.mnemonic + ";\nbarrier.cluster.wait;\n"
                                   : "barrier.cluster.arrive;\n" + row.mnemonic + ";\n";
  const auto got = exchange(
      "xor.b32 %r11, %r2, 1; mapa.shared::cluster.u32 %r12, %r7, %r11;\nbarrier.cluster.arrive; barrier.cluster.wait;\n"
      "st.shared::cluster.u32 [%r12], %r4;\n" +
          both + "ld.shared.u32 %r10, [%r7];",
      2);
  for (unsigned t = 0; t < 2 * threads; ++t) {
    ASSERT_EQ(got[t], (t < threads ? 100 : 0) + t % threads);
  }
}

/// mbarrier.arrive and arrive_drop.
void checkArrive(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  const bool drops = i.op == Opcode::MbarrierArriveDrop, remote = i.mods.space == Space::SharedCluster;
  const std::string fence = i.mods.sem == Sem::Relaxed ? fenceFor(i.mods.scope) : "";
  const std::string operand = i.mods.expectTx ? ", 16" : "";
  if (remote) {
    // Every thread arrives at the barrier of the other block; only the counts are looked at.
    const std::string complete = i.mods.expectTx ? "mbarrier.complete_tx.shared::cluster.b64 [%r12], 16;\n" : "";
    const auto got = exchange(initialised +
                                  "xor.b32 %r11, %r2, 1; mapa.shared::cluster.u32 %r12, %r6, "
                                  "%r11;\nbarrier.cluster.arrive; barrier.cluster.wait;\n" +
                                  fence + row.mnemonic + " _, [%r12]" + operand + ";\n" + complete + waitForPhase0 +
                                  "mov.u32 %r10, 9; barrier.cluster.arrive; barrier.cluster.wait;",
                              2);
    ASSERT_EQ(got, std::vector<uint32_t>(2 * threads, 9));
    return;
  }
  for (const char *state : {"%rd3", "_"}) {
    const std::string arrival = fence + row.mnemonic + " " + state + ", " + barrierOf(row);
    if (i.mods.noComplete) {
      // 64 arrivals that may not complete the phase, and one that does.
      expectSwapped("@%p1 mbarrier.init.shared.b64 [%r6], 65; bar.sync 0;\n" + arrival + ", 1;\n" +
                    "bar.sync 1;\n@%p1 mbarrier.arrive.shared.b64 _, [%r6];\n" + waitForPhase0);
      continue;
    }
    if (i.mods.expectTx) {
      expectSwapped(initialised + arrival + ", 16;\nmbarrier.complete_tx.shared::cta.b64 [%r6], 16;\n" + waitForPhase0);
    } else {
      expectSwapped(initialised + arrival + ";\n" + waitForPhase0);
      // A count of two, of half of the threads.
      if (!drops) {
        expectSwapped(initialised + "bar.sync 1;\n@!%p2 bra OVER;\n" + fence + row.mnemonic + " " + state + ", " +
                      barrierOf(row) + ", 2;\nOVER: " + waitForPhase0);
      }
    }
    if (drops) {
      // Who has dropped out is not waited for: the next phase needs the other half only.
      const auto got =
          exchange(initialised + "@%p2 bra DROP; mbarrier.arrive.shared.b64 _, [%r6]; bra OVER;\nDROP: " + arrival +
                   (i.mods.expectTx ? ", 16;\nmbarrier.complete_tx.shared::cta.b64 [%r6], 16" : "") +
                   ";\nOVER: " + waitForPhase0 +
                   "bar.sync 1;\n@!%p2 mbarrier.arrive.shared.b64 _, [%r6];\n"
                   "NEXT: mbarrier.try_wait.parity.shared.b64 %p3, [%r6], 1; @!%p3 bra NEXT; mov.u32 %r10, 9;");
      ASSERT_EQ(got, std::vector<uint32_t>(threads, 9));
    }
  }
}

void checkWait(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  const std::string fence = i.mods.sem == Sem::Relaxed ? fenceFor(i.mods.scope) : "";
  std::vector<std::string> hints{""};
  if (i.op == Opcode::MbarrierTryWait) {
    hints.push_back(", 1000");
  }
  for (const std::string &hint : hints) {
    expectSwapped(initialised + "mbarrier.arrive.shared.b64 %rd3, [%r6];\nWAIT: " + row.mnemonic + " %p3, " +
                  barrierOf(row) + ", " + (i.mods.parity ? "0" : "%rd3") + hint + "; @!%p3 bra WAIT;\n" + fence);
  }
  if (i.mods.parity) { // the phase before the first counts as complete
    const auto got =
        exchange(initialised + row.mnemonic + " %p3, " + barrierOf(row) + ", 1; selp.u32 %r10, 5, 6, %p3;");
    ASSERT_EQ(got, std::vector<uint32_t>(threads, 5));
  }
  const auto got = exchange(
      initialised + "@%p1 mbarrier.arrive.shared.b64 %rd3, [%r6];\nmov.u32 %r10, 6; @!%p1 bra OVER; " + row.mnemonic +
      " %p3, " + barrierOf(row) + ", " + (i.mods.parity ? "0" : "%rd3") + "; selp.u32 %r10, 5, 6, %p3;\nOVER: ");
  ASSERT_EQ(got, std::vector<uint32_t>(threads, 6)) << "63 arrivals are missing";
}

void checkTransactions(const Row &row) {
  const ptx::Instruction &i = row.instruction;
  const bool expects = i.op == Opcode::MbarrierExpectTx;
  const std::string address = i.mods.space == Space::SharedCluster
                                  ? "mov.u32 %r12, %cluster_ctarank; mapa.shared::cluster.u32 %r12, %r6, %r12;\n"
                                  : "mov.u32 %r12, %r6;\n";
  const std::string target = i.mods.space == Space::None ? "[%rd5]" : "[%r12]";
  const std::string expect =
      expects ? row.mnemonic + " " + target + ", 32;\n" : "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r6], 32;\n";
  const std::string complete = expects ? "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r6], 32;\n"
                                       : row.mnemonic + " " + target + ", 32;\n";
  expectSwapped(initialised + address + expect + "mbarrier.arrive.shared.b64 _, [%r6];\n" + complete + waitForPhase0);
  // Without the completion the phase stays open.
  const auto got = exchange(initialised + address + expect +
                            (expects ? "" : complete + "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r6], 16;\n") +
                            "mbarrier.arrive.shared.b64 _, [%r6];\nbar.sync 1;\n"
                            "mbarrier.test_wait.parity.shared.b64 %p3, [%r6], 0; selp.u32 %r10, 5, 6, %p3;");
  ASSERT_EQ(got, std::vector<uint32_t>(threads, 6));
}

void checkMbarrier(const Row &row) {
  switch (row.instruction.op) {
  case Opcode::MbarrierInit:
    expectSwapped("@%p1 " + row.mnemonic + " " + barrierOf(row) +
                  ", 64; bar.sync 0;\nmbarrier.arrive.shared.b64 _, [%r6];\n" + waitForPhase0);
    break;
  case Opcode::MbarrierInval: {
    // Its memory is ordinary again.
    const auto got = exchange(initialised + "@%p1 " + row.mnemonic + " " + barrierOf(row) +
                              ";\nbar.sync 0;\n@%p1 st.shared.u32 [%r6], 31;\nbar.sync 0; ld.shared.u32 %r10, [%r6];");
    ASSERT_EQ(got, std::vector<uint32_t>(threads, 31));
    break;
  }
  case Opcode::MbarrierPendingCount: {
    // The state is that before the arrival.
    const auto got = exchange(
        "mov.u32 %r10, 0; @!%p1 bra OVER; mbarrier.init.shared.b64 [%r6], 5; mbarrier.arrive.shared.b64 %rd3, [%r6];\n"
        "mbarrier.arrive.shared.b64 %rd4, [%r6]; " +
        row.mnemonic + " %r11, %rd3; " + row.mnemonic +
        " %r12, %rd4;\n"
        "mad.lo.u32 %r10, %r11, 10, %r12;\nOVER: ");
    ASSERT_EQ(got[0], 54U);
    break;
  }
  default:
    FAIL() << "no case for this row";
  }
}
} // namespace

TEST(BarrierRows, HandOverWhatWasWritten) {
  unsigned count = 0;
  for (const Row &row : rowsOf(opcodesOf(Family::Barrier), true)) {
    SCOPED_TRACE(row.mnemonic);
    switch (row.instruction.op) {
    case Opcode::Bar:
      checkBar(row);
      break;
    case Opcode::BarWarpSync: {
      const auto got = exchange("st.shared.u32 [%r7], %r4; " + row.mnemonic +
                                " -1; xor.b32 %r11, %r7, 124; ld.shared.u32 %r10, [%r11];");
      for (unsigned t = 0; t < threads; ++t) {
        ASSERT_EQ(got[t], t ^ 31);
      }
      break;
    }
    case Opcode::BarrierCluster:
      checkCluster(row);
      break;
    case Opcode::MbarrierArrive:
    case Opcode::MbarrierArriveDrop:
      checkArrive(row);
      break;
    case Opcode::MbarrierTestWait:
    case Opcode::MbarrierTryWait:
      checkWait(row);
      break;
    case Opcode::MbarrierExpectTx:
    case Opcode::MbarrierCompleteTx:
      checkTransactions(row);
      break;
    default:
      checkMbarrier(row);
      break;
    }
    ++count;
    if (HasFatalFailure() || HasNonfatalFailure()) {
      return;
    }
  }
  EXPECT_GT(count, 140U);
}
