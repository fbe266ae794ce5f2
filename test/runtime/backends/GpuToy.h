// The toy package for GPUs: the same tables, its kernels in PTX (toy.ptx).
#ifndef TEST_RUNTIME_GPUTOY_H
#define TEST_RUNTIME_GPUTOY_H

#include "test/runtime/core/TestPackage.h"

namespace moert::test {

/// Places of the two kernels that make trouble, where the CPU's toy has others.
enum : uint32_t { kLinger = 5, kStray = 6 };

inline void makeForGpu(Toy &toy) {
  VariantSpec &v = toy.variant();
  v.target = "cuda:sm_80";
  v.blob = "kernels-cuda-sm_80.ptx";
  v.kernelFile = TEST_PTX;
  v.kernels[kLinger] = "linger";
  v.kernels[kStray] = "stray";
  for (KernelSpec &kernel : v.kernels) {
    kernel.threads = 32;
    kernel.sharedBytes = kernel.symbol == "scale" ? 64 << 10 : 0; // more than a kernel has without asking
  }
}

/// Behind the commands of every step, the choice of a token per row into the state `picks`.
inline void addPicks(Toy &toy) {
  VariantSpec &v = toy.variant();
  v.kernels.push_back(KernelSpec("pick", 32));
  v.buffers.push_back(
      format::Buffer(format::BufferKind::State, toy.program.string("picks"), 64, 0, extent(4 * kMaxTokens)));
  const auto picks = uint32_t(v.buffers.size() - 1), kernel = uint32_t(v.kernels.size() - 1);
  for (format::StepVariant &step : v.steps) {
    const auto begin = uint32_t(v.commands.size());
    for (uint32_t c = 0; c < step.command_count(); ++c) {
      v.commands.push_back(format::Command(v.commands[step.first_command() + c]));
    }
    addCommand(toy.program, v, format::CommandKind::Launch, "pick", kernel,
               {slice(kLogits, format::Access::Read, extent(0, 0, 4 * kVocab)),
                slice(picks, format::Access::Write, extent(0, 0, 4)), constant(kVocab)},
               format::Grid(extent(0, 0, 1), 1, 0, 1));
    step = format::StepVariant(step.min_tokens(), step.max_tokens(), begin, step.command_count() + 1);
  }
}

} // namespace moert::test

#endif // TEST_RUNTIME_GPUTOY_H
