// bench-gpu steps: what a step of a package costs on the device, kernel by kernel and piece by piece.
//
// The session runs one step as it always does while the launches that it makes of the driver are written down; their
// words stay valid as long as the session lives. Then the whole step is launched again and again, on a stream that is
// held back until all is handed over, so that kernels follow each other as in a graph: with marks between all kernels,
// with marks around the pieces that were asked for, and with none inside. Since it is always the whole step, buffers
// hold what they should, and weights come out of memory, not out of the cache, where the step reads more than that
// holds.
//
// The session computes on random tokens; only tests of values say whether it is right.
#include "bench/gpu/Gpu.h"

#include "runtime/core/Json.h"
#include "runtime/include/moert/moert.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

namespace benchgpu {
namespace {

struct Command {
  enum Kind { Launch, Copy, Fill } kind = Launch;
  CUfunction function = nullptr;
  unsigned grid = 0, threads = 0, sharedBytes = 0;
  bool early = false; // may start while the kernel before it runs
  std::vector<uint64_t> words;
  CUdeviceptr to = 0, from = 0; // of a copy or fill
  size_t bytes = 0;
  unsigned char value = 0;
};

/// What the driver was asked for, while `isOn`. The driver's table of functions has room for functions alone, so this
/// is global.
struct Recording {
  bool isOn = false;
  std::vector<Command> commands;
  std::map<CUfunction, std::string> names;
  decltype(moert::cuda::Driver::launchKernel) launchKernel = nullptr;
  decltype(moert::cuda::Driver::launchKernelEx) launchKernelEx = nullptr;
  decltype(moert::cuda::Driver::moduleFunction) moduleFunction = nullptr;
  decltype(moert::cuda::Driver::onDevice) onDevice = nullptr;
  decltype(moert::cuda::Driver::fillBytes) fillBytes = nullptr;
} recording;

CUresult recordFunction(CUfunction *function, CUmodule module, const char *name) {
  const CUresult result = recording.moduleFunction(function, module, name);
  if (result == CUDA_SUCCESS) {
    recording.names[*function] = name;
  }
  return result;
}

void record(CUfunction function, unsigned grid, unsigned threads, unsigned sharedBytes, void **extra, bool early) {
  if (!recording.isOn) {
    return;
  }
  Command command;
  command.function = function;
  command.grid = grid;
  command.threads = threads;
  command.sharedBytes = sharedBytes;
  command.early = early;
  if (extra) { // as the backend passes them: pointer, its value, size, its pointer
    const auto *words = static_cast<const uint64_t *>(extra[1]);
    command.words.assign(words, words + *static_cast<const size_t *>(extra[3]) / sizeof(uint64_t));
  }
  recording.commands.push_back(command);
}

/// Launches with attributes are early ones.
CUresult recordLaunchEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
  record(function, config->gridDimX, config->blockDimX, config->sharedMemBytes, extra, /*early=*/true);
  return recording.launchKernelEx(config, function, parameters, extra);
}

CUresult recordLaunch(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
                      unsigned blockY, unsigned blockZ, unsigned sharedBytes, CUstream stream, void **parameters,
                      void **extra) {
  record(function, gridX, blockX, sharedBytes, extra, /*early=*/false);
  return recording.launchKernel(function, gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes, stream, parameters,
                                extra);
}

CUresult recordCopy(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  if (recording.isOn) {
    Command command;
    command.kind = Command::Copy;
    command.to = to;
    command.from = from;
    command.bytes = bytes;
    recording.commands.push_back(command);
  }
  return recording.onDevice(to, from, bytes, stream);
}

CUresult recordFill(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  if (recording.isOn) {
    Command command;
    command.kind = Command::Fill;
    command.to = to;
    command.bytes = bytes;
    command.value = value;
    recording.commands.push_back(command);
  }
  return recording.fillBytes(to, value, bytes, stream);
}

void listenTo(moert::cuda::Driver &driver) {
  recording.launchKernel = std::exchange(driver.launchKernel, recordLaunch);
  if (driver.launchKernelEx) {
    recording.launchKernelEx = std::exchange(driver.launchKernelEx, recordLaunchEx);
  }
  recording.moduleFunction = std::exchange(driver.moduleFunction, recordFunction);
  recording.onDevice = std::exchange(driver.onDevice, recordCopy);
  recording.fillBytes = std::exchange(driver.fillBytes, recordFill);
}

void expect(moert_status *status) {
  if (status) {
    die(moert_status_message(status));
  }
}

std::string nameOf(const Command &command) {
  return command.kind == Command::Copy   ? "copy"
         : command.kind == Command::Fill ? "fill"
                                         : recording.names[command.function];
}

/// A piece of a step: from `lead` commands before one whose name holds `first` to the next whose name holds `last`.
struct PieceRule {
  std::string name, first, last;
  size_t lead = 0;
};
struct Piece {
  std::string name;
  size_t begin, end; ///< commands
  std::vector<double> times;
};

std::vector<Piece> findPieces(const std::vector<Command> &commands, const std::vector<PieceRule> &rules) {
  std::vector<Piece> pieces;
  for (const PieceRule &rule : rules) {
    for (size_t i = 0; i < commands.size(); ++i) {
      if (nameOf(commands[i]).find(rule.first) == std::string::npos) {
        continue;
      }
      size_t end = i + 1;
      while (end < commands.size() && nameOf(commands[end]).find(rule.last) == std::string::npos) {
        ++end;
      }
      if (end == commands.size()) {
        break;
      }
      pieces.push_back({rule.name, i - std::min(i, rule.lead), end + 1, {}});
      i = end;
    }
  }
  return pieces;
}

/// What was asked for on the command line.
struct Options {
  std::string package, weights, cache;
  std::vector<int64_t> tokens;
  int64_t repeat = 50;
  bool allRows = false;
  std::vector<PieceRule> rules;
};

Options parse(const std::vector<std::string> &arguments) {
  Options options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string &argument = arguments[i];
    auto next = [&]() -> std::string {
      if (i + 1 == arguments.size()) {
        die(argument + " needs a value");
      }
      return arguments[++i];
    };
    if (argument == "--weights") {
      options.weights = next();
    } else if (argument == "--cache") {
      options.cache = next();
    } else if (argument == "--repeat") {
      options.repeat = strtoll(next().c_str(), nullptr, 10);
    } else if (argument == "--all-rows") {
      options.allRows = true;
    } else if (argument == "--tokens") {
      options.tokens.push_back(strtoll(next().c_str(), nullptr, 10));
    } else if (argument == "--piece") { // NAME FIRST LAST LEAD
      PieceRule rule{next(), next(), next(), 0};
      rule.lead = strtoull(next().c_str(), nullptr, 10);
      options.rules.push_back(rule);
    } else if (options.package.empty() && argument[0] != '-') {
      options.package = argument;
    } else {
      die("steps takes PACKAGE --tokens T... [--weights DIR] [--cache DIR] [--repeat N] [--all-rows] "
          "[--piece NAME FIRST LAST LEAD]...; not " +
          argument);
    }
  }
  if (options.package.empty() || options.tokens.empty() || options.repeat < 1 ||
      *std::min_element(options.tokens.begin(), options.tokens.end()) < 1) {
    die("steps takes PACKAGE --tokens T, T and --repeat at least 1");
  }
  return options;
}

class StepBench {
public:
  StepBench(Gpu &gpu, const Options &options) : gpu(gpu), options(options) {
    expect(moert_program_load(options.package.c_str(), &program));
    expect(moert_program_get_info(program, &info));
    moert_session_options session = {};
    session.struct_size = sizeof(session);
    session.weights = options.weights.empty() ? nullptr : options.weights.c_str();
    session.cache = options.cache.empty() ? nullptr : options.cache.c_str();
    session.sequences = 1;
    session.context = session.max_tokens = *std::max_element(options.tokens.begin(), options.tokens.end());
    session.device = gpu.isEmulator() ? "emulator" : "cuda:0";
    session.graphs = -1;
    expect(moert_session_create(program, &session, &this->session));
  }
  ~StepBench() {
    moert_session_free(session);
    moert_program_free(program);
  }
  StepBench(const StepBench &) = delete;
  StepBench &operator=(const StepBench &) = delete;

  void measure(int64_t tokens, moert::JsonWriter &json) {
    step(tokens); // what is done once
    expect(moert_session_reset(session));
    recording.commands.clear();
    recording.isOn = true;
    step(tokens);
    recording.isOn = false;
    const std::vector<Command> commands = recording.commands;
    std::vector<Piece> pieces = findPieces(commands, options.rules);
    std::vector<std::vector<double>> times(commands.size());
    std::vector<double> whole;
    const std::vector<std::vector<int64_t>> experts = expertCounts();
    for (int64_t i = options.repeat > 1 ? -2 : 0; i < options.repeat; ++i) { // two rounds warm up
      const double all = replay(commands, nullptr);
      replay(commands, &pieces);
      std::vector<double> each;
      replayMarked(commands, each);
      if (i < 0) {
        for (Piece &piece : pieces) {
          piece.times.clear();
        }
        continue;
      }
      whole.push_back(all);
      for (size_t c = 0; c < commands.size(); ++c) {
        times[c].push_back(each[c]);
      }
    }
    json.beginObject().member("tokens", tokens).member("rows", rows(tokens)).member("step_us", median(whole));
    json.key("commands").beginArray();
    for (size_t c = 0; c < commands.size(); ++c) {
      json.beginObject().member("name", nameOf(commands[c])).member("grid", commands[c].grid);
      json.member("threads", commands[c].threads).member("bytes", uint64_t(commands[c].bytes));
      json.member("us", median(times[c])).key("words").beginArray();
      for (uint64_t word : commands[c].words) {
        json.value(word);
      }
      json.endArray().endObject();
    }
    json.endArray().key("pieces").beginArray();
    for (const Piece &piece : pieces) {
      json.beginObject().member("name", piece.name).member("first", uint64_t(piece.begin));
      json.member("end", uint64_t(piece.end)).member("us", median(piece.times));
      json.member("least_us", *std::min_element(piece.times.begin(), piece.times.end()));
      json.member("most_us", *std::max_element(piece.times.begin(), piece.times.end())).endObject();
    }
    json.endArray().key("experts").beginArray();
    for (const std::vector<int64_t> &layer : experts) {
      json.beginArray();
      for (int64_t count : layer) {
        json.value(count);
      }
      json.endArray();
    }
    json.endArray().endObject();
  }

private:
  int64_t rows(int64_t tokens) const { return options.allRows ? tokens : 1; }

  void step(int64_t tokens) {
    std::vector<int32_t> ids, seq(size_t(tokens), 0), positions, wanted;
    uint32_t state = 12345;
    for (int64_t t = 0; t < tokens; ++t) {
      state = state * 1664525 + 1013904223;
      ids.push_back(int32_t((state >> 8) % uint32_t(info.vocab)));
      positions.push_back(int32_t(t));
    }
    for (int64_t r = 0; r < rows(tokens); ++r) {
      wanted.push_back(int32_t(options.allRows ? r : tokens - 1));
    }
    const moert_step_input input = {tokens, ids.data(), seq.data(), positions.data(), rows(tokens), wanted.data()};
    if (moert_session_can_pick(session)) { // as when text is generated: the choice is a kernel, too
      std::vector<int32_t> picks(wanted.size());
      expect(moert_session_pick(session, &input, picks.data()));
    } else {
      std::vector<float> logits(size_t(rows(tokens) * info.vocab));
      expect(moert_session_step(session, &input, logits.data()));
    }
  }

  std::vector<std::vector<int64_t>> expertCounts() {
    std::vector<std::vector<int64_t>> layers;
    for (;;) {
      const std::string name = "expert_counts." + std::to_string(layers.size());
      size_t bytes = 0;
      if (moert_status *status = moert_session_read(session, name.c_str(), nullptr, 0, &bytes)) {
        moert_status_free(status); // there are no more
        return layers;
      }
      layers.emplace_back(bytes / sizeof(int64_t));
      expect(moert_session_read(session, name.c_str(), layers.back().data(), bytes, &bytes));
    }
  }

  void issue(const Command &command) {
    if (command.kind == Command::Launch) {
      gpu.launch(command.function, command.grid, command.threads, command.sharedBytes, command.words, command.early);
    } else if (command.kind == Command::Copy) {
      gpu.check(gpu.driver.onDevice(command.to, command.from, command.bytes, gpu.stream), "cuMemcpyDtoDAsync");
    } else {
      gpu.check(gpu.driver.fillBytes(command.to, command.value, command.bytes, gpu.stream), "cuMemsetD8Async");
    }
  }

  void hold(size_t commands) {
    if (commands <= Gpu::maxHeld) {
      gpu.holdBack();
    }
  }

  /// The whole step, in microseconds; adds the times of `pieces`.
  double replay(const std::vector<Command> &commands, std::vector<Piece> *pieces) {
    hold(commands.size() + (pieces ? 2 * pieces->size() : 0) + 2);
    gpu.mark(1);
    for (size_t c = 0; c <= commands.size(); ++c) {
      for (size_t p = 0; pieces && p < pieces->size(); ++p) {
        if ((*pieces)[p].begin == c) {
          gpu.mark(3 + 2 * p);
        }
        if ((*pieces)[p].end == c) {
          gpu.mark(4 + 2 * p);
        }
      }
      if (c < commands.size()) {
        issue(commands[c]);
      }
    }
    gpu.mark(2);
    gpu.finish(2);
    for (size_t p = 0; pieces && p < pieces->size(); ++p) {
      (*pieces)[p].times.push_back(gpu.microseconds(3 + 2 * p, 4 + 2 * p));
    }
    return gpu.microseconds(1, 2);
  }

  void replayMarked(const std::vector<Command> &commands, std::vector<double> &times) {
    hold(2 * commands.size() + 1);
    for (size_t c = 0; c < commands.size(); ++c) {
      gpu.mark(1 + c);
      issue(commands[c]);
    }
    gpu.mark(1 + commands.size());
    gpu.finish(1 + commands.size());
    for (size_t c = 0; c < commands.size(); ++c) {
      times.push_back(gpu.microseconds(1 + c, 2 + c));
    }
  }

  Gpu &gpu;
  const Options &options;
  moert_program *program = nullptr;
  moert_session *session = nullptr;
  moert_program_info info = {};
};

} // namespace

int measureSteps(Gpu &gpu, const std::vector<std::string> &arguments) {
  const Options options = parse(arguments);
  listenTo(gpu.driver);
  StepBench bench(gpu, options);
  moert::JsonWriter json;
  json.beginObject().member("device", gpu.device.describe()).key("steps").beginArray();
  for (int64_t tokens : options.tokens) {
    bench.measure(tokens, json);
  }
  json.endArray();
  if (gpu.isEmulator()) {
    json.member("findings", gpu.driver.findings());
  }
  printf("%s\n", json.endObject().take().c_str());
  return 0;
}

} // namespace benchgpu
