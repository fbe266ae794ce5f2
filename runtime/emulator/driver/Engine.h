//===- Engine.h - Streams, events and the work between them -----*- C++ -*-===//
//
// A stream operation becomes a `Work` that names what it must come after: the
// work before it in its stream, events it waits for, the default stream's
// rules, edges of a graph. The engine runs work whose predecessors are done, in
// slices, choosing among what is ready by the schedule and the seed. So every
// order that the API allows can happen, and one seed replays one of them.
//
// Two ways to be driven. With one host thread (replay) work runs inside the
// program's own calls: some in each (Random), all at once (Early), or only when
// a synchronising call needs it (Late); a watchdog thread takes over when the
// program makes no call for long and waits, say, for a flag in pinned memory.
// With MOE_EMU_THREADS the engine's thread runs ready work all the time.
//
// Happens-before: a work's clock joins those of its predecessors and of the host
// at the time of the call; a synchronising call joins the work's clock into the
// host's.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_ENGINE_H
#define MOERT_EMULATOR_DRIVER_ENGINE_H

#include "runtime/emulator/driver/Driver.h"
#include "runtime/emulator/driver/Operation.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <random>
#include <thread>

namespace moert::emulator {

struct Work;
using WorkPtr = std::shared_ptr<Work>;

/// What a work must come after.
struct Dependency {
  WorkPtr work;
  /// The kernel may start when the primary lets it; only griddepcontrol.wait orders what follows after the primary.
  bool programmatic = false;
};

/// One operation on its way.
struct Work {
  uint64_t number = 0;
  CUctx_st *context = nullptr;
  CUstream stream = nullptr; ///< as handed to stream callbacks
  Operation operation;
  std::vector<Dependency> after;
  Clock clock; ///< what is ordered before it; after it is done, what whoever follows knows
  bool started = false, done = false;
  bool progressed = true;
  bool busy = false;          ///< a host function that runs without the lock
  Clock start;                ///< `clock` as it was when the work started
  std::unique_ptr<Grid> grid; ///< of a running kernel
  CUdeviceptr workspace = 0;  ///< of a cooperative launch, for grid-wide barriers
  WorkPtr primary;            ///< of a programmatic secondary, until griddepcontrol.wait may pass
  double finished = 0;        ///< virtual milliseconds, for cuEventElapsedTime
};

/// Runs work.
class Engine {
public:
  explicit Engine(Driver &driver);
  void start();
  /// Ends the engine's thread; work that is left is dropped.
  void stop(std::unique_lock<std::mutex> &lock);

  /// Queues `operation` after `after` and everything the host has seen.
  WorkPtr enqueue(CUctx_st *context, CUstream stream, Operation operation, std::vector<Dependency> after);
  /// Lets the schedule run some work: at the end of every call that queued something.
  void pump();
  /// Runs until `work` is done; its sticky error, if any. The host then knows what it did.
  CUresult wait(const WorkPtr &work);
  /// Runs until everything of `context` is done.
  CUresult waitAll(CUctx_st *context);
  /// A look from the host: gives work a chance to run; true when it is done (and then ordered before the host).
  bool query(const WorkPtr &work);
  /// The program made a call: the watchdog's time starts again.
  void hostCalled() { lastCall = std::chrono::steady_clock::now(); }

  size_t pending() const { return queue.size(); }
  const Clock &hostClock() const { return host; }
  void hostLearns(const Clock &clock) { host.join(clock); }
  double now() const { return virtualTime; }

private:
  Driver &all;
  Clock host;
  std::deque<WorkPtr> queue; ///< not done, in the order of the calls
  std::mt19937_64 random;
  uint64_t nextNumber = 1;
  double virtualTime = 0;
  std::chrono::steady_clock::time_point lastCall;
  std::condition_variable wake;
  std::thread thread;
  bool stopping = false, saidTakeover = false;
  std::map<uint64_t, Clock> released; ///< by address: what the writers of stream values knew

  bool ready(const Work &work) const;
  /// Runs one slice of `work`. `alone`: a kernel that cannot go on is stuck for good.
  void step(const WorkPtr &work, bool alone);
  void start(Work &work);
  void finish(Work &work, const Clock &clock);
  void fail(Work &work, CUresult code);
  void startKernel(Work &work, KernelOperation &kernel);
  void stepKernel(Work &work, bool alone);
  void runHostFunction(Work &work, const HostOperation &operation);
  /// Work that can run now; only what `target` needs when that is given.
  std::vector<WorkPtr> runnable(const WorkPtr &target) const;
  /// Runs slices of what is ready, one after the other as the schedule says, until something progressed. False: nothing
  /// that is ready can make progress by itself.
  bool advance(const WorkPtr &target);
  /// Nothing progresses and a call waits for `target`: reports who is stuck.
  void declareDeadlock(const WorkPtr &target);
  void serve();
  /// Where nothing is on its way and the host knows all that was: clocks begin anew, which would hold an entry for each
  /// command of the program otherwise.
  void forgetThePast();
};

} // namespace moert::emulator

struct Capture;

/// An edge that the next captured node gets.
struct CaptureTip {
  CUgraphNode_st *node = nullptr;
  CUgraphEdgeData data{};
};

/// An event of the API.
struct CUevent_st {
  CUctx_st *context = nullptr;
  unsigned flags = 0;
  moert::emulator::WorkPtr work;    ///< of its latest record; null when never recorded
  std::shared_ptr<Capture> capture; ///< recorded in a capture: which, and after what
  std::vector<CaptureTip> captured;
};

/// A stream of the API.
struct CUstream_st {
  CUctx_st *context = nullptr;
  unsigned flags = 0;
  int priority = 0;
  unsigned long long id = 0;
  bool legacy = false;
  moert::emulator::WorkPtr last;
  std::shared_ptr<Capture> capture; ///< while it captures
  std::vector<CaptureTip> tips;     ///< what its next captured node comes after
};

namespace moert::emulator {

/// The stream that `handle` means (0 and the special values too), or null after refusing. `perThread`: the call is a
/// _ptsz or _ptds variant.
CUstream_st *streamOf(const Call &call, CUstream handle, bool perThread);
/// What the next operation of `stream` must come after: its own work, events, the default stream's rules.
std::vector<Dependency> orderOf(CUstream_st *stream);
/// Makes `operation` the next of `stream`: queued, or a node when the stream captures.
CUresult submit(CUstream_st *stream, Operation operation, WorkPtr *work = nullptr);
/// Waits for everything in `stream`.
CUresult synchronize(CUstream_st *stream);
/// What follows in `stream` comes after `event` (cuStreamWaitEvent).
CUresult waitEvent(CUstream_st *stream, CUevent event, unsigned flags);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_ENGINE_H
