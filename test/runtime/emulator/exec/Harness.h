//===- Harness.h - Running small PTX kernels in tests -----------*- C++ -*-===//
//
// A device with its memory, a program from PTX text, launches and what they
// found. `run` takes kernel arguments as values. No driver API: that is tested
// beside it.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_TEST_EMULATOR_EXEC_HARNESS_H
#define MOERT_TEST_EMULATOR_EXEC_HARNESS_H

#include "runtime/emulator/exec/Launch.h"
#include "runtime/emulator/ptx/Parser.h"

#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <variant>
#include <vector>

namespace moert::emulator::testing {

/// A module header for `sm_90a` and one kernel `k` around `body`.
inline std::string kernel(const std::string &parameters, const std::string &body, const std::string &before = "") {
  return ".version 8.8\n.target sm_90a\n.address_size 64\n" + before + "\n.visible .entry k(" + parameters + ")\n{\n" +
         body + "\n}\n";
}

class Device {
public:
  explicit Device(bool checks = true) : memory(makeOptions(checks)) { options.checks = checks; }

  /// Parses and loads; a failure is a test failure.
  bool load(const std::string &text) {
    auto parsed = ptx::parseModule(text);
    if (auto *problem = std::get_if<ptx::ParseError>(&parsed)) {
      ADD_FAILURE() << problem->str();
      return false;
    }
    module = std::make_unique<ptx::Module>(std::move(std::get<ptx::Module>(parsed)));
    auto made = Program::load(*module, memory, 0);
    if (!made.ok()) {
      ADD_FAILURE() << made.status().message();
      return false;
    }
    program = std::move(*made);
    return true;
  }

  template <typename T> uint64_t upload(const std::vector<T> &values) {
    uint64_t address = memory.allocate(0, values.size() * sizeof(T));
    std::memcpy(memory.bytes(address, values.size() * sizeof(T)), values.data(), values.size() * sizeof(T));
    memory.setDefined(address, values.size() * sizeof(T));
    return address;
  }
  template <typename T> std::vector<T> download(uint64_t address, size_t count) {
    std::vector<T> values(count);
    std::memcpy(values.data(), memory.bytes(address, count * sizeof(T)), count * sizeof(T));
    return values;
  }

  template <typename... Arguments> LaunchError run(Dim3 grid, Dim3 block, Arguments... arguments) {
    config.grid = grid;
    config.block = block;
    config.parameters.clear();
    (append(arguments), ...);
    const Kernel *found = program->kernel("k");
    if (!found) {
      ADD_FAILURE() << "no kernel k";
      return LaunchError::None;
    }
    auto result = launch(*found, config, options, sink);
    if (!result.ok()) {
      ADD_FAILURE() << result.status().message();
      return LaunchError::IllegalInstruction;
    }
    config.before = result->end;
    counts = result->counts;
    return result->error;
  }

  /// All findings that are no notes, as text.
  std::string findings() const {
    std::string out;
    for (const Finding &finding : sink.findings()) {
      if (!finding.note) {
        out += finding.text() + "\n";
      }
    }
    return out;
  }
  bool found(FindingKind kind) const {
    for (const Finding &finding : sink.findings()) {
      if (finding.kind == kind && !finding.note) {
        return true;
      }
    }
    return false;
  }

  DeviceMemory memory;
  ExecOptions options;
  LaunchConfig config;
  FindingSink sink;
  AccessCounts counts;
  std::unique_ptr<ptx::Module> module;
  std::unique_ptr<Program> program;

private:
  static MemoryOptions makeOptions(bool checks) {
    MemoryOptions made;
    made.checks = checks;
    return made;
  }
  template <typename T> void append(T value) {
    size_t at = (config.parameters.size() + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    config.parameters.resize(at + sizeof(T));
    std::memcpy(&config.parameters[at], &value, sizeof(T));
  }
};

} // namespace moert::emulator::testing

#endif // MOERT_TEST_EMULATOR_EXEC_HARNESS_H
