//===- Engine.cpp - Running work --------------------------------*- C++ -*-===//
//
// Which work runs next, for how long, and what follows from its end. Everything
// happens under the driver's lock except host functions, which run without it.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Engine.h"
#include "runtime/emulator/driver/Modules.h"

#include <algorithm>
#include <cstring>

namespace moert::emulator {

/// Warp instructions that a kernel gets at a time: short enough that kernels overlap, long enough to be cheap.
constexpr uint64_t sliceInstructions = 20000;
/// Without a call for so long, the engine's thread runs pending work although nothing asked for it.
constexpr std::chrono::milliseconds watchdog(1000);
/// A program that never synchronises does not grow without bound.
constexpr size_t longestQueue = 4096;

Engine::Engine(Driver &driver) : all(driver), random(driver.settings.seed) {
  lastCall = std::chrono::steady_clock::now();
}

void Engine::start() {
  thread = std::thread([this] { serve(); });
}

void Engine::stop(std::unique_lock<std::mutex> &lock) {
  stopping = true;
  wake.notify_all();
  lock.unlock();
  if (thread.joinable()) {
    thread.join();
  }
  lock.lock();
}

WorkPtr Engine::enqueue(CUctx_st *context, CUstream stream, Operation operation, std::vector<Dependency> after) {
  auto work = std::make_shared<Work>();
  work->number = nextNumber++;
  work->context = context;
  work->stream = stream;
  work->operation = std::move(operation);
  work->after = std::move(after);
  work->clock = host;
  queue.push_back(work);
  wake.notify_one();
  return work;
}

bool Engine::ready(const Work &work) const {
  if (work.busy || work.done) {
    return false;
  }
  if (work.started) {
    return true;
  }
  for (const Dependency &dependency : work.after) {
    const Work &before = *dependency.work;
    const bool early = dependency.programmatic && before.started && before.grid && before.grid->mayStartDependents();
    if (!before.done && !early) {
      return false;
    }
  }
  const auto *value = std::get_if<ValueOperation>(&work.operation);
  return !value || work.context->sticky != CUDA_SUCCESS || valueHolds(*value);
}

/// Marks `work` and all it needs.
static void collect(const WorkPtr &work, std::unordered_set<const Work *> &needed) {
  std::vector<const Work *> open{work.get()};
  while (!open.empty()) {
    const Work *next = open.back();
    open.pop_back();
    if (next->done || !needed.insert(next).second) {
      continue;
    }
    for (const Dependency &dependency : next->after) {
      open.push_back(dependency.work.get());
    }
    if (next->primary) {
      open.push_back(next->primary.get());
    }
  }
}

std::vector<WorkPtr> Engine::runnable(const WorkPtr &target) const {
  std::unordered_set<const Work *> needed;
  if (target) {
    collect(target, needed);
  }
  std::vector<WorkPtr> result;
  for (const WorkPtr &work : queue) {
    if ((!target || needed.count(work.get())) && ready(*work)) {
      result.push_back(work);
    }
  }
  return result;
}

bool Engine::advance(const WorkPtr &target) {
  std::vector<WorkPtr> open = runnable(target);
  while (!open.empty()) {
    size_t pick = 0;
    if (all.settings.schedule == Schedule::Random) {
      pick = size_t(random() % open.size());
    } else if (all.settings.schedule == Schedule::Late) {
      pick = open.size() - 1; // the newest first: the order that programs expect least
    }
    const WorkPtr work = open[pick];
    step(work, false);
    if (work->progressed) {
      return true;
    }
    open.erase(open.begin() + ptrdiff_t(pick));
  }
  return false;
}

void Engine::pump() {
  if (all.settings.threads > 1) {
    return; // the engine's thread does it
  }
  if (all.settings.schedule == Schedule::Early) {
    while (advance(nullptr)) {
    }
  } else if (all.settings.schedule == Schedule::Random) {
    for (uint64_t slices = random() % 4; slices && advance(nullptr); --slices) {
    }
  }
  while (queue.size() > longestQueue && advance(nullptr)) {
  }
}

bool Engine::query(const WorkPtr &work) {
  if (!work->done && all.settings.threads == 1) {
    // A program that polls makes progress, but not at once. What only another thread can let go on is not asked for
    // all the time: that thread may want the core.
    if (!advance(work) && !advance(nullptr) && hostThreads() > 1) {
      driverLock().unlock();
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      driverLock().lock();
    }
  }
  if (work->done) {
    host.join(work->clock);
    forgetThePast();
  }
  return work->done;
}

CUresult Engine::wait(const WorkPtr &work) {
  const bool late = all.settings.schedule == Schedule::Late;
  auto stuckSince = std::chrono::steady_clock::time_point();
  while (!work->done) {
    if ((late && advance(work)) || advance(nullptr)) {
      stuckSince = {};
    } else {
      // A host function that runs, or another host thread, may still help.
      const bool busy = std::any_of(queue.begin(), queue.end(), [](const WorkPtr &other) { return other->busy; });
      const auto now = std::chrono::steady_clock::now();
      if (stuckSince == std::chrono::steady_clock::time_point()) {
        stuckSince = now;
      }
      const bool othersMayHelp = hostThreads() > 1 && now - stuckSince < watchdog;
      if (!busy && !othersMayHelp) {
        declareDeadlock(work);
        continue;
      }
      driverLock().unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      driverLock().lock();
      continue;
    }
    if (hostThreads() > 1 || all.settings.threads > 1) {
      driverLock().unlock();
      std::this_thread::yield();
      driverLock().lock();
    }
  }
  host.join(work->clock);
  forgetThePast();
  hostCalled();
  // Another thread may have ended the context while this one waited for its last work.
  return all.contexts.has(work->context) ? work->context->sticky : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

void Engine::forgetThePast() {
  if (!queue.empty()) {
    return;
  }
  for (const CUctx_st *context : all.contexts.all()) {
    if (!host.covers(context->finished)) {
      return;
    }
  }
  host = Clock::upTo(all.memory->actors.tick());
  for (CUctx_st *context : all.contexts.all()) {
    context->finished = Clock();
  }
  released.clear();
}

CUresult Engine::waitAll(CUctx_st *context) {
  std::vector<WorkPtr> open;
  for (const WorkPtr &work : queue) {
    if (work->context == context) {
      open.push_back(work);
    }
  }
  // In Random order of finding out, all are waited for; done ones cost nothing.
  for (const WorkPtr &work : open) {
    wait(work);
  }
  if (!all.contexts.has(context)) {
    return CUDA_ERROR_CONTEXT_IS_DESTROYED; // by another thread, while this one waited
  }
  // What finished before this call is ordered before the host too.
  host.join(context->finished);
  forgetThePast();
  return context->sticky;
}

void Engine::declareDeadlock(const WorkPtr &target) {
  for (const WorkPtr &work : runnable(nullptr)) {
    if (work->grid) {
      step(work, true); // reports every warp's position
    }
  }
  if (target->done) {
    return;
  }
  // A wait for a value that nobody is going to write.
  std::unordered_set<const Work *> needed;
  collect(target, needed);
  for (const WorkPtr &work : std::deque<WorkPtr>(queue)) {
    const auto *value = std::get_if<ValueOperation>(&work->operation);
    if (needed.count(work.get()) && value && !value->write && !work->done && !valueHolds(*value)) {
      Finding finding;
      finding.kind = FindingKind::Deadlock;
      finding.kernel = "wait for a value";
      finding.what = concat("a stream waits for the value ", value->value, " at ", hex(value->address),
                            ", and nothing that is pending can write it");
      all.sink.report(std::move(finding));
      fail(*work, CUDA_ERROR_LAUNCH_TIMEOUT);
      return;
    }
  }
}

void Engine::start(Work &work) {
  work.started = true;
  for (const Dependency &dependency : work.after) {
    if (dependency.programmatic) {
      work.primary = dependency.work;
      work.clock.join(dependency.work->start);
    } else {
      work.clock.join(dependency.work->clock);
    }
  }
  work.after.clear();
  work.start = work.clock;
}

void Engine::step(const WorkPtr &pointer, bool alone) {
  Work &work = *pointer;
  work.progressed = true;
  if (!work.started) {
    start(work);
    if (work.context->sticky != CUDA_SUCCESS) {
      // After a fault nothing runs; callbacks alone are told.
      if (const auto *host = std::get_if<HostOperation>(&work.operation); host && host->callback) {
        runHostFunction(work, *host);
      }
      finish(work, work.clock);
      return;
    }
    if (auto *kernel = std::get_if<KernelOperation>(&work.operation)) {
      startKernel(work, *kernel);
      return;
    }
  }
  if (work.grid) {
    stepKernel(work, alone);
    return;
  }
  if (const auto *host = std::get_if<HostOperation>(&work.operation)) {
    runHostFunction(work, *host);
    finish(work, work.clock);
    return;
  }
  if (std::get_if<EmptyOperation>(&work.operation)) {
    finish(work, work.clock);
    return;
  }
  Command command = all.memory->begin(work.clock, describe(work.operation));
  const CUresult result = execute(work.operation, command);
  if (result != CUDA_SUCCESS) {
    fail(work, result);
    return;
  }
  virtualTime += 0.002;
  Clock clock = all.memory->end(command);
  if (const auto *value = std::get_if<ValueOperation>(&work.operation)) {
    // A value that a stream writes releases, a stream that waits for one acquires.
    Clock &known = released[value->address];
    value->write ? known.join(clock) : clock.join(known);
  }
  finish(work, clock);
}

void Engine::runHostFunction(Work &work, const HostOperation &operation) {
  const CUresult status = work.context->sticky;
  // The function may tell the program's threads that it ran, in ways that the emulator cannot see.
  host.join(work.clock);
  work.busy = true;
  ThreadState &state = threadState();
  ++state.inHostFunction;
  driverLock().unlock();
  if (operation.callback) {
    operation.callback(work.stream, status, operation.data);
  } else {
    operation.function(operation.data);
  }
  driverLock().lock();
  --state.inHostFunction;
  work.busy = false;
}

void Engine::startKernel(Work &work, KernelOperation &kernel) {
  if (!all.functions.has(kernel.function)) {
    Finding finding;
    finding.kind = FindingKind::Illegal;
    finding.kernel = "launch";
    finding.what = "the kernel's module was unloaded before the launch ran";
    all.sink.report(std::move(finding));
    fail(work, CUDA_ERROR_LAUNCH_FAILED);
    return;
  }
  const CUfunc_st &function = *kernel.function;
  ExecOptions options;
  options.checks = all.settings.checks;
  options.timing = all.settings.schedule == Schedule::Early  ? Timing::Early
                   : all.settings.schedule == Schedule::Late ? Timing::Late
                                                             : Timing::Random;
  options.seed = all.settings.seed * 0x9E3779B97F4A7C15u + work.number;
  options.delayLanes = all.settings.delayLanes;
  options.allProxyFences = all.settings.allProxyFences;
  options.hostThreads = all.settings.threads;
  options.stepLimit = all.settings.stepLimit;
  const int resident = residentBlocks(function, kernel.config.block.count(), kernel.config.dynamicShared);
  options.residentBlocks = uint32_t(std::max(1, resident) * work.context->device->model->multiprocessors);
  if (kernel.config.cooperative) {
    constexpr uint64_t bytes = 256; // more than cooperative groups look at
    const uint32_t device = uint32_t(work.context->device->ordinal);
    work.workspace = all.memory->allocate(device, bytes, AllocationKind::Module, "grid workspace");
    if (uint8_t *data = all.memory->bytes(work.workspace, bytes)) {
      std::memset(data, 0, bytes);
      all.memory->setDefined(work.workspace, bytes);
    }
    kernel.config.gridWorkspace = work.workspace;
  }
  kernel.config.before = work.clock;
  kernel.config.waitsForPrimary = work.primary != nullptr;
  Result<std::unique_ptr<Grid>> grid = Grid::create(*function.kernel, kernel.config, options, all.sink);
  if (!grid.ok()) {
    refuse(CUDA_ERROR_LAUNCH_FAILED, "kernel ", function.name, ": ", grid.status().message());
    fail(work, CUDA_ERROR_LAUNCH_FAILED);
    return;
  }
  work.grid = std::move(*grid);
}

/// The sticky error of a failed launch.
static CUresult errorOf(LaunchError error) {
  switch (error) {
  case LaunchError::None:
    return CUDA_SUCCESS;
  case LaunchError::IllegalAddress:
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  case LaunchError::MisalignedAddress:
    return CUDA_ERROR_MISALIGNED_ADDRESS;
  case LaunchError::IllegalInstruction:
    return CUDA_ERROR_ILLEGAL_INSTRUCTION;
  case LaunchError::Assert:
    return CUDA_ERROR_ASSERT;
  case LaunchError::Trap:
    return CUDA_ERROR_LAUNCH_FAILED;
  case LaunchError::Deadlock:
  case LaunchError::Limit:
    return CUDA_ERROR_LAUNCH_TIMEOUT;
  }
  return CUDA_ERROR_UNKNOWN;
}

void Engine::stepKernel(Work &work, bool alone) {
  if (work.primary && work.primary->done) {
    work.grid->primaryDone(work.primary->clock);
    work.start.join(work.primary->clock); // for who comes after
    work.primary.reset();
  }
  const uint64_t slice =
      all.settings.schedule == Schedule::Random ? 1000 + random() % sliceInstructions : sliceInstructions;
  const Grid::State state = work.grid->step(slice, alone && !work.primary);
  work.progressed = work.grid->progressed();
  if (state == Grid::State::Failed) {
    fail(work, errorOf(work.grid->error()));
    return;
  }
  // A secondary that never waits ends no earlier than its primary: who follows in the stream comes after both.
  if (state != Grid::State::Done || work.primary) {
    return;
  }
  const AccessCounts &counts = work.grid->counts();
  virtualTime += 0.002 + 1e-6 * double(counts.instructions);
  all.reportCounts(std::get<KernelOperation>(work.operation).function->name, counts);
  Clock clock = work.grid->end();
  clock.join(work.start);
  finish(work, clock);
}

void Engine::finish(Work &work, const Clock &clock) {
  work.clock = clock;
  work.done = true;
  work.progressed = true;
  work.finished = virtualTime;
  work.grid.reset();
  work.primary.reset();
  if (work.workspace) {
    all.memory->free(work.workspace);
    work.workspace = 0;
  }
  work.context->finished.join(clock);
  for (auto entry = queue.begin(); entry != queue.end(); ++entry) {
    if (entry->get() == &work) {
      queue.erase(entry);
      break;
    }
  }
}

void Engine::fail(Work &work, CUresult code) {
  if (work.context->sticky == CUDA_SUCCESS) {
    work.context->sticky = code;
  }
  finish(work, work.clock);
}

/// The engine's thread: runs ready work (parallel mode), or takes over when the program makes no calls (replay).
void Engine::serve() {
  std::unique_lock<std::mutex> lock(driverLock());
  while (!stopping) {
    if (all.settings.threads > 1) {
      if (queue.empty() || !advance(nullptr)) {
        wake.wait_for(lock, std::chrono::milliseconds(queue.empty() ? 1000 : 1));
        continue;
      }
    } else {
      const bool idle = std::chrono::steady_clock::now() - lastCall > watchdog;
      if (!idle || queue.empty()) {
        wake.wait_for(lock, watchdog / 4);
        continue;
      }
      if (!saidTakeover) {
        saidTakeover = true;
        logLine("no call for a second while work is pending: running it; this order does not replay");
      }
      if (!advance(nullptr)) {
        wake.wait_for(lock, std::chrono::milliseconds(10));
        continue;
      }
    }
    lock.unlock(); // between slices: calls get their turn
    std::this_thread::yield();
    lock.lock();
  }
}

} // namespace moert::emulator
