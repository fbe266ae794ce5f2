//===- Clock.h - Who knows what happened before -----------------*- C++ -*-===//
//
// Vector clocks for many thousand threads. There is one counter of time per
// process; it ticks at every release. A clock says, for each actor, up to which
// time its accesses are ordered before the owner of the clock. Because threads
// learn about each other in groups (a barrier tells about a whole block, the end
// of a kernel about all of its blocks), an entry may speak of a lane, a warp, a
// block, a cluster or a grid; an access is known when the clock's floor or any
// entry of a group that holds its actor reaches its time.
//
// Example: block 3 passes bar.sync at time 70: the clocks of its threads hold
// (block 3, 70). Thread 0 stores a flag with release, a thread of block 5 loads
// it with acquire at time 90: its clock now holds (block 3, 70) too, and the
// stores of any thread of block 3 before the barrier are ordered before it.
//
// An *actor* is a warp, one of the asynchronous agents of a warp (its cp.async
// copies, its bulk copies, its wgmma), an mbarrier (for what completes on it) or
// a host command. Clocks say nothing about values.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_MEMORY_CLOCK_H
#define MOERT_EMULATOR_MEMORY_CLOCK_H

#include <cstdint>
#include <string>
#include <vector>

namespace moert::emulator {

using Time = uint32_t;
using Actor = uint32_t;

/// Actors per warp: the warp itself and its asynchronous agents.
enum Agent : unsigned { AgentThreads = 0, AgentCopy = 1, AgentBulkRead = 2, AgentBulkWrite = 3, AgentMma = 4 };
constexpr unsigned actorsPerWarp = 8;
constexpr unsigned allLanes = 63;

/// A grid of actors: actors of one launch are contiguous, blocks within it too.
struct ActorRange {
  Actor first = 0;
  Actor end = 0;
  uint32_t actorsPerBlock = 1; ///< 0: no blocks (mbarriers, host commands)
  uint32_t blocksPerCluster = 1;
  uint32_t launch = 0; ///< which launch or host command this belongs to
  uint32_t device = 0;
};

/// All actors there are, and the one counter of time.
class Actors {
public:
  /// A new launch (or host command): its number, to which ranges are then added.
  uint32_t addLaunch(std::string name);
  const std::string &launchName(uint32_t launch) const { return names[launch]; }
  /// `count` new actors of `launch`; the first one.
  Actor addRange(uint32_t launch, uint32_t count, uint32_t actorsPerBlock, uint32_t blocksPerCluster, uint32_t device);
  const ActorRange &rangeOf(Actor actor) const { return ranges[chunks[actor / chunkSize]]; }

  Time now() const { return time; }
  /// The time before the tick: what was done up to now carries at most this time.
  Time tick() { return time++; }

private:
  static constexpr uint32_t chunkSize = 256;
  Time time = 1;
  std::vector<uint32_t> chunks;
  std::vector<ActorRange> ranges;
  std::vector<std::string> names;
};

/// An immutable, shared set of entries, or none: everything up to `floor` is known.
class Clock {
public:
  struct Entry {
    uint64_t key;
    Time time;
  };

  Clock() = default;
  Clock(const Clock &other) : data(other.data) { retain(); }
  Clock(Clock &&other) noexcept : data(other.data) { other.data = nullptr; }
  Clock &operator=(const Clock &other);
  Clock &operator=(Clock &&other) noexcept;
  ~Clock() { release(); }

  /// Knows everything up to `time`.
  static Clock upTo(Time time);

  static uint64_t laneKey(Actor actor, unsigned lane) { return (uint64_t(actor) << 6 | lane) << 3 | 0; }
  static uint64_t warpKey(Actor actor) { return uint64_t(actor) << 3 | 1; }
  static uint64_t blockKey(Actor firstOfBlock) { return uint64_t(firstOfBlock) << 3 | 2; }
  static uint64_t clusterKey(Actor firstOfCluster) { return uint64_t(firstOfCluster) << 3 | 3; }
  static uint64_t launchKey(uint32_t launch) { return uint64_t(launch) << 3 | 4; }

  /// Learns all that `other` knows.
  void join(const Clock &other);
  /// Whether joining `other` would teach nothing.
  bool covers(const Clock &other) const;
  /// Learns one entry.
  void learn(uint64_t key, Time time);
  /// Drops entries about threads of one block that knowing the whole block up to `time` makes superfluous.
  void forgetBlock(Actor firstOfBlock, Actor endOfBlock, Time time);

  /// Is an access of `lane` (or allLanes: of the whole warp) of `actor` at `time` ordered before the clock's owner?
  bool knows(const Actors &actors, Actor actor, unsigned lane, Time time) const;
  Time floor() const { return data ? data->floor : 0; }
  Time find(uint64_t key) const;
  bool sameAs(const Clock &other) const { return data == other.data; }
  bool empty() const { return !data; }
  size_t size() const { return data ? data->entries.size() : 0; }

private:
  struct Data {
    uint32_t references = 1;
    Time floor = 0;
    std::vector<Entry> entries; ///< sorted by key
  };

  Data *data = nullptr;

  void retain() const {
    if (data) {
      ++data->references;
    }
  }
  void release();
  /// The data, of this clock alone.
  Data &own();
};

} // namespace moert::emulator

#endif // MOERT_EMULATOR_MEMORY_CLOCK_H
