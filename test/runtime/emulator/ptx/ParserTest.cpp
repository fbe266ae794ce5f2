//===- ParserTest.cpp - The PTX front end ---------------------------------===//
//
// Every form of the table in every type, the committed kernels, and what the
// parser makes of registers, labels, calls, variables and layouts.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Parser.h"
#include "test/runtime/emulator/ptx/Samples.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

using namespace moert::emulator::ptx;

namespace {

/// The module, or a failure that shows the parser's error.
Module parsed(const std::string &text, DeviceTarget device = {}) {
  auto result = parseModule(text, device);
  if (auto *error = std::get_if<ParseError>(&result)) {
    ADD_FAILURE() << error->str();
    return {};
  }
  return std::get<Module>(std::move(result));
}

const char header[] = ".version 8.5\n.target sm_90a\n.address_size 64\n";

/// A kernel with `body`, with a few registers declared.
Module kernel(const std::string &body, const std::string &parameters = "") {
  return parsed(header + std::string(".visible .entry k(") + parameters +
                ") {\n.reg .pred %p<9>;\n.reg .b32 %r<99>;\n.reg .b64 %rd<9>;\n.reg .f32 %f<9>;\n.reg .f64 %fd<9>;\n" +
                body + "\n}\n");
}

const Instruction &at(const Module &module, size_t i) { return module.functions.back().instructions.at(i); }
const Operand &operand(const Module &module, size_t instruction, unsigned i) {
  return module.functions.back().operand(at(module, instruction), i);
}
const std::string &registerName(const Module &module, const Operand &operand) {
  return module.functions.back().registers.at(operand.index).name;
}

TEST(Table, EveryFormParsesInEveryType) {
  std::vector<Sample> samples = makeSamples();
  std::set<size_t> forms;
  std::string all;
  for (const Sample &sample : samples) {
    forms.insert(sample.form);
    all += sample.text + "\n";
  }
  EXPECT_EQ(forms.size(), allForms().size()) << "a form without a sample";
  Module module = parsed(moduleAround(all, 90, "sm_90a"));
  ASSERT_EQ(module.functions.size(), 1u);
  const Function &function = module.functions[0];
  ASSERT_GE(function.instructions.size(), samples.size());
  for (size_t i = 0; i < samples.size(); ++i) {
    ASSERT_EQ(function.instructions[i].op, allForms()[samples[i].form].form->op) << samples[i].text;
    ASSERT_EQ(function.instructions[i].operandCount, allForms()[samples[i].form].slots.size()) << samples[i].text;
  }
}

TEST(Table, VersionAndTargetAreGates) {
  std::vector<Sample> samples = makeSamples();
  std::set<size_t> seen;
  for (const Sample &sample : samples) {
    if (!seen.insert(sample.form).second) {
      continue;
    }
    std::string target = "sm_" + std::to_string(sample.sm ? sample.sm : 70) + (sample.arch ? "a" : "");
    unsigned version = std::max(sample.ptx, 83u); // registers of 128 bits
    parsed(moduleAround(sample.text, version, target), {90, 'a'});
    auto refused = [&](const std::string &text, const std::string &need) {
      auto result = parseModule(text);
      auto *error = std::get_if<ParseError>(&result);
      ASSERT_TRUE(error) << sample.text;
      EXPECT_NE(error->message.find(need), std::string::npos) << error->str();
    };
    // Where an older form with the same mnemonic exists, there is none of its own to refuse.
    bool older = false;
    for (const Sample &other : samples) {
      older |= other.text == sample.text && other.form != sample.form;
    }
    if (sample.ptx > 83 && !older) {
      refused(moduleAround(sample.text, sample.ptx - 1, target), "needs .version");
    }
    if (sample.sm > 70 && !older) {
      refused(moduleAround(sample.text, version, "sm_70"), "needs .target sm_" + std::to_string(sample.sm));
    }
  }
}

TEST(Kernels, TheCollectionParses) {
  const char *root = std::getenv("MOE_SOURCE_ROOT");
  ASSERT_TRUE(root) << "run by ctest, or with MOE_SOURCE_ROOT=.";
  size_t count = 0;
  for (const auto &entry : std::filesystem::directory_iterator(std::string(root) + "/test/runtime/emulator/kernels")) {
    if (entry.path().extension() != ".ptx") {
      continue;
    }
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    Module module = parsed(text.str());
    uint32_t index = module.findFunction(entry.path().stem().string());
    ASSERT_NE(index, none) << entry.path();
    EXPECT_TRUE(module.functions[index].isKernel && module.functions[index].isDefined) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 72u);
}

TEST(Table, IsWhatTheDocumentSays) {
  const char *root = std::getenv("MOE_SOURCE_ROOT");
  ASSERT_TRUE(root) << "run by ctest, or with MOE_SOURCE_ROOT=.";
  std::ifstream file(std::string(root) + "/docs/ptx-instructions.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), supportTable()) << "run: ptx-check --support > docs/ptx-instructions.md";
}

TEST(Module, HeaderAndTarget) {
  Module module = parsed(".version 7.8\n.target sm_80, debug\n.address_size 64\n");
  EXPECT_EQ(module.target.version, 78);
  EXPECT_EQ(module.target.sm, 80);
  EXPECT_EQ(module.target.suffix, 0);
  EXPECT_TRUE(module.target.debug);
  EXPECT_EQ(parsed(".version 8.0 .target sm_90a").target.suffix, 'a');
}

TEST(Module, TextMayEndInNul) {
  std::string text = header;
  text += '\0';
  parsed(text);
}

TEST(Instructions, GuardRegistersAndModifiers) {
  Module module = kernel("@!%p3 ld.shared.v2.f32 {%f1, %f2}, [%r7+-8];");
  const Instruction &load = at(module, 0);
  EXPECT_EQ(load.op, Opcode::Ld);
  EXPECT_EQ(load.mods.space, Space::Shared);
  EXPECT_EQ(load.mods.vector, 2);
  EXPECT_EQ(load.types[0], Type::F32);
  EXPECT_TRUE(load.guardNegated);
  EXPECT_EQ(module.functions[0].registers[load.guard].name, "%p3");
  const Operand &vector = operand(module, 0, 0);
  ASSERT_EQ(vector.kind, OperandKind::Vector);
  ASSERT_EQ(vector.count, 2u);
  EXPECT_EQ(registerName(module, module.functions[0].elements[vector.index + 1]), "%f2");
  const Operand &address = operand(module, 0, 1);
  EXPECT_EQ(address.base, Base::Register);
  EXPECT_EQ(address.offset, -8);
  EXPECT_EQ(operand(module, 0, 2).kind, OperandKind::None); // no cache policy
  EXPECT_EQ(module.functions[0].registers.size(), 4u);      // only what is used
  EXPECT_EQ(load.location.line, 10u);
  EXPECT_EQ(load.location.column, 7u);
}

TEST(Instructions, ModifiersInAnyOrder) {
  for (const char *text :
       {"atom.add.acquire.gpu.global.u32 %r1, [%rd1], 3;", "atom.acquire.gpu.global.add.u32 %r1, [%rd1], 3;",
        "atom.u32.gpu.add.acquire.global %r1, [%rd1], 3;"}) {
    Module module = kernel(text);
    EXPECT_EQ(at(module, 0).mods.sem, Sem::Acquire);
    EXPECT_EQ(at(module, 0).mods.scope, Scope::Gpu);
    EXPECT_EQ(at(module, 0).mods.space, Space::Global);
    EXPECT_EQ(at(module, 0).mods.reduce, Reduce::Add);
  }
}

TEST(Instructions, Constants) {
  Module module =
      kernel("mov.b32 %r1, -1;\nmov.s64 %rd1, -1;\nadd.f32 %f1, %f2, 0f3F800000;\nadd.f32 %f1, %f2, -1.5;\n"
             "add.f64 %fd1, %fd2, 0d3FF0000000000000;\nadd.f64 %fd1, %fd2, 0f40000000;\nmov.u32 %r1, (3+4)*2 << 1;\n"
             "mov.b32 %r1, 0f3F800000;\nmov.u32 %r1, WARP_SZ-1;\nmov.s32 %r1, -7 / 2;\nmov.u32 %r2, (0b101 | 010);");
  auto bits = [&](size_t i, unsigned o) { return operand(module, i, o).bits; };
  EXPECT_EQ(bits(0, 1), 0xFFFFFFFFu);
  EXPECT_EQ(bits(1, 1), ~uint64_t(0));
  EXPECT_EQ(bits(2, 2), 0x3F800000u);
  EXPECT_EQ(bits(3, 2), 0xBFC00000u);
  EXPECT_EQ(bits(4, 2), 0x3FF0000000000000u);
  EXPECT_EQ(bits(5, 2), 0x4000000000000000u);
  EXPECT_EQ(bits(6, 1), 28u);
  EXPECT_EQ(bits(7, 1), 0x3F800000u);
  EXPECT_EQ(bits(8, 1), 31u);
  EXPECT_EQ(static_cast<int64_t>(bits(9, 1)), -3);
  EXPECT_EQ(bits(10, 1), 13u);
}

TEST(Instructions, OptionalOperandsKeepTheirPlace) {
  Module module = kernel("shfl.sync.down.b32 %r1, %r2, 4, 31, -1;\nshfl.sync.bfly.b32 %r1|%p1, %r2, 4, 31, -1;\n"
                         "setp.lt.and.s32 %p1|_, %r1, 5, !%p2;\nbar.sync 1;\nbar.sync 1, 64;\n"
                         "mbarrier.arrive.shared::cta.b64 _, [%r1];\nbar.red.popc.u32 %r1, 0, !%p1;");
  EXPECT_EQ(at(module, 0).operandCount, 6);
  EXPECT_EQ(operand(module, 0, 1).kind, OperandKind::None);
  EXPECT_EQ(operand(module, 1, 1).kind, OperandKind::Register);
  EXPECT_EQ(operand(module, 0, 5).bits, 0xFFFFFFFFu);
  EXPECT_EQ(operand(module, 2, 1).kind, OperandKind::Sink);
  EXPECT_TRUE(operand(module, 2, 4).negated);
  EXPECT_EQ(operand(module, 3, 1).kind, OperandKind::None);
  EXPECT_EQ(operand(module, 4, 1).bits, 64u);
  EXPECT_EQ(operand(module, 5, 0).kind, OperandKind::Sink);
  EXPECT_EQ(operand(module, 5, 2).kind, OperandKind::None);
  EXPECT_EQ(operand(module, 6, 2).kind, OperandKind::None);
  EXPECT_TRUE(operand(module, 6, 3).negated);
  EXPECT_TRUE(at(module, 3).mods.aligned);
}

TEST(Instructions, AScalarMayStandInBraces) {
  Module module = kernel("ld.global.b32 { %r1 }, [ %rd1 + 0 ];\nst.global.b32 [ %rd1 + 4 ], { %r1 };");
  EXPECT_EQ(operand(module, 0, 0).kind, OperandKind::Register);
  EXPECT_EQ(operand(module, 1, 1).kind, OperandKind::Register);
}

TEST(Instructions, MatricesAndTensors) {
  Module module = kernel(
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%f1,%f2,%f3,%f4,%f5,%f6,%f7,%f8}, %rd1, %rd2, %p1, 1, -1, "
      "0, 1;\n"
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2, 3}], [%r4];\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, "
      "{%f1,%f2,%f3,%f4};");
  EXPECT_EQ(at(module, 0).mods.n, 16);
  EXPECT_EQ(at(module, 0).mods.k, 16);
  EXPECT_EQ(operand(module, 0, 0).count, 8u);
  EXPECT_EQ(static_cast<int64_t>(operand(module, 0, 5).bits), -1);
  EXPECT_EQ(at(module, 1).mods.dims, 2);
  EXPECT_EQ(at(module, 1).mods.completion, Completion::Mbarrier);
  const Operand &tensor = operand(module, 1, 1);
  ASSERT_EQ(tensor.kind, OperandKind::Tensor);
  EXPECT_EQ(module.functions[0].elements[tensor.index].kind, OperandKind::Address);
  const Operand &coordinates = module.functions[0].elements[tensor.index + 1];
  ASSERT_EQ(coordinates.count, 2u);
  EXPECT_EQ(module.functions[0].elements[coordinates.index + 1].bits, 3u);
  EXPECT_EQ(at(module, 2).types[1], Type::BF16);
  EXPECT_EQ(at(module, 2).mods.majorB, Major::Col);
}

TEST(Instructions, UsedBytesMaskHoldsForTheNextOne) {
  Module module = kernel(
      ".pragma \"used_bytes_mask 0xfff\";\nld.global.v4.u32 {%r1,%r2,%r3,_}, [%rd1];\nld.global.u32 %r1, [%rd1];");
  EXPECT_EQ(at(module, 0).usedBytesMask, 0xFFFu);
  EXPECT_EQ(at(module, 1).usedBytesMask, 0u);
}

TEST(Flow, ScopesMayRepeatLabelsAndRegisters) {
  Module module = kernel("{\n.reg .u32 t;\nmov.u32 t, 1;\nL: @%p1 bra L;\n}\n{\n.reg .u32 t;\nmov.u32 t, 2;\nL: @%p1 "
                         "bra L;\n}\nbra OUT;\nOUT:");
  const Function &function = module.functions[0];
  EXPECT_NE(operand(module, 0, 0).index, operand(module, 2, 0).index);
  EXPECT_EQ(function.blocks[operand(module, 1, 0).index].first, 1u);
  EXPECT_EQ(function.blocks[operand(module, 3, 0).index].first, 3u);
  EXPECT_EQ(function.instructions.back().op, Opcode::Ret); // what OUT stands before
}

TEST(Flow, LanesMeetAtThePostDominator) {
  Module module =
      kernel("@%p1 bra ELSE;\nmov.u32 %r1, 1;\nbra JOIN;\nELSE:\nmov.u32 %r1, 2;\nJOIN:\nmov.u32 %r2, %r1;");
  const Function &function = module.functions[0];
  ASSERT_EQ(function.blocks.size(), 4u);
  EXPECT_EQ(function.blocks[0].reconvergence, 3u);
  EXPECT_EQ(function.blocks[1].reconvergence, 3u);
  EXPECT_EQ(function.blocks[3].reconvergence, none);
}

TEST(Flow, EndingThreadsMeetNobody) {
  // if (p1) { if (p2) return; r1 = 1; } join: the lanes that stay meet at the join.
  for (const char *end : {"ret", "exit"}) {
    Module module =
        kernel("@!%p1 bra JOIN;\n@%p2 bra END;\nmov.u32 %r1, 1;\nJOIN:\nbar.sync 0;\nEND:\n" + std::string(end) + ";");
    const Function &function = module.functions[0];
    EXPECT_EQ(function.blocks[function.blocks[0].reconvergence].first, 3u) << end;
    EXPECT_EQ(function.blocks[function.blocks[1].reconvergence].first, 2u) << end;
  }
}

TEST(Flow, PathsToATrapMeetNobody) {
  Module module =
      kernel("@!%p1 bra JOIN;\n@%p2 bra BAD;\nmov.u32 %r1, 1;\nJOIN:\nbar.sync 0;\nret;\nBAD: mov.u32 %r2, 1;\ntrap;");
  const Function &function = module.functions[0];
  EXPECT_EQ(function.blocks[function.blocks[0].reconvergence].first, 3u);
  EXPECT_EQ(function.blocks[function.blocks[1].reconvergence].first, 2u);
}

TEST(Flow, LoopsWithoutExit) {
  Module module = kernel("L:\nadd.u32 %r1, %r1, 1;\n@%p1 bra M;\nadd.u32 %r1, %r1, 2;\nM:\nbra L;");
  EXPECT_EQ(module.functions[0].blocks[module.functions[0].blocks[0].reconvergence].first, 3u);
}

TEST(Flow, LoopsLeftToTheEndOnly) {
  // L: if (!p1) { r1 = 1; } the latch, which stands before its loop's body; it leaves to a bare return.
  Module module = kernel("bra L;\nLATCH:\n@%p2 bra L;\nbra END;\nL:\n@%p1 bra LATCH;\nmov.u32 %r1, 1;\nbra LATCH;\n"
                         "END:\nret;");
  const Function &function = module.functions[0];
  EXPECT_EQ(function.blocks[function.blocks[3].reconvergence].first, 1u);
  EXPECT_EQ(function.blocks[1].reconvergence, none);
}

TEST(Flow, BranchTables) {
  Module module = kernel("T: .branchtargets A, B, A;\nbrx.idx %r1, T;\nA: mov.u32 %r1, 1;\nB: ret;");
  const Function &function = module.functions[0];
  ASSERT_EQ(function.branchTables.size(), 1u);
  EXPECT_EQ(function.branchTables[0], (std::vector<uint32_t>{1, 2, 1}));
  EXPECT_EQ(function.blocks[0].successors.size(), 2u);
}

TEST(Calls, DirectIndirectAndPrototypes) {
  Module module = parsed(header + std::string(R"(
.func (.param .b32 result) f(.param .b64 a, .param .align 8 .b8 s[24]) { st.param.b32 [result], 7; ret; }
.visible .entry k() {
  .reg .b32 %r<4>; .reg .b64 %rd<4>;
  { .param .b64 p0; .param .align 8 .b8 p1[24]; .param .b32 r0;
    st.param.b64 [p0], %rd1;
    call.uni (r0), f, (p0, p1);
    ld.param.b32 %r1, [r0]; }
  mov.u64 %rd2, f;
  { .param .b64 p0; .param .align 8 .b8 p1[24]; .param .b32 r0;
    proto: .callprototype (.param .b32 _) _ (.param .b64 _, .param .align 8 .b8 _[24]);
    call (r0), %rd2, (p0, p1), proto; }
  ret;
})"));
  const Function &k = module.functions[1];
  const Instruction &direct = k.instructions[1];
  ASSERT_EQ(direct.op, Opcode::Call);
  EXPECT_TRUE(direct.mods.uniform);
  EXPECT_EQ(k.operand(direct, 0).kind, OperandKind::Function);
  EXPECT_EQ(k.operand(direct, 2).count, 2u);
  EXPECT_EQ(k.elements[k.operand(direct, 2).index + 1].base, Base::Local);
  const Instruction &indirect = k.instructions[4];
  ASSERT_EQ(indirect.op, Opcode::Call);
  EXPECT_EQ(k.operand(indirect, 0).kind, OperandKind::Register);
  EXPECT_EQ(k.operand(indirect, 3).kind, OperandKind::Prototype);
  EXPECT_EQ(k.locals.size(), 6u);
  EXPECT_TRUE(k.hasIndirectCalls);
  EXPECT_EQ(module.functions[0].operand(module.functions[0].instructions[0], 0).base, Base::Result);
}

TEST(Calls, RecursionIsFound) {
  Module module = parsed(header + std::string(".func g();\n.func f() { call g; ret; }\n.func g() { call f; ret; }\n"
                                              ".entry k() { call f; ret; }"));
  EXPECT_TRUE(module.functions[module.findFunction("f")].isRecursive);
  EXPECT_FALSE(module.functions[module.findFunction("k")].isRecursive);
}

TEST(Variables, InitialisersAndAddresses) {
  Module module = parsed(header + std::string(R"(
.global .align 4 .b8 bytes[6] = {1, 2, -1};
.const .f32 table[2][2] = {{1.0, 2.0}, {0f40400000}};
.global .u64 pointers[2] = {generic(bytes)+4, later};
.global .b8 split[2] = {0xFF(bytes), 0xFF00(bytes)};
.global .u32 later = 5;
.global .f64 sized[] = {1.0, 2.0, 3.0};
.extern .shared .align 16 .b8 dynamic[];
)"));
  const Variable &bytes = module.variables[module.findVariable("bytes")];
  EXPECT_EQ(bytes.size, 6u);
  EXPECT_EQ(bytes.data, (std::vector<uint8_t>{1, 2, 255}));
  const Variable &table = module.variables[module.findVariable("table")];
  ASSERT_EQ(table.data.size(), 12u);
  EXPECT_EQ(table.data[11], 0x40);
  const Variable &pointers = module.variables[module.findVariable("pointers")];
  ASSERT_EQ(pointers.relocations.size(), 2u);
  EXPECT_TRUE(pointers.relocations[0].generic);
  EXPECT_EQ(pointers.relocations[0].addend, 4);
  EXPECT_EQ(pointers.relocations[1].target, module.findVariable("later"));
  EXPECT_EQ(pointers.relocations[1].offset, 8u);
  const Variable &split = module.variables[module.findVariable("split")];
  EXPECT_EQ(split.relocations[1].shift, 8);
  EXPECT_EQ(module.variables[module.findVariable("sized")].size, 24u);
  EXPECT_EQ(module.variables[module.findVariable("dynamic")].size, 0u);
}

TEST(Variables, ParametersAndBounds) {
  Module module =
      parsed(header +
             std::string(".entry k(.param .u32 a, .param .u64 .ptr .global .align 16 b, .param .align 64 .b8 c[128])\n"
                         ".maxntid 128, 2\n.minnctapersm 2\n.reqnctapercluster 2\n{ ret; }"));
  const Function &k = module.functions[0];
  EXPECT_EQ(k.parameters[1].offset, 8u);
  EXPECT_EQ(k.parameters[1].pointerAlign, 16u);
  EXPECT_EQ(k.parameters[2].offset, 64u);
  EXPECT_EQ(k.parameterBytes, 192u);
  EXPECT_EQ(k.bounds.maxntid[0], 128u);
  EXPECT_EQ(k.bounds.maxntid[1], 2u);
  EXPECT_EQ(k.bounds.maxntid[2], 1u);
  EXPECT_EQ(k.bounds.reqnctapercluster[0], 2u);
  EXPECT_EQ(k.bounds.minnctapersm, 2u);
}

TEST(Variables, KernelsOwnWhatTheyReach) {
  Module module = parsed(header + std::string(R"(
.shared .align 4 .b8 a[100];
.shared .align 16 .b8 b[32];
.extern .shared .align 32 .b8 dynamic[];
.func f() { .reg .u32 %r<2>; mov.u32 %r1, b; ret; }
.entry one() { .reg .u32 %r<2>; ld.shared.u32 %r1, [a]; call f; mov.u32 %r1, dynamic; ret; }
.entry two() { .shared .u64 own; .reg .u32 %r<2>; mov.u32 %r1, own; ret; }
)"));
  const Function &one = module.functions[module.findFunction("one")];
  EXPECT_EQ(one.sharedBytes, 144u); // a, 12 bytes of padding, b
  EXPECT_EQ(one.dynamicSharedAlign, 32u);
  ASSERT_EQ(one.shared.size(), 3u);
  EXPECT_EQ(one.shared[1].offset, 112u);
  EXPECT_EQ(one.shared[2].offset, 160u);
  EXPECT_EQ(module.functions[module.findFunction("two")].sharedBytes, 8u);
}

TEST(Debug, IsSkipped) {
  parsed(header +
         std::string(".file 1 \"a.cu\", 1, 2\n.entry k() {\n.loc 1 3 4, function_name $L, inlined_at 1 2 3\nret;\n}\n"
                     ".section .debug_str { $L: .b8 1, 2\n.b32 $L+4 }\n"));
}

} // namespace
