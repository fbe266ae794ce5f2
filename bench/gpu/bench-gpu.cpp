// bench-gpu: the part of bench/gpu.sh that talks to the card. See the files of the subcommands.
//
//   bench-gpu [--emulator] read MEBIBYTES REPEAT
//   bench-gpu [--emulator] replay FILE...
//   bench-gpu [--emulator] steps PACKAGE --tokens T...
//
// Links the runtime's inside, so that it runs what moe-run runs and still sees each launch.
#include "bench/gpu/Gpu.h"

int main(int argc, char **argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool emulator = !arguments.empty() && arguments[0] == "--emulator";
  arguments.erase(arguments.begin(), arguments.begin() + emulator);
  const std::string command = arguments.empty() ? "" : arguments[0];
  auto *run = command == "read"     ? benchgpu::measureReading
              : command == "replay" ? benchgpu::replayKernels
              : command == "steps"  ? benchgpu::measureSteps
                                    : nullptr;
  if (!run) {
    benchgpu::die("usage: bench-gpu [--emulator] read|replay|steps ...");
  }
  arguments.erase(arguments.begin());
  benchgpu::Gpu gpu(emulator);
  return run(gpu, arguments);
}
