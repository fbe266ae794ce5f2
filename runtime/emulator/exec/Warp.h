//===- Warp.h - The state of running warps, blocks and grids ----*- C++ -*-===//
//
// A warp is a set of *splits*: lanes that are at one pc in one frame. A branch
// whose lanes disagree makes two splits and an entry that says where they meet
// again (the immediate post-dominator) and who is expected; a split that arrives
// there waits for the others. All splits of a warp make progress in turns, so
// lanes that spin on what another lane of their warp does are no deadlock.
//
// Blocks hold shared memory, barriers and mbarriers; the grid holds blocks and
// takes turns among their warps. With checks on, each lane carries clocks.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_WARP_H
#define MOERT_EMULATOR_EXEC_WARP_H

#include "runtime/emulator/exec/Code.h"
#include "runtime/emulator/exec/Launch.h"
#include "runtime/emulator/memory/Shadow.h"
#include "runtime/emulator/memory/Sync.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <unordered_map>

namespace moert::emulator {

struct Block;
struct GridState;
struct Warp;

constexpr uint32_t noPc = UINT32_MAX;
/// Shared memory starts here in the shared window, so that address 0 is no shared variable.
constexpr uint32_t sharedStart = 1024;
/// The system's part of shared memory, which cooperative groups of several warps use: %reserved_smem_offset_*. It lies
/// behind a kernel's own, and only where somebody asks for it.
constexpr uint32_t reservedBytes = 1024;
/// Shared addresses of block `rank` of a cluster: (rank + 1) << rankShift | offset; rank bits 0: the own block.
constexpr unsigned rankShift = 24;

/// Registers of one call of one function, for the 32 lanes of a warp.
struct Frame {
  const FunctionCode *code = nullptr;
  std::unique_ptr<uint8_t[]> storage;
  uint8_t *registers = nullptr;
  std::vector<uint32_t> undef;
  Frame *caller = nullptr;
  uint32_t localBase = 0;                           ///< of the function's .local variables, per lane
  std::vector<uint8_t> parameters, results, params; ///< lane-major: lane * bytes + offset
  std::vector<uint32_t> tops;                       ///< per lane, where its local memory ends; empty without alloca

  uint32_t localEnd() const { return localBase + code->localBytes(); }
  /// `size` bytes of a lane's variables for calls (.param), null when they are not all inside.
  uint8_t *callBytes(unsigned lane, uint64_t offset, uint64_t size) {
    const uint64_t stride = code->paramBytes;
    return offset <= stride && size <= stride - offset ? params.data() + lane * stride + offset : nullptr;
  }
  void openStack() {
    if (tops.empty()) {
      tops.assign(32, localEnd());
    }
  }
};

/// Lanes that go on together.
struct Split {
  enum State : uint8_t { Ready, AtSync, AtBarrier, Waiting };
  uint32_t pc = 0;
  uint32_t mask = 0;
  int32_t entry = -1;
  Frame *frame = nullptr;
  State state = Ready;
  uint32_t syncMask = 0; ///< AtSync: lanes that passed the guard
  uint32_t members = 0;  ///< AtSync: who is waited for
  bool passed = false;   ///< AtBarrier: the barrier was completed
  uint64_t barrierResult = 0;
};

/// Where lanes that parted meet again.
struct Entry {
  uint32_t pc = 0;
  uint32_t expected = 0;
  uint32_t arrived = 0;
  int32_t parent = -1;
  Frame *frame = nullptr;
  Frame *callee = nullptr; ///< isReturn: whose results are copied and which is freed
  const Op *call = nullptr;
  bool isReturn = false; ///< the lanes arrive by `ret`; they go on at `pc` in `frame` (the caller's)
  bool used = false;
  uint64_t patience = 0; ///< instructions of turns that asked memory since lanes wait here and nobody else has come
  bool waits() const { return used && arrived && arrived != expected; }
};

/// What one lane knows. Own accesses, and those of the own block and warp up to a time, are kept apart from the clock:
/// they are looked at most.
struct LaneClocks {
  Clock known, proxied; ///< proxied: ordered before asynchronous accesses too
  Clock pending[4],
      pendingProxied[4];     ///< learnt by relaxed reads, by the scope that a fence needs to make it effective
  Clock ordered;             ///< visible behind fence.sc, though not ordered before
  Clock fence, fenceProxied; ///< exported at the last fence, for relaxed writes behind it
  AccessScope fenceScope = ScopeCta;
  Fenced fenced;                         ///< what fence.sc operations knew that are ordered before, own accesses apart
  Time fencedSelf[Fenced::reaches] = {}; ///< own accesses up to the last fence.sc
  Fenced announced;                      ///< the same of those who wrote what was read: known behind a fence.sc
  Time block = 0, warp = 0;
  Time proxiedBlock = 0, proxiedWarp = 0, proxiedSelf = 0;
  Time proxiedCopies = 0; ///< of its cp.async that it had waited for at its last fence.proxy.async

  /// At a barrier: what all who came are behind, this lane among them.
  void handOver(const Fenced &all, const Fenced &allAnnounced) {
    if (all.any) {
      fenced = all;
      std::fill_n(fencedSelf, Fenced::reaches, Time(0));
    }
    if (allAnnounced.any) {
      announced = allAnnounced;
    }
  }
};

/// A cp.async of one warp, not yet landed for the lanes of `mask`.
struct PendingCopy {
  uint32_t mask = 0;
  uint8_t *to[32];
  const uint8_t *from[32];
  uint8_t bytes = 0;
  uint8_t sourceBytes[32];
  uint32_t group[32];
  Shadow *toShadow = nullptr;
  const Shadow *fromShadow[32];
  uint64_t toOffset[32], fromOffset[32];
};

/// An mbarrier object in shared memory.
struct Mbarrier {
  uint32_t expected = 0; ///< arrivals per phase
  uint32_t pending = 0;
  int64_t tx = 0;
  uint64_t phase = 0;                ///< completed phases
  Actor agent = 0;                   ///< for what completes here
  Access initialised;                ///< by mbarrier.init
  bool initFenced = false;           ///< a fence.mbarrier_init followed
  Clock current, currentProxied;     ///< of the running phase
  Clock completed, completedProxied; ///< of the last completed one
  Fenced currentFenced, completedFenced;
};

/// Asynchronous work of a block other than cp.async: lands as a whole.
struct PendingWork {
  uint32_t number = 0;
  Warp *warp = nullptr;
  unsigned lane = 0;
  enum Kind : uint8_t { MbarrierWork, BulkGroup, MmaGroup, Arrive } kind = MbarrierWork;
  uint32_t group = 0;
  bool sourceRead = false; ///< its source has been read (bulk groups)
  std::function<void()> read;
  std::function<void()> land;
};

struct Warp {
  Block *block = nullptr;
  GridState *grid = nullptr;
  uint32_t index = 0; ///< in its block
  Actor actor = 0;
  uint32_t live = 0; ///< lanes that have not exited
  bool checks = false;

  // The running split, copied out for speed.
  uint8_t *base[3] = {nullptr, nullptr, nullptr};
  uint32_t *undef = nullptr;
  Frame *frame = nullptr;
  uint32_t pc = 0;
  uint32_t mask = 0;
  int32_t entry = -1;
  int32_t current = -1; ///< index of the running split

  std::vector<Split> splits;
  std::vector<Entry> entries;
  std::vector<std::unique_ptr<Frame>> frames; ///< in use
  std::vector<std::unique_ptr<Frame>> spareFrames;
  std::vector<uint8_t> specials;
  std::vector<uint8_t> local[32];
  std::vector<uint8_t> localDefined[32];
  uint32_t lastSplit = 0;
  uint32_t clusterTicket = 0; ///< phase of the cluster barrier that it arrived in
  bool yield = false;         ///< gives up its turn
  bool spinning = false;      ///< its last mbarrier test failed
  bool asked = false;         ///< has executed an atomic operation or a strong load in this turn
  bool apart = false;         ///< some lanes went on from a meeting without the others

  static constexpr unsigned keptGroups = 64; ///< of copies, of which the time is remembered
  // cp.async
  std::deque<PendingCopy> copies;
  uint32_t copyGroup[32] = {};
  Time copyTime[32][keptGroups] = {};
  /// The oldest group whose time is remembered when `open` is the running one: the place of one before it is that of a
  /// group under way.
  static uint32_t oldestGroup(uint32_t open) { return open >= keptGroups ? open - (keptGroups - 1) : 0; }
  uint32_t bulkGroup[32] = {};
  Time bulkTime[32][keptGroups] = {};
  const Op *bulkReads[32] = {}; ///< the last bulk copy out of shared memory that no wait has covered
  uint32_t bulkReadGroup[32] = {};
  uint32_t mmaGroup = 0;
  Time mmaTime[16] = {};
  bool mmaFenced = false;
  struct InFlight {
    uint32_t taint; ///< lanes that are truly undefined
    uint32_t group; ///< the last group that writes it
  };
  std::unordered_map<uint32_t, InFlight> mmaInFlight; ///< accumulators of running wgmma, by undef index
  std::unordered_map<uint32_t, uint32_t> mmaSources;  ///< registers of A that they read: the last group, by undef index

  // Clocks (checks on).
  std::vector<LaneClocks> clocks;
  Time asyncKnown[5][32] = {};
  Reach reach, proxiedReach;

  uint64_t instructions = 0, threadInstructions = 0;

  template <typename T> T *at(const Ref &ref) { return reinterpret_cast<T *>(base[ref.base] + ref.offset); }
  uint32_t &predicate(const Ref &ref) { return *at<uint32_t>(ref); }
  uint32_t predicateValue(const Ref &ref) { return *at<uint32_t>(ref) ^ (ref.negated ? ~0U : 0U); }
  uint32_t undefined(const Ref &ref) { return undef[ref.undef]; }
  void setUndefined(const Ref &ref, uint32_t lanes, uint32_t mask) {
    undef[ref.undef] = (undef[ref.undef] & ~mask) | (lanes & mask);
  }
  /// Lane `l` of an integer source, zero-extended as stored.
  uint64_t lane(const Ref &ref, unsigned l) {
    return ref.bits == 64 ? at<uint64_t>(ref)[l] : ref.bits == 1 ? predicateValue(ref) >> l & 1 : at<uint32_t>(ref)[l];
  }
  void setLane(const Ref &ref, unsigned l, uint64_t value) {
    if (ref.bits == 64) {
      at<uint64_t>(ref)[l] = value;
    } else if (ref.bits == 32) {
      at<uint32_t>(ref)[l] = uint32_t(value);
    } else if (ref.bits == 1) {
      uint32_t &p = *at<uint32_t>(ref);
      p = (p & ~(1U << l)) | uint32_t(value & 1) << l;
    }
  }

  // Splits (Control.cpp).
  void load(int32_t split);
  void store();
  int32_t newSplit(uint32_t pc, uint32_t mask, int32_t entry, Frame *frame);
  int32_t newEntry(uint32_t pc, uint32_t expected, int32_t parent, Frame *frame, bool isReturn);
  /// For the lanes of `mask`: the others may be in calls whose local memory lies at the same addresses.
  Frame *newFrame(const FunctionCode &code, Frame *caller, uint32_t mask);
  void freeFrame(Frame *frame);
  /// The lanes go to two pcs; `join` as in Op.
  void diverge(uint32_t takenMask, uint32_t takenPc, uint32_t otherPc, uint32_t join);
  /// The running split has arrived at its entry (or has exited): drops it.
  void dropCurrent();
  void exitLanes(uint32_t mask);
  void release(int32_t entry);
  /// Lanes meet at a warp-wide operation: true when all `members` are here (and `mask` is who executes it).
  bool meet(const Op &op, uint32_t &mask, uint32_t members, bool anyPc);
  /// `count` instructions of a turn that asked memory have passed: lanes that have waited long at a meeting meanwhile
  /// go on without the others, who may be spinning on what only those lanes will do.
  void losePatience(uint64_t count);
  /// Those who wait at that meeting go on.
  void partMeeting(Entry &meeting);
  /// Before an .aligned operation: takes in the lanes that `partMeeting` has set apart. False: waits for them.
  bool regroup();
  /// Executes until blocked, `budget` used up or a fault.
  Step run(uint64_t budget);

  // Clocks (Clocks.cpp).
  /// `own`: with the lane's own accesses.
  Clock exported(unsigned lane, bool own = true);
  Clock exportedProxied(unsigned lane);
  Fenced exportedFenced(unsigned lane);
  void acquire(unsigned lane, const Clock &clock, const Clock &proxied);
  /// Does `lane` know that a block of its cluster runs?
  bool knowsStarted(unsigned lane, const Block &other) const;
  /// Joins what the lanes of `mask` know into both clocks, without their own accesses.
  void contribute(uint32_t mask, Clock &clock, Clock &proxied, Time &block, Time &proxiedBlock);
  void contributeOwn(uint32_t mask, Clock &clock);
  /// The same for what fence.sc operations of the lanes, and those before them, knew.
  void contributeFenced(uint32_t mask, Fenced &fenced, Fenced &announced);
  /// Reports a write to a register that a running wgmma reads or writes.
  void judgeRegisters(const Op &op);
  void refreshReach();
  void fence(uint32_t mask, AccessScope scope, bool sequential);

  // Findings.
  void report(FindingKind kind, const Op &op, unsigned lane, std::string what, bool note = false, uint32_t partner = 0);
  /// What `report` hands on.
  Finding describe(FindingKind kind, const Op &op, unsigned lane, std::string what, bool note, uint32_t partner) const;
  Step fault(FindingKind kind, LaunchError error, const Op &op, unsigned lane, std::string what);
  Dim3 threadOf(unsigned lane) const;
};

/// One of the 16 barriers of a block.
struct NamedBarrier {
  uint32_t arrived = 0;  ///< threads
  uint32_t expected = 0; ///< explicit count; 0: all threads of the block
  struct Waiter {
    Warp *warp;
    int32_t split;
    uint32_t mask;
  };
  std::vector<Waiter> waiters;
  uint32_t arriveOnly = 0; ///< threads that arrived and did not wait
  uint32_t counted = 0;    ///< as explicit thread counts are compared: a warp of an aligned barrier counts whole
  bool active = false;
  uint64_t popc = 0;
  bool all = true, any = false;
  Clock clock, proxied;
  Fenced fenced, announced;
  Time block = 0, proxiedBlock = 0;
};

struct Block {
  GridState *grid = nullptr;
  Dim3 index;
  uint64_t linear = 0;
  uint32_t rank = 0; ///< in its cluster
  Block *clusterFirst = nullptr;
  std::vector<Block *> clusterBlocks;
  Actor actor = 0;
  Time started = 0; ///< in a cluster: known to whoever a thread of this block has told anything, itself included
  std::vector<uint8_t> shared; ///< starts at address sharedStart
  std::unique_ptr<Shadow> shadow;
  SyncTable flags;
  std::vector<std::unique_ptr<Warp>> warps;
  NamedBarrier barriers[16];
  std::unordered_map<uint32_t, Mbarrier> mbarriers;            ///< by shared offset from sharedStart
  std::unordered_map<uint64_t, std::vector<Access>> mapFences; ///< acquiring fences of tensor maps, by address
  std::deque<PendingWork> work;
  uint32_t liveThreads = 0;
  uint32_t liveWarps = 0;
  bool launchedDependents = false;
  uint32_t dependentsThreads = 0;
  // The cluster barrier, kept in the cluster's first block.
  uint32_t clusterArrived = 0;
  std::vector<std::pair<Warp *, int32_t>> clusterWaiters;
  uint32_t clusterPhase = 0;
  Clock clusterClock, clusterProxied, clusterDone, clusterDoneProxied;
  Fenced clusterFenced, clusterDoneFenced;
  /// Who of the cluster has accessed this block's shared memory last, for its exit: by actor and lane.
  struct Visit {
    Time time;
    Warp *warp;
    const Op *op;
    unsigned lane;
    bool copies; ///< the copy that it has issued does
  };
  std::map<std::pair<Actor, unsigned>, Visit> visits;
  Clock exits;      ///< what its exited threads knew
  Clock sequential; ///< DeviceMemory::sequential for fences of the block's or cluster's scope
  Place place;
  AccessCounts counts;
};

struct GridState : Grid {
  const Kernel *kernel = nullptr;
  const Code *code = nullptr;
  DeviceMemory *memory = nullptr;
  FindingSink *sink = nullptr;
  /// Races of a plain read with an atomic, by the sites of both. Whether they are faults is known at the end: a word is
  /// read plainly before a loop of compare-and-swap on it, as CUDA's own manual writes it.
  std::map<std::pair<uint32_t, uint32_t>, Finding> readsBesideAtomics;
  /// Of data of cp.async that were read without a proxy fence: the sites of both, each of which is said once.
  std::set<std::pair<uint32_t, uint32_t>> unfenced;
  LaunchConfig config;
  ExecOptions options;
  std::vector<uint8_t> constants;
  uint64_t parameterAddress = 0;
  uint64_t workspace = 0; ///< cooperative launches: the grid's barrier
  std::vector<uint16_t> specialsUsed;
  uint32_t sharedBytes = 0;
  uint32_t reservedAt = 0; ///< offset of the system's part of shared memory; 0: none
  uint32_t warpsPerBlock = 0;
  uint64_t nextBlock = 0, finishedBlocks = 0;
  uint64_t rotation = 0;
  uint64_t changes = 0;                       ///< grows with everything that can wake somebody
  std::vector<std::unique_ptr<Block>> blocks; ///< resident
  uint32_t launchNumber = 0;
  Actor firstActor = 0;
  Actor mbarrierActors = 0, mbarrierActorsEnd = 0;
  Clock start, finish;
  LaunchError failure = LaunchError::None;
  bool didProgress = false;
  bool primaryIsDone = true;
  Clock primaryClock, afterPrimary; ///< of the primary; together with `start`
  std::mt19937_64 random;
  AccessCounts total;
  uint64_t steps = 0;
  uint64_t virtualTime = 0;
  State state = State::Running;
  uint64_t dependentBlocks = 0;
  uint64_t quietRotations = 0, lastChanges = 0;
  bool ownsMemory = true;                   ///< frees its parameters and workspace
  std::atomic<uint64_t> *tickets = nullptr; ///< of a part of a parallel launch: the next block of the whole
  /// Other parts run on other host threads: strong accesses to global memory are atomic there too (exec/Indivisible.h).
  bool parallel() const { return tickets != nullptr; }

  /// `partOf`: a part of that launch, which shares its parameters and the grid's barrier.
  static Result<std::unique_ptr<GridState>> make(const Kernel &kernel, const LaunchConfig &config,
                                                 const ExecOptions &options, FindingSink &sink,
                                                 const GridState *partOf);
  ~GridState() override;
  State step(uint64_t instructions, bool alone) override;
  State advance(uint64_t instructions, bool alone);
  void reportReadsBesideAtomics();
  bool progressed() const override { return didProgress; }
  bool mayStartDependents() const override;
  void primaryDone(const Clock &clock) override;
  Clock end() const override { return finish; }
  LaunchError error() const override { return failure; }
  const AccessCounts &counts() const override { return total; }

  bool startCluster();
  void startBlock(Block &block);
  /// Lands pending asynchronous work: all of it, or one piece. False when there is none.
  bool landOne(bool random);
  void learnEnd();
  void deadlock();
  Actor newAgent();
};

/// Takes over a launch that has not begun and runs its blocks on options.hostThreads host threads (Parallel.cpp).
std::unique_ptr<Grid> makeParallel(std::unique_ptr<GridState> grid);

// Asynchronous landing (CopyAsync.cpp, Bulk.cpp).
void landCopies(Warp &warp, unsigned lane, uint32_t beforeGroup);
bool landSomeCopy(Warp &warp);

/// A barrier that may have become complete because threads exited.
void barrierCheck(Block &block, unsigned number);
void clusterCheck(Block &block);
/// The other warps of the warpgroup that wait for its wgmma look again (Wgmma.cpp).
void wakeWarpgroup(Warp &warp);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_WARP_H
