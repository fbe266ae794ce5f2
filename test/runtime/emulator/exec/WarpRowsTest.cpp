//===- WarpRowsTest.cpp - Every row of warp operations, control, addresses -===//
//
// shfl, vote, match, redux, activemask and elect of the instruction table, with
// the whole warp and with a part of it, against the pseudo-code of the PTX ISA
// (9.7.9, 9.7.13); control flow row by row; conversions of addresses between the
// state spaces.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/exec/Rows.h"

#include <algorithm>
#include <map>
#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;
using ptx::Mode;
using ptx::Opcode;
using ptx::Reduce;
using ptx::Slot;

namespace {

struct Lane {
  uint64_t a, b, c, unused;
};

/// The result of one lane; what the instruction does not set stays 77.
struct Result {
  uint32_t d = 77, p = 77;
};

/// `in`: all lanes; `mask`: who executes.
Result expected(const ptx::Instruction &i, const std::vector<Lane> &in, uint32_t mask, unsigned lane) {
  Result r;
  auto word = [&](unsigned l) { return uint32_t(in[l].a); };
  switch (i.op) {
  case Opcode::Shfl: {
    const int b = int(in[lane].b & 31), clamp = int(in[lane].c & 31), segment = int(in[lane].c >> 8 & 31),
              self = int(lane);
    const int most = (self & segment) | (clamp & ~segment), least = self & segment;
    int j = 0;
    bool inside = false;
    switch (i.mods.mode) {
    case Mode::Up:
      j = self - b;
      inside = j >= most;
      break;
    case Mode::Down:
      j = self + b;
      inside = j <= most;
      break;
    case Mode::Bfly:
      j = self ^ b;
      inside = j <= most;
      break;
    default:
      j = least | (b & ~segment);
      inside = j <= most;
      break;
    }
    r.d = word(unsigned(inside ? j : self));
    r.p = inside;
    break;
  }
  case Opcode::Vote: {
    uint32_t yes = 0;
    for (unsigned l = 0; l < 32; ++l) {
      yes |= uint32_t((mask >> l & 1) && (in[l].a & 1)) << l;
    }
    (i.mods.mode == Mode::Ballot ? r.d : r.p) = i.mods.mode == Mode::Ballot ? yes
                                                : i.mods.mode == Mode::All  ? yes == mask
                                                : i.mods.mode == Mode::Any  ? yes != 0
                                                                            : yes == mask || yes == 0;
    break;
  }
  case Opcode::Match: {
    const bool wide = i.types[0] == ptx::Type::B64;
    uint32_t same = 0;
    for (unsigned l = 0; l < 32; ++l) {
      same |= uint32_t((mask >> l & 1) && (wide ? in[l].a == in[lane].a : word(l) == word(lane))) << l;
    }
    r.d = i.mods.mode == Mode::Any ? same : same == mask ? mask : 0;
    r.p = i.mods.mode == Mode::Any ? 77 : same == mask;
    break;
  }
  case Opcode::Redux: {
    const bool isSigned = ptx::isSigned(i.types[0]);
    bool first = true;
    int64_t v = 0;
    for (unsigned l = 0; l < 32; ++l) {
      if (!(mask >> l & 1)) {
        continue;
      }
      const int64_t x = isSigned ? int64_t(int32_t(word(l))) : int64_t(word(l));
      switch (i.mods.reduce) {
      case Reduce::Add:
        v = first ? x : v + x;
        break;
      case Reduce::Min:
        v = first ? x : std::min(v, x);
        break;
      case Reduce::Max:
        v = first ? x : std::max(v, x);
        break;
      case Reduce::And:
        v = first ? x : v & x;
        break;
      case Reduce::Or:
        v = first ? x : v | x;
        break;
      default:
        v = first ? x : v ^ x;
        break;
      }
      first = false;
    }
    r.d = uint32_t(v);
    break;
  }
  case Opcode::Activemask:
    r.d = mask;
    break;
  default: // elect.sync: the lowest lane
    r.d = uint32_t(__builtin_ctz(mask));
    r.p = lane == r.d;
    break;
  }
  return r;
}

void checkWarp(const Row &row, uint32_t mask, bool equal) {
  const ptx::Instruction &i = row.instruction;
  std::string operands;
  unsigned source = 0;
  const unsigned sources = unsigned(std::count_if(row.form->slots.begin(), row.form->slots.end(),
                                                  [](const Slot &s) { return s.kind == Slot::Kind::Source; }));
  for (const Slot &slot : row.form->slots) {
    operands += operands.empty() ? " " : slot.paired ? "|" : ", ";
    if (slot.kind == Slot::Kind::Destination) {
      operands += i.types[0] == ptx::Type::Pred ? "%p1" : "%d";
    } else if (slot.kind == Slot::Kind::PredicateDestination) {
      operands += "%p1";
    } else if (slot.kind == Slot::Kind::PredicateSource) {
      operands += "%p2";
    } else if (++source == sources) {
      operands += "%mask";
    } else {
      const bool wide = source == 1 && i.types[0] == ptx::Type::B64;
      operands += wide ? "%rd4" : "%s" + std::to_string(source);
    }
  }
  const std::string text = kernel(".param .u64 in, .param .u64 out, .param .u32 mask",
                                  R"(
  .reg .b32 %r<8>, %s<8>, %d, %mask; .reg .b64 %rd<8>; .reg .pred %p<4>, %g;
  ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out]; ld.param.u32 %mask, [mask];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 32; add.u64 %rd1, %rd1, %rd3;
  mul.wide.u32 %rd3, %r1, 8; add.u64 %rd2, %rd2, %rd3;
  ld.global.u64 %rd4, [%rd1]; cvt.u32.u64 %s1, %rd4;
  ld.global.u32 %s2, [%rd1+8]; ld.global.u32 %s3, [%rd1+16];
  and.b32 %r2, %s1, 1; setp.ne.u32 %p2, %r2, 0;
  shr.u32 %r3, %mask, %r1; and.b32 %r3, %r3, 1; setp.ne.u32 %g, %r3, 0;
  mov.u32 %d, 77; mov.u32 %r4, 77;
  setp.ne.u32 %p1, %r1, %r1;
  @!%g bra END;
  )" + row.mnemonic + operands + ";\n" +
                                      (operands.find("%p1") != std::string::npos ? "selp.u32 %r4, 1, 0, %p1;\n" : "") +
                                      R"(
END:
  st.global.v2.u32 [%rd2], {%d, %r4};
  ret;)");
  std::mt19937_64 random(9);
  std::vector<Lane> in(32);
  for (Lane &l : in) {
    // Few values, so that some match; the segment masks of shfl are contiguous from above.
    const uint64_t segments[] = {0, 16, 24, 28, 30};
    l = {equal ? 5 : random() % 3 * 0x8000000100000001, mask == ~0U ? random() % 32 : 0,
         segments[random() % 5] << 8 | (random() % 2 ? 31 : 0), 0};
  }
  Device device;
  ASSERT_TRUE(device.load(text)) << text;
  const uint64_t pin = device.upload(in), pout = device.upload(std::vector<uint32_t>(64));
  ASSERT_EQ(device.run({1, 1, 1}, {32, 1, 1}, pin, pout, mask), LaunchError::None) << device.findings();
  EXPECT_EQ(device.findings(), "");
  const std::vector<uint32_t> got = device.download<uint32_t>(pout, 64);
  for (unsigned l = 0; l < 32; ++l) {
    const Result want = mask >> l & 1 ? expected(i, in, mask, l) : Result();
    ASSERT_EQ(got[l * 2], want.d) << "lane " << l;
    ASSERT_EQ(got[l * 2 + 1], want.p) << "lane " << l;
  }
}

/// One value per thread from a kernel without input.
std::vector<uint32_t> valuesOf(const std::string &body, unsigned threads, LaunchError error = LaunchError::None,
                               const std::string &before = "", Dim3 cluster = {1, 1, 1}) {
  Device device;
  device.config.cluster = cluster;
  const std::string text = kernel(".param .u64 out", R"(
  .reg .b32 %r<16>; .reg .b64 %rd<16>; .reg .pred %p<8>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mad.lo.u32 %r2, %r2, %r3, %r1;
  mul.wide.u32 %rd2, %r2, 4; add.u64 %rd1, %rd1, %rd2;
)" + body,
                                  before);
  if (!device.load(text)) {
    ADD_FAILURE() << text;
    return {};
  }
  const uint64_t out = device.upload(std::vector<uint32_t>(threads * cluster.x));
  EXPECT_EQ(device.run({cluster.x, 1, 1}, {threads, 1, 1}, out), error) << device.findings();
  if (error == LaunchError::None) {
    EXPECT_EQ(device.findings(), "") << text;
  }
  return device.download<uint32_t>(out, threads * cluster.x);
}
} // namespace

TEST(WarpRows, EqualThePseudoCode) {
  unsigned count = 0;
  for (const Row &row : rowsOf(opcodesOf(Family::Warp), true)) {
    SCOPED_TRACE(row.mnemonic);
    for (uint32_t mask : {~0U, 0x0FF0F00EU, 0x80000000U}) {
      for (bool equal : {false, true}) {
        if (mask != ~0U && row.instruction.op == Opcode::Shfl) {
          continue; // its sources would lie outside of the mask
        }
        checkWarp(row, mask, equal);
      }
    }
    ++count;
    if (HasFatalFailure()) {
      return;
    }
  }
  EXPECT_EQ(count, 23U);
}

TEST(ControlRows, EachDoesWhatItsNameSays) {
  const std::string store = "st.global.u32 [%rd1], %r5; ";
  // A body for each row, what a thread of 64 stores, and how the launch ends.
  struct Case {
    std::string body;
    std::function<uint32_t(unsigned)> value;
    LaunchError error = LaunchError::None;
  };
  auto seven = [](unsigned) { return 7U; };
  const std::string hint = "mov.u32 %r5, 7; @; " + store + "ret;";
  const std::map<Opcode, Case> cases = {
      {Opcode::Bra, {"mov.u32 %r5, 7; @ OVER; mov.u32 %r5, 8; OVER: " + store + "ret;", seven}},
      {Opcode::BrxIdx,
       {"targets: .branchtargets L0, L1, L2; shr.u32 %r4, %r1, 5; @ %r4, targets; L0: mov.u32 %r5, 10; bra END; "
        "L1: mov.u32 %r5, 11; bra END; L2: mov.u32 %r5, 12; END: " +
            store + "ret;",
        [](unsigned t) { return 10 + t / 32; }}},
      {Opcode::Ret, {"mov.u32 %r5, 7; " + store + "mov.u32 %r5, 8; @; " + store + "ret;", seven}},
      {Opcode::Exit, {"mov.u32 %r5, 7; " + store + "mov.u32 %r5, 8; @; " + store + "ret;", seven}},
      {Opcode::Trap, {"@; ret;", seven, LaunchError::Trap}},
      {Opcode::Brkpt, {"@; ret;", seven, LaunchError::Trap}},
      {Opcode::Nanosleep, {"mov.u32 %r5, 7; @ 20; " + store + "ret;", seven}},
      {Opcode::Pmevent, {"mov.u32 %r5, 7; @ 3; " + store + "ret;", seven}},
      {Opcode::Setmaxnreg, {"mov.u32 %r5, 7; @ 64; " + store + "ret;", seven}},
      {Opcode::Griddepcontrol, {hint, seven}},
  };
  for (const Row &row : rowsOf(opcodesOf(Family::Control), true)) {
    SCOPED_TRACE(row.mnemonic);
    const auto found = cases.find(row.instruction.op);
    ASSERT_NE(found, cases.end());
    std::string body = found->second.body;
    for (size_t at = body.find('@'); at != std::string::npos; at = body.find('@')) {
      body.replace(at, 1, row.mnemonic);
    }
    const bool group = row.instruction.op == Opcode::Setmaxnreg; // a warpgroup executes it
    const unsigned threads = group ? 128 : 64;
    const std::vector<uint32_t> got = valuesOf(body, threads, found->second.error);
    for (unsigned t = 0; t < threads && found->second.error == LaunchError::None; ++t) {
      ASSERT_EQ(got[t], found->second.value(t)) << t;
    }
  }
}

TEST(AddressRows, CvtaReachesTheSameBytes) {
  const std::string before = ".global .align 4 .u32 inGlobal = 21;\n.const .align 4 .u32 inConst = 22;\n";
  struct Place {
    const char *space, *variable, *load;
    uint32_t value;
  };
  const std::map<std::string, Place> places = {
      {"global", {"global", "inGlobal", "ld.global", 21}},
      {"const", {"const", "inConst", "ld.const", 22}},
      {"shared", {"shared", "s", "ld.shared", 23}},
      {"shared::cta", {"shared", "s", "ld.shared::cta", 23}},
      {"shared::cluster", {"shared", "s", "ld.shared::cluster", 23}},
      {"local", {"local", "own", "ld.local", 24}},
  };
  unsigned count = 0;
  for (const Row &row : rowsOf({Opcode::Cvta})) {
    SCOPED_TRACE(row.mnemonic);
    const std::string words = row.mnemonic.substr(5, row.mnemonic.size() - 5 - 4);
    const bool to = words.compare(0, 3, "to.") == 0;
    const std::string space = to ? words.substr(3) : words;
    ++count;
    const std::string fill =
        ".shared .align 4 .u32 s; .local .align 4 .u32 own; mov.u32 %r4, 23; mov.u32 %r6, 24; st.shared.u32 [s], %r4; "
        "st.local.u32 [own], %r6;\n";
    if (space.compare(0, 5, "param") == 0) {
      // The kernel's own parameter: its first word is the lower half of the output's address.
      const std::string there =
          to ? "cvta.param.u64 %rd4, %rd3; " + row.mnemonic + " %rd5, %rd4; ld.param.u64 %rd6, [%rd5];"
             : row.mnemonic + " %rd4, %rd3; ld.u64 %rd6, [%rd4];";
      const auto got = valuesOf("mov.b64 %rd3, out; " + there +
                                    " ld.param.u64 %rd7, [out]; setp.eq.u64 %p1, %rd6, %rd7; selp.u32 %r5, 1, 0, %p1; "
                                    "st.global.u32 [%rd1], %r5; ret;",
                                1);
      EXPECT_EQ(got[0], 1U);
      continue;
    }
    ASSERT_TRUE(places.count(space));
    const Place &place = places.at(space);
    const std::string there = to ? std::string("cvta.") + place.space + ".u64 %rd4, %rd3; " + row.mnemonic +
                                       " %rd5, %rd4; " + place.load + ".u32 %r5, [%rd5];"
                                 : row.mnemonic + " %rd4, %rd3; ld.u32 %r5, [%rd4];";
    const auto got =
        valuesOf(fill + "mov.u64 %rd3, " + place.variable + "; " + there + " st.global.u32 [%rd1], %r5; ret;", 1,
                 LaunchError::None, before);
    EXPECT_EQ(got[0], place.value);
  }
  EXPECT_EQ(count, 16U);
}

TEST(AddressRows, IsspacepKnowsEachSpace) {
  const std::string before = ".global .align 4 .u32 inGlobal = 21;\n.const .align 4 .u32 inConst = 22;\n";
  // Generic addresses of a variable in each space: bits of the answer in this order.
  const char *const spaces[] = {"global", "const", "shared", "local", "param"};
  const char *const variables[] = {"inGlobal", "inConst", "s", "own", "out"};
  for (const Row &row : rowsOf({Opcode::Isspacep})) {
    SCOPED_TRACE(row.mnemonic);
    std::string space = row.mnemonic.substr(9);
    space = space.substr(0, space.find("::"));
    std::string body = ".shared .align 4 .u32 s; .local .align 4 .u32 own; mov.u32 %r5, 0;\n";
    uint32_t want = 0;
    for (unsigned k = 0; k < 5; ++k) {
      body += std::string("mov.u64 %rd3, ") + variables[k] + "; cvta." + spaces[k] + ".u64 %rd4, %rd3; " +
              row.mnemonic + " %p1, %rd4; selp.u32 %r4, " + std::to_string(1 << k) +
              ", 0, %p1; or.b32 %r5, %r5, %r4;\n";
      want |= uint32_t(space == spaces[k]) << k;
    }
    const auto got = valuesOf(body + "st.global.u32 [%rd1], %r5; ret;", 1, LaunchError::None, before);
    // Constants and parameters of kernels lie in global memory here; a card may say so too.
    EXPECT_EQ(got[0] & (space == "global" ? ~(2U | 16U) : ~0U), want);
  }
}

TEST(AddressRows, MapaAndGetctarank) {
  for (const Row &row : rowsOf({Opcode::Mapa, Opcode::Getctarank})) {
    SCOPED_TRACE(row.mnemonic);
    const bool small = row.instruction.types[0] == ptx::Type::U32,
               generic = row.mnemonic.find("shared") == std::string::npos;
    const std::string type = small ? ".u32" : ".u64", a = small ? "%r6" : "%rd3", b = small ? "%r7" : "%rd4",
                      space = generic ? "" : ".shared::cluster";
    const std::string mapa = row.instruction.op == Opcode::Mapa ? row.mnemonic : "mapa" + space + type;
    const std::string rank = row.instruction.op == Opcode::Getctarank ? row.mnemonic : "getctarank" + space + type;
    // Each block leaves its number in its shared memory and reads that of the other through the mapped address.
    const auto got = valuesOf(
        ".shared .align 4 .u32 s; mov.u32 %r4, %cluster_ctarank; add.u32 %r5, %r4, 50; st.shared.u32 [s], %r5;\n"
        "mov" +
            type + " " + a + ", s;\n" + (generic ? "cvta.shared.u64 %rd3, %rd3;\n" : "") +
            "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;\n"
            "xor.b32 %r8, %r4, 1; " +
            mapa + " " + b + ", " + a + ", %r8;\n" + "ld" + space + ".u32 %r9, [" + b + "]; " + rank + " %r10, " + b +
            ";\n"
            "mad.lo.u32 %r9, %r10, 1000, %r9; st.global.u32 [%rd1], %r9;\n"
            "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned; ret;",
        1, LaunchError::None, "", {2, 1, 1});
    EXPECT_EQ(got, (std::vector<uint32_t>{1051, 50}));
  }
}

TEST(AddressRows, TheOthersAreThoseOfTheStackTest) {
  std::string all;
  for (const Row &row : rowsOf({Opcode::Alloca, Opcode::Stacksave, Opcode::Stackrestore})) {
    all += row.mnemonic + " ";
  }
  EXPECT_EQ(all, "alloca.u64 stacksave.u64 stackrestore.u64 ");
}

TEST(Rows, EveryOpcodeHasAFamily) {
  for (const ptx::CompiledForm &form : ptx::allForms()) {
    EXPECT_NE(familyOf(form.form->op), Family::None) << form.form->mnemonic;
  }
}
