//===- emulator.cpp - How fast the PTX emulator runs on one core -----------===//
//
// Converged integer and f32 code, coalesced memory, mma.sync and wgmma, each with
// checks off and on. Prints one line of JSON per figure: median of five runs, in
// thread-instructions or floating-point operations per second of processor time.
// One host thread.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Launch.h"
#include "runtime/emulator/ptx/Parser.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <variant>
#include <vector>

using namespace moert::emulator;

namespace {
struct Figure {
  const char *name;
  const char *unit;
  std::string body;    ///< of the kernel; %r1 counts down from the parameter n
  double perIteration; ///< operations of one thread (or warp, for matrices) and iteration
  bool perWarp;
};

std::string repeated(unsigned times, const std::string &text) {
  std::string out;
  for (unsigned i = 0; i < times; ++i) {
    out += text;
  }
  return out;
}

/// Seconds of one launch, or a negative number after a message.
double run(const Figure &figure, bool checks, uint32_t blocks, uint32_t iterations, bool &ok) {
  std::string text =
      ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 p, .param .u32 n)\n{\n"
      ".reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .f32 %f<160>; .reg .pred %p<4>; .reg .b32 %h<16>;\n"
      ".shared .align 1024 .b8 s[65536];\n"
      "ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [n]; mov.u32 %r2, %tid.x; mov.u32 %r9, %ctaid.x;\n"
      "mov.u32 %r10, %ntid.x; mad.lo.u32 %r11, %r9, %r10, %r2; mul.wide.u32 %rd2, %r11, 4;\n"
      "add.u64 %rd1, %rd1, %rd2; mov.u32 %r3, 3; mov.u32 %r4, 5; mov.f32 %f1, 0f3F800000;\n"
      "mov.f32 %f2, 0f3F000000; mov.b32 %h0, 0; mov.b32 %h1, 0; mov.b32 %h2, 0; mov.b32 %h3, 0;\n" +
      figure.body + "st.global.u32 [%rd1], %r3; st.global.f32 [%rd1], %f1; ret;\n}\n";
  auto parsed = ptx::parseModule(text);
  if (auto *problem = std::get_if<ptx::ParseError>(&parsed)) {
    std::fprintf(stderr, "bench: %s\n", problem->str().c_str());
    ok = false;
    return -1;
  }
  MemoryOptions memoryOptions;
  memoryOptions.checks = checks;
  DeviceMemory memory(memoryOptions);
  auto program = Program::load(std::get<ptx::Module>(parsed), memory, 0);
  if (!program.ok()) {
    std::fprintf(stderr, "bench: %s\n", program.status().message().c_str());
    ok = false;
    return -1;
  }
  uint64_t bytes = uint64_t(blocks) * 128 * 4;
  uint64_t address = memory.allocate(0, bytes);
  memory.setDefined(address, bytes);
  LaunchConfig config;
  config.grid = {blocks, 1, 1};
  config.block = {128, 1, 1};
  config.parameters.resize(12);
  std::memcpy(config.parameters.data(), &address, 8);
  std::memcpy(config.parameters.data() + 8, &iterations, 4);
  ExecOptions options;
  options.checks = checks;
  FindingSink sink;
  std::clock_t start = std::clock();
  auto result = launch(*(*program)->kernel("k"), config, options, sink);
  double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
  if (!result.ok() || result->error != LaunchError::None || sink.faults()) {
    std::fprintf(stderr, "bench: %s failed: %s\n", figure.name,
                 sink.findings().empty() ? "" : sink.findings()[0].text().c_str());
    ok = false;
  }
  return seconds;
}
} // namespace

int main() {
  const std::string loop = "LOOP:\n", end = "sub.u32 %r1, %r1, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra LOOP;\n";
  std::string accumulators;
  std::string zeros;
  for (int i = 0; i < 128; ++i) {
    accumulators += (i ? ", %f" : "%f") + std::to_string(i + 8);
    zeros += "mov.f32 %f" + std::to_string(i + 8) + ", 0f00000000;\n";
  }
  // Shared memory is filled by all threads, so that wgmma reads defined bytes behind a proxy fence.
  const std::string fill = "mov.u32 %r5, s; shl.b32 %r6, %r2, 4; add.u32 %r6, %r5, %r6; mov.u32 %r7, 0;\n"
                           "FILL: st.shared.v4.u32 [%r6], {%r7, %r7, %r7, %r7}; add.u32 %r6, %r6, 2048;\n"
                           "add.u32 %r8, %r5, 65536; setp.lt.u32 %p2, %r6, %r8; @%p2 bra FILL;\n"
                           "fence.proxy.async; bar.sync 0;\n";
  const Figure figures[] = {
      {"integer", "thread-instructions/s",
       loop + repeated(16, "mad.lo.u32 %r3, %r3, %r4, %r2; xor.b32 %r4, %r4, %r3;\n") + end, 35, false},
      {"f32", "thread-instructions/s",
       loop + repeated(16, "fma.rn.f32 %f1, %f1, %f2, %f2; add.f32 %f1, %f1, %f2;\n") + end, 35, false},
      {"coalesced memory", "thread-instructions/s",
       loop + repeated(8, "ld.global.u32 %r3, [%rd1]; st.global.u32 [%rd1], %r3;\n") + end, 19, false},
      {"mma m16n8k16 bf16", "FLOP/s",
       loop +
           repeated(8, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f8, %f9, %f10, %f11}, {%h0, %h1, %h2, "
                       "%h3}, {%h0, %h1}, {%f1, %f1, %f1, %f1};\n") +
           end,
       8 * 2.0 * 16 * 8 * 16, true},
      {"wgmma m64n256k16 bf16", "FLOP/s",
       zeros + fill +
           // A: 64 x 64 and B: 256 x 64, K-major, 128-byte swizzle, at 0 and 16384.
           "shr.u32 %r6, %r5, 4; cvt.u64.u32 %rd4, %r6; or.b64 %rd4, %rd4, 0x4000004000010000; add.u64 %rd5, %rd4, "
           "1024;\n" +
           loop + "wgmma.fence.sync.aligned;\n" +
           repeated(4, "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" + accumulators +
                           "}, %rd4, %rd5, 1, 1, 1, 0, 0;\n") +
           "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n" + end,
       4 * 2.0 * 16 * 256 * 16, true},
  };
  bool ok = true;
  for (const Figure &figure : figures) {
    for (bool checks : {false, true}) {
      uint32_t blocks = 16, iterations = figure.perWarp ? (figure.name[0] == 'm' ? 256 : 32) : 512;
      std::vector<double> rates;
      for (int i = 0; i < 5 && ok; ++i) {
        double seconds = run(figure, checks, blocks, iterations, ok);
        double units = figure.perWarp ? 4.0 * blocks : 128.0 * blocks;
        rates.push_back(units * iterations * figure.perIteration / seconds);
      }
      if (!ok) {
        return 1;
      }
      std::sort(rates.begin(), rates.end());
      std::printf(
          "{\"name\": \"%s\", \"checks\": %s, \"median\": %.4g, \"least\": %.4g, \"most\": %.4g, \"unit\": \"%s\"}\n",
          figure.name, checks ? "true" : "false", rates[2], rates[0], rates[4], figure.unit);
    }
  }
  return 0;
}
