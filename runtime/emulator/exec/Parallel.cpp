//===- Parallel.cpp - The blocks of one launch on several host threads -----===//
//
// A parallel launch is a set of parts, each a GridState with blocks of its own
// that draws the number of its next cluster from a common counter, so that
// blocks still start in ascending order. A step runs every part on a thread of
// its own for a slice and waits for all. Parts share nothing but global memory
// (exec/Indivisible.h), findings and what printf writes, which have locks.
//
// For speed only: nothing is judged and no seed replays. Kernels that call malloc
// or free in a kernel stay on one thread: the books of allocations have no lock.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Warp.h"

#include <algorithm>
#include <thread>

namespace moert::emulator {

namespace {
class ParallelGrid : public Grid {
public:
  explicit ParallelGrid(std::unique_ptr<GridState> whole) : whole(std::move(whole)) {}

  State step(uint64_t instructions, bool alone) override;
  bool progressed() const override { return didProgress; }
  bool mayStartDependents() const override;
  void primaryDone(const Clock &clock) override;
  Clock end() const override { return whole->finish; }
  LaunchError error() const override { return failure; }
  const AccessCounts &counts() const override { return total; }

  std::unique_ptr<GridState> whole; ///< runs nothing itself; owns what the parts share
  std::vector<std::unique_ptr<GridState>> parts;
  std::atomic<uint64_t> tickets{0};

private:
  State over(State state);

  bool didProgress = false;
  LaunchError failure = LaunchError::None;
  AccessCounts total;
};
} // namespace

/// Programs whose kernels manage memory themselves.
static bool callsHeap(const Code &code) {
  return std::any_of(code.functions.begin(), code.functions.end(), [](const FunctionCode &function) {
    return function.ops.empty() && (function.function->name == "malloc" || function.function->name == "free");
  });
}

std::unique_ptr<Grid> makeParallel(std::unique_ptr<GridState> grid) {
  if (callsHeap(*grid->code)) {
    return grid;
  }
  const uint64_t clusters = grid->config.grid.count() / grid->config.cluster.count();
  ExecOptions options = grid->options;
  options.hostThreads = unsigned(std::min<uint64_t>(options.hostThreads, clusters));
  auto parallel = std::make_unique<ParallelGrid>(std::move(grid));
  const GridState &whole = *parallel->whole;
  for (unsigned i = 0; i < options.hostThreads; ++i) {
    options.seed = whole.options.seed * 257 + i;
    auto part = GridState::make(*whole.kernel, whole.config, options, *whole.sink, &whole);
    if (!part.ok()) {
      return std::move(parallel->whole);
    }
    (*part)->tickets = &parallel->tickets;
    parallel->parts.push_back(std::move(*part));
  }
  return parallel;
}

Grid::State ParallelGrid::over(State state) {
  for (const auto &part : parts) {
    failure = failure == LaunchError::None ? part->failure : failure;
    total.instructions += part->total.instructions;
    total.threadInstructions += part->total.threadInstructions;
  }
  whole->state = state;
  whole->learnEnd();
  return state;
}

Grid::State ParallelGrid::step(uint64_t instructions, bool alone) {
  if (whole->state == State::Done || whole->state == State::Failed) {
    didProgress = false;
    return whole->state;
  }
  std::vector<std::thread> threads;
  for (size_t i = 1; i < parts.size(); ++i) {
    threads.emplace_back([this, i, instructions] { parts[i]->step(instructions, false); });
  }
  parts[0]->step(instructions, false);
  for (std::thread &thread : threads) {
    thread.join();
  }
  auto every = [&](State state) {
    return std::all_of(parts.begin(), parts.end(), [&](const auto &part) { return part->state == state; });
  };
  auto any = [&](State state) {
    return std::any_of(parts.begin(), parts.end(), [&](const auto &part) { return part->state == state; });
  };
  didProgress = std::any_of(parts.begin(), parts.end(), [](const auto &part) { return part->didProgress; });
  if (any(State::Failed)) {
    return over(State::Failed);
  }
  if (every(State::Done)) {
    didProgress = true;
    return over(State::Done);
  }
  if (didProgress) {
    return State::Running;
  }
  if (any(State::WaitsForPrimary)) {
    return State::WaitsForPrimary;
  }
  if (alone) {
    // Nobody moved in the whole slice: the first part that is left says where its warps are.
    for (auto &part : parts) {
      if (part->state != State::Done) {
        part->step(instructions, true);
        return part->state == State::Failed ? over(State::Failed) : State::Running;
      }
    }
  }
  return State::Running;
}

bool ParallelGrid::mayStartDependents() const {
  uint64_t blocks = 0;
  for (const auto &part : parts) {
    blocks += part->finishedBlocks + part->dependentBlocks;
  }
  return blocks >= whole->config.grid.count();
}

void ParallelGrid::primaryDone(const Clock &clock) {
  whole->finish.join(clock);
  for (auto &part : parts) {
    part->primaryDone(clock);
  }
}

} // namespace moert::emulator
