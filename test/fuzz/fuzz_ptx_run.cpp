//===- fuzz_ptx_run.cpp - libFuzzer target: damaged PTX is executed --------===//
//
// Kernels of the collection, changed word by word and line by line, so that most
// of them still parse: each kernel of what parses runs under a step limit, with
// and without checks. Errors and findings are expected; a crash, a hang or an
// access outside of the emulator's own memory is what this looks for.
//
//   fuzz_ptx_run -max_total_time=600 -dict=test/fuzz/ptx.dict corpus test/runtime/emulator/kernels
//
// The first byte of an input chooses timing and shape of the launch, so that
// plain PTX files ('/', '.') are inputs too.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Launch.h"
#include "runtime/emulator/ptx/Parser.h"

#include <algorithm>
#include <cstring>
#include <random>

using namespace moert::emulator;

/// Of libFuzzer; absent where only seeds are replayed.
extern "C" __attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maxSize);

namespace {

constexpr uint64_t stepLimit = 3000;
/// What one kernel may ask for; more is a matter of the driver's limits, and of patience.
constexpr uint64_t largestArea = 1 << 20;

void runKernel(const Kernel &kernel, DeviceMemory &memory, uint8_t choice, bool checks) {
  if (kernel.staticShared > 227 * 1024 || kernel.localBytes > largestArea || kernel.parameterBytes > 4096) {
    return;
  }
  ExecOptions options;
  options.checks = checks;
  options.timing = Timing(choice % 3);
  options.seed = choice;
  options.delayLanes = (choice & 8) != 0;
  options.stepLimit = stepLimit;
  LaunchConfig config;
  const ptx::Function &function = *kernel.function;
  config.grid = {2, 1, 1};
  config.block = {choice & 16 ? 40U : 64U, 1, 1};
  config.cluster = {choice & 32 ? 2U : 1U, 1, 1};
  config.dynamicShared = 2048;
  config.print = [](const std::string &) {};
  // Each parameter of 8 bytes is an address of memory of its own, each other one a small number.
  config.parameters.resize(kernel.parameterBytes);
  std::vector<uint64_t> areas;
  for (const ptx::Variable &parameter : function.parameters) {
    if (parameter.offset + parameter.size > config.parameters.size()) {
      continue;
    }
    if (parameter.size == 8) {
      const uint64_t area = memory.allocate(0, 4096);
      memory.setDefined(area, 2048);
      areas.push_back(area);
      std::memcpy(&config.parameters[parameter.offset], &area, 8);
    } else if (parameter.size == 4) {
      const uint32_t number = 16;
      std::memcpy(&config.parameters[parameter.offset], &number, 4);
    }
  }
  FindingSink sink;
  (void)launch(kernel, config, options, sink);
  for (uint64_t area : areas) {
    memory.free(area);
  }
}

void runModule(const ptx::Module &module, uint8_t choice, bool checks) {
  MemoryOptions options;
  options.checks = checks;
  options.bytesPerDevice = 64 << 20;
  DeviceMemory memory(options);
  auto program = Program::load(module, memory, 0);
  if (!program.ok()) {
    return;
  }
  for (const Kernel &kernel : (*program)->kernels()) {
    runKernel(kernel, memory, choice, checks);
  }
}

/// Where the words and numbers of a text begin, and how long they are.
std::vector<std::pair<size_t, size_t>> wordsOf(const std::string &text) {
  std::vector<std::pair<size_t, size_t>> words;
  auto part = [](char c) { return isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '%' || c == '$'; };
  for (size_t i = 0; i < text.size();) {
    size_t begin = i;
    while (i < text.size() && part(text[i])) {
      ++i;
    }
    if (i > begin) {
      words.emplace_back(begin, i - begin);
    } else {
      ++i;
    }
  }
  return words;
}

std::vector<std::pair<size_t, size_t>> linesOf(const std::string &text) {
  std::vector<std::pair<size_t, size_t>> lines;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    lines.emplace_back(begin, end - begin);
    begin = end;
  }
  return lines;
}

void changeOnce(std::string &text, std::mt19937 &random) {
  auto pick = [&](const auto &list) { return list[random() % list.size()]; };
  const auto lines = linesOf(text), words = wordsOf(text);
  if (lines.empty() || words.empty()) {
    return;
  }
  switch (random() % 6) {
  case 0: {
    auto [at, length] = pick(lines);
    text.erase(at, length);
    break;
  }
  case 1: { // a line once more, elsewhere
    auto [from, length] = pick(lines);
    const std::string line = text.substr(from, length);
    text.insert(pick(lines).first, line);
    break;
  }
  case 2: { // two lines change places
    auto a = pick(lines), b = pick(lines);
    if (a.first > b.first) {
      std::swap(a, b);
    }
    if (a.first != b.first) {
      const std::string first = text.substr(a.first, a.second), second = text.substr(b.first, b.second);
      text.replace(b.first, b.second, first);
      text.replace(a.first, a.second, second);
    }
    break;
  }
  case 3: { // a number becomes a special one
    static const char *const numbers[] = {
        "0",  "1",   "-1",   "2",     "3",          "4",          "7",          "8",
        "16", "31",  "32",   "33",    "64",         "128",        "255",        "256",
        "-8", "512", "1024", "65536", "2147483647", "4294967295", "2147483648", "0x7fffffffffffffff"};
    std::vector<std::pair<size_t, size_t>> found;
    for (auto word : words) {
      if (isdigit(static_cast<unsigned char>(text[word.first]))) {
        found.push_back(word);
      }
    }
    if (!found.empty()) {
      auto [at, length] = pick(found);
      text.replace(at, length, numbers[random() % std::size(numbers)]);
    }
    break;
  }
  default: { // a word becomes another word of the text, of the same kind where one turns up soon
    auto [at, length] = pick(words);
    auto other = pick(words);
    for (unsigned i = 0; i < 8 && text[other.first] != text[at]; ++i) {
      other = pick(words);
    }
    text.replace(at, length, text.substr(other.first, other.second));
    break;
  }
  }
}

} // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t maxSize, unsigned seed) {
  std::mt19937 random(seed);
  if (LLVMFuzzerMutate && (size == 0 || random() % 8 == 0)) {
    return LLVMFuzzerMutate(data, size, maxSize);
  }
  std::string text(reinterpret_cast<const char *>(data), size);
  for (unsigned count = 1 + random() % 3; count; --count) {
    changeOnce(text, random);
  }
  size = std::min(text.size(), maxSize);
  std::memcpy(data, text.data(), size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text(reinterpret_cast<const char *>(data), size);
  const uint8_t choice = size ? data[0] : 0;
  if (size && choice != '/' && choice != '.') {
    text.remove_prefix(1);
  }
  auto parsed = ptx::parseModule(text);
  if (auto *module = std::get_if<ptx::Module>(&parsed)) {
    uint64_t bytes = 0;
    for (const ptx::Variable &variable : module->variables) {
      bytes += std::min(variable.size, 2 * largestArea);
    }
    if (bytes <= largestArea) {
      runModule(*module, choice, true);
      runModule(*module, choice, false);
    }
  }
  return 0;
}
