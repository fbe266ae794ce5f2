//===- ptx-check.cpp - Does the emulator understand this PTX? -------------===//
//
// Parses files and says what is in them, or the first thing that is not
// understood. Executes nothing.
//
//   ptx-check kernel.ptx                 one line per function; exit 1 at an error
//   ptx-check --target sm_80 kernel.ptx  for another device than sm_90a
//   ptx-check --support                  the table of instructions, as Markdown
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Parser.h"
#include "runtime/emulator/ptx/Table.h"

#include <cstdio>
#include <cstring>
#include <string>

using namespace moert::emulator::ptx;

static bool readFile(const char *path, std::string &out) {
  FILE *file = std::fopen(path, "rb");
  if (!file) {
    return false;
  }
  char buffer[1 << 16];
  size_t got;
  while ((got = std::fread(buffer, 1, sizeof(buffer), file)) > 0) {
    out.append(buffer, got);
  }
  bool good = !std::ferror(file);
  std::fclose(file);
  return good;
}

int main(int argc, char **argv) {
  DeviceTarget device;
  bool quiet = false;
  int status = argc > 1 ? 0 : 1;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--support")) {
      std::fputs(supportTable().c_str(), stdout);
      continue;
    }
    if (!std::strcmp(argv[i], "--quiet")) {
      quiet = true;
      continue;
    }
    if (!std::strcmp(argv[i], "--target") && i + 1 < argc) {
      unsigned sm = 0;
      char suffix = 0;
      if (std::sscanf(argv[++i], "sm_%u%c", &sm, &suffix) < 1) {
        std::fprintf(stderr, "ptx-check: --target needs sm_NN or sm_NNa, not '%s'\n", argv[i]);
        return 1;
      }
      device = {static_cast<uint16_t>(sm), suffix};
      continue;
    }
    if (argv[i][0] == '-') {
      std::fprintf(stderr, "usage: ptx-check [--target sm_NN[a]] [--quiet] FILE...   or   ptx-check --support\n");
      return argv[i][1] == 'h' || !std::strcmp(argv[i], "--help") ? 0 : 1;
    }
    std::string text;
    if (!readFile(argv[i], text)) {
      std::fprintf(stderr, "%s: cannot be read\n", argv[i]);
      status = 1;
      continue;
    }
    auto result = parseModule(text, device);
    if (auto *error = std::get_if<ParseError>(&result)) {
      std::fprintf(stderr, "%s:%s\n", argv[i], error->str().c_str());
      status = 1;
      continue;
    }
    const Module &module = std::get<Module>(result);
    for (const Function &function : module.functions) {
      if (quiet || !function.isDefined) {
        continue;
      }
      std::printf(
          "%s: %s %s: %zu instructions, %zu blocks, %zu registers, %llu bytes of parameters, %u of shared memory\n",
          argv[i], function.isKernel ? "kernel" : "function", function.name.c_str(), function.instructions.size(),
          function.blocks.size(), function.registers.size(), static_cast<unsigned long long>(function.parameterBytes),
          function.sharedBytes);
    }
  }
  return status;
}
