//===- ErrorTest.cpp - What the PTX front end refuses ---------------------===//
//
// Texts with one mistake each: the message, the line and the column.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Parser.h"

#include <gtest/gtest.h>

using namespace moert::emulator::ptx;

namespace {

ParseError errorOf(const std::string &text, DeviceTarget device = {}) {
  auto result = parseModule(text, device);
  auto *error = std::get_if<ParseError>(&result);
  return error ? *error : ParseError{0, 0, "", "no error"};
}

const char header[] = ".version 8.5\n.target sm_90a\n.address_size 64\n";

/// `body` stands in line 6 of the text.
ParseError inKernel(const std::string &body) {
  return errorOf(
      header +
      std::string(
          ".entry k(.param .u64 a) { .shared .b32 s; .global .b32 g;\n"
          ".reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %d<9>; .reg .f32 %f<9>; .reg .u32 %u<9>;\n") +
      body + "\n}\n");
}

struct Case {
  const char *body;
  uint32_t column;
  const char *message;
};

class Instructions : public testing::TestWithParam<Case> {};

TEST_P(Instructions, SayWhatIsWrongAndWhere) {
  ParseError error = inKernel(GetParam().body);
  EXPECT_EQ(error.message, GetParam().message);
  EXPECT_EQ(error.line, 6u);
  EXPECT_EQ(error.column, GetParam().column);
  EXPECT_EQ(error.text, std::string(GetParam().body).substr(0, std::string(GetParam().body).find('\n')));
}

INSTANTIATE_TEST_SUITE_P(
    All, Instructions,
    testing::Values(
        Case{"frobnicate.u32 %r1;", 1, "unknown instruction 'frobnicate.u32'"},
        Case{"add.u31 %r1, %r2, %r3;", 1,
             "unknown form 'add.u31': '.u31' does not fit here; the nearest known one is `add "
             "T=u16,u32,u64,s16,s32,s64`"},
        Case{"mul.rn.lo.u32 %r1, %r2, %r3;", 1,
             "unknown form 'mul.rn.lo.u32': '.lo' does not fit here; the nearest known one is `mul <rnd>? ftz? sat? "
             "T=f32`"},
        Case{"fma.f32 %f1, %f2, %f3, %f4;", 1,
             "unknown form 'fma.f32': a type or modifier is missing; the nearest known one is `fma <rnd> ftz? sat? "
             "T=f32`"},
        Case{"add.u32 %r1, %r2;", 1, "'add.u32' takes other operands than the 2 here: `d s s`"},
        Case{"add.u32 %r1, %r2, %r3, %r4;", 1, "'add.u32' takes other operands than the 4 here: `d s s`"},
        Case{"  add.u32 %d1, %r2, %r3;", 11, "operand '%d1' is .b64, 'add.u32' needs .u32 here"},
        Case{"add.f32 %f1, %u2, %f3;", 14, "operand '%u2' is .u32, 'add.f32' needs .f32 here"},
        Case{"add.u32 %p1, %r2, %r3;", 9, "operand '%p1' is .pred, 'add.u32' needs .u32 here"},
        Case{"add.u32 %r1, %r2, %r10;", 19, "unknown name '%r10'"},
        Case{"add.u32 %r1, %r2, %tid.x;", 19, "special register '%tid.x' can only be the source of mov"},
        Case{"mov.u32 %r1, %tid.w;", 14, "unknown name '%tid.w'"},
        Case{"add.f32 %f1, %f2, 1;", 19, "a .f32 operand needs a floating-point constant, such as 1.0 or 0f3F800000"},
        Case{"add.u32 %r1, %r2, 1.5;", 19, "a floating-point constant does not fit a .u32 operand"},
        Case{"add.f32 %f1, %f2, 0f3F8;", 19, "'0f3F8' needs exactly 8 hexadecimal digits"},
        Case{"mov.u32 %r1, 18446744073709551616;", 14, "integer '18446744073709551616' does not fit in 64 bits"},
        Case{"mov.u32 %r1, 09;", 14, "'09' is no number"},
        Case{"mov.u32 %r1, 1/0;", 15, "division by zero in a constant expression"},
        Case{"cvt.s32.f32 %r1, %f1;", 1, "'cvt.s32.f32' needs a rounding to an integer, such as .rzi"},
        Case{"cvt.f32.s32 %f1, %r1;", 1, "'cvt.f32.s32' needs a rounding, such as .rn"},
        Case{"cvt.sat.u32.u16 %r1, %h1;", 1,
             "'cvt.sat.u32.u16': .sat has nothing to clamp, .u32 holds every value of .u16"},
        Case{"setp.lo.s32 %p1, %r1, %r2;", 1, "'setp.lo.s32': this comparison does not exist for .s32"},
        Case{"setp.lt.f16 %p1|%p2, %h1, %h2;", 1,
             "'setp.lt.f16' has one predicate result; only the packed forms have two"},
        Case{"ld.global.v4.u64 {%d1, %d2, %d3, %d4}, [%d5];", 1,
             "'ld.global.v4.u64' moves 32 bytes; up to sm_90 an access has at most 16"},
        Case{"ld.global.v2.u32 {%r1, %r2, %r3}, [%d5];", 18, "the vector has 3 elements, 'ld.global.v2.u32' needs 2"},
        Case{"ld.global.v2.u32 %r1, [%d5];", 18, "'ld.global.v2.u32' needs a vector of 2 in braces here"},
        Case{"ld.global.u32 %r1, %d5;", 20, "'ld.global.u32' needs an [address] here"},
        Case{"ld.global.u32 %r1, [s];", 20, "'s' is in .shared, 'ld.global.u32' accesses .global"},
        Case{"ld.global.u32 %r1, [%f1];", 20, "'%f1' is .f32; an address needs an integer register of 32 or 64 bits"},
        Case{"st.const.u32 [%d1], %r1;", 1,
             "unknown form 'st.const.u32': '.const' does not fit here; the nearest known one is `st weak? "
             "global|local|param|param::func|shared|shared::cta|shared::cluster? wb|cg|cs|wt? <evict1>? "
             "L2::cache_hint? <vec>? "
             "T=b8,b16,b32,b64,u8,u16,u32,u64,s8,s16,s32,s64,f32,f64`"},
        Case{"ld.global.L2::cache_hint.u32 %r1, [%d1];", 1,
             "'ld.global.L2::cache_hint.u32' takes other operands than the 2 here: `dV~> m pol`"},
        Case{"cp.async.cg.shared.global [%r1], [%d1], 8;", 1,
             "'cp.async.cg.shared.global' copies 8 bytes; .cg takes 16"},
        Case{"setmaxnreg.inc.sync.aligned.u32 100;", 1,
             "'setmaxnreg.inc.sync.aligned.u32' needs a multiple of 8 from 24 to 256, not 100"},
        Case{"bar.sync 16;", 1, "'bar.sync': barrier 16 does not exist; there are 0 to 15"},
        Case{"bar.sync 1, 33;", 1, "'bar.sync': the number of threads must be a multiple of 32, not 33"},
        Case{"mbarrier.arrive.release.b64 %d1, [%d2];", 1,
             "'mbarrier.arrive.release.b64' has an order without a scope such as .cta"},
        Case{"mbarrier.arrive.shared::cluster.b64 %d1, [%r2];", 37,
             "'mbarrier.arrive.shared::cluster.b64' gives no result on .shared::cluster: write '_'"},
        Case{"wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1,%f2,%f3,%f4}, %d1, %d2, %p1, 2, 1, 0, 0;", 1,
             "'wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16': operand 5 must be 1 or -1, not 2"},
        Case{"wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%f1}, %d1, %d2, %p1, 1, 1, 0, 0;", 1,
             "unknown form 'wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16': '.m64n12k16' does not fit here; the "
             "nearest "
             "known one is `wgmma mma_async sync aligned <m64k16> T=f16,f32 T=f16 T=f16`"},
        Case{"@%r1 ret;", 2, "'%r1' is no predicate register"},
        Case{"@%p1 bra nowhere;", 10, "label 'nowhere' is not defined in this scope"},
        Case{"{ L: } bra L;", 12, "label 'L' is not defined in this scope"},
        Case{"L: L: ret;", 4, "label 'L' stands twice in one scope"},
        Case{"brx.idx %r1, L;", 14, "'brx.idx' needs the name of a .branchtargets list here"},
        Case{"call f, (%r1);", 6, "call of 'f', which is not declared; declare it with .func before"},
        Case{"call k;", 6, "'k' is a kernel; only .func can be called"},
        Case{".reg .b32 %r<3>;", 11, "registers '%r' are declared twice in one scope"},
        Case{".reg .tf32 x;", 6, "expected the type of a register, such as .b32, found '.tf32'"},
        Case{".local .align 3 .b8 x[4];", 8, "alignment 3 is not a power of two"},
        Case{".local .b32 x[];", 13,
             "'x' needs a size: only extern variables, parameters and those with an initialiser may leave it out"},
        Case{".local .b32 x = 1;", 15, "expected ';': only .global and .const variables have initialisers, found '='"},
        Case{".pragma \"turbo\";", 9, "unknown pragma \"turbo\""},
        Case{".frob 1;", 1, "unknown directive '.frob' in a function"},
        Case{"tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [a, {%f1,%f2}];", 1, "unknown instruction 'tex.2d.v4.f32.f32'"}));

TEST(Modules, SayWhatIsWrongAndWhere) {
  EXPECT_EQ(errorOf("").message, "expected .version at the start of the module, found 'end of the text'");
  EXPECT_EQ(errorOf(".version 8\n").message, "expected a version such as 8.0, found '8'");
  EXPECT_EQ(errorOf(".version 8.0 .target sm_x").message, "unknown target 'sm_x'");
  EXPECT_EQ(errorOf(".version 8.6 .target sm_100a").message, "the module is for sm_100a, the device is sm_90a");
  EXPECT_EQ(errorOf(".version 8.0 .target sm_90a", {90, 0}).message, "the module is for sm_90a, the device is sm_90");
  EXPECT_EQ(errorOf(".version 8.0 .target sm_80 .address_size 32").message, ".address_size must be 64, not 32");
  EXPECT_EQ(errorOf(header + std::string(".tex .u64 t;")).message, "unknown directive '.tex' at module level");
  EXPECT_EQ(errorOf(header + std::string(".global .u32 x;\n.global .u32 x;")).message,
            "'x' is declared twice; first in line 4");
  EXPECT_EQ(errorOf(header + std::string(".global .u64 x = y;")).message, "unknown name 'y' in an initialiser");
  EXPECT_EQ(errorOf(header + std::string(".global .u16 x = x;")).message, "an address does not fit in .u16");
  EXPECT_EQ(errorOf(header + std::string(".global .u32 x[2] = {1,2,3};")).message,
            "expected '}': the initialiser of 'x' has more than 2 values, found '3'");
  EXPECT_EQ(errorOf(header + std::string(".entry k(.param .b8 a[40000]) { ret; }")).message,
            "parameters of 'k' take 40000 bytes, the limit is 32764");
  EXPECT_EQ(errorOf(header + std::string(".entry k() { ret; }\n.entry k() { ret; }")).message,
            "'k' is defined twice; first in line 4");
  EXPECT_EQ(errorOf(header + std::string(".entry k() { ret;")).message,
            "expected '}' to close the body of 'k', found 'end of the text'");
  EXPECT_EQ(
      errorOf(header + std::string(".func f(.param .b32 a);\n.entry k() { .param .b64 p; call f, (p); }")).message,
      "'p' has 8 bytes, the callee's parameter has 4");
  EXPECT_EQ(errorOf(header + std::string("/* never closed")).message, "comment without end: '*/' is missing");
  EXPECT_EQ(errorOf(header + std::string("\x01")).message, "unexpected byte 1");
  EXPECT_EQ(errorOf(header + std::string(".global .u8 x[1099511627776][2];")).message,
            "variable 'x' is larger than 2^40 bytes");
}

TEST(Modules, GatesNameBothSides) {
  auto text = [](const char *version, const char *target, const char *body) {
    return ".version " + std::string(version) + "\n.target " + target +
           "\n.address_size 64\n.entry k() { .reg .b32 %r<9>; .reg .b64 %d<9>;\n" + body + "\n}";
  };
  EXPECT_EQ(errorOf(text("6.0", "sm_80", "redux.sync.add.u32 %r1, %r2, -1;")).message,
            "'redux.sync.add.u32' needs .version 7.0, the module says 6.0");
  EXPECT_EQ(errorOf(text("8.0", "sm_75", "redux.sync.add.u32 %r1, %r2, -1;")).message,
            "'redux.sync.add.u32' needs .target sm_80, the module says sm_75");
  EXPECT_EQ(errorOf(text("8.0", "sm_90", "wgmma.fence.sync.aligned;")).message,
            "'wgmma.fence.sync.aligned' needs .target sm_90a, the module says sm_90");
  EXPECT_EQ(errorOf(text("8.0", "sm_80", "ld.shared::cluster.u32 %r1, [%r2];")).message,
            "'ld.shared::cluster.u32' needs .target sm_90, the module says sm_80");
}

TEST(Modules, GatesOfModifiersAndSpecialRegisters) {
  const struct {
    const char *version, *target, *least, *body; ///< `least`: the .version, or the .target, from which on it is known
  } cases[] = {
      {"7.3", "sm_80", "7.4", "ld.global.L1::no_allocate.b32 %r1, [%d1];"},
      {"7.3", "sm_80", "7.4", "st.global.L1::evict_first.b32 [%d1], %r1;"},
      {"7.4", "sm_60", "sm_70", "ld.global.L1::no_allocate.b32 %r1, [%d1];"},
      {"7.7", "sm_80", "7.8", "ld.shared::cta.b32 %r1, [%r2];"},
      {"7.8", "sm_90", "8.0", "barrier.cluster.arrive.release;"},
      {"4.3", "sm_60", "5.0", "atom.global.gpu.add.u32 %r1, [%d1], 1;"},
      {"5.0", "sm_52", "sm_60", "red.global.sys.add.u32 [%d1], 1;"},
      {"6.0", "sm_60", "sm_70", "atom.relaxed.gpu.global.add.u32 %r1, [%d1], 1;"},
      {"7.7", "sm_90", "7.8", "mov.u32 %r1, %cluster_ctarank;"},
      {"7.8", "sm_80", "sm_90", "mov.u32 %r1, %cluster_ctarank;"},
      {"8.0", "sm_90", "8.1", "mov.u32 %r1, %aggr_smem_size;"},
      {"7.5", "sm_80", "7.6", "mov.u32 %r1, %reserved_smem_offset_0;"},
  };
  for (const auto &[version, target, least, body] : cases) {
    auto text = [body = body](std::string says, std::string of) {
      return ".version " + says + "\n.target " + of +
             "\n.address_size 64\n.entry k() { .reg .b32 %r<9>; .reg .b64 %d<9>;\n" + body + "\nret; }";
    };
    EXPECT_NE(errorOf(text(version, target)).message.find(least), std::string::npos) << body;
    const bool ofTarget = least[0] == 's';
    auto parsed = parseModule(text(ofTarget ? version : least, ofTarget ? least : target));
    EXPECT_TRUE(std::holds_alternative<Module>(parsed)) << body;
  }
  // A register may have the name of a special register, and hides it.
  auto named = [](const char *name, const char *body) {
    return ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() { .reg .b32 %r<9>; .reg .b32 " +
           std::string(name) + ";\n" + body + "\nret; }";
  };
  EXPECT_NE(errorOf(named("%tid", "mov.u32 %r1, %tid.x;")).message.find("'%tid' is a register"), std::string::npos);
  EXPECT_EQ(errorOf(named("%tid", "mov.u32 %r1, %tid;")).message, "no error");
  EXPECT_EQ(errorOf(named("%laneid", "mov.u32 %r1, %laneid;")).message, "no error");
  EXPECT_EQ(errorOf(named("%ntid", "mov.u32 %r1, %tid.x;")).message, "no error");
  // Copies take the longer name since cp.async is there.
  auto parsed = parseModule(".version 7.0\n.target sm_80\n.address_size 64\n.entry k() { .reg .b32 %r<9>; .reg .b64 "
                            "%d<9>;\ncp.async.ca.shared::cta.global [%r1], [%d1], 4;\nret; }");
  EXPECT_TRUE(std::holds_alternative<Module>(parsed));
}

TEST(Errors, AMissingSemicolonIsFoundBehindIt) {
  ParseError error = inKernel("add.u32 %r1, %r2, %r3");
  EXPECT_EQ(error.message, "expected ',' between operands, found '}'");
  EXPECT_EQ(error.line, 7u);
}

TEST(Errors, ShowTheLine) { EXPECT_EQ(inKernel("add.u31 %r1, %r1, 1;").str().substr(0, 20), "6:1: unknown form 'a"); }

TEST(Errors, DeepNestingIsRefused) {
  std::string deep(100000, '(');
  EXPECT_EQ(inKernel("mov.u32 %r1, " + deep + "1;").message, "expression nested too deeply");
  EXPECT_EQ(inKernel("mov.u32 %r1, " + std::string(100000, '-') + "1;").message, "expression nested too deeply");
}

} // namespace
