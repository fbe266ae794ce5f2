//===- Clock.cpp - Vector clocks -------------------------------------------===//
//
// See Clock.h. Entries are sorted by key and shared until somebody writes.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/memory/Clock.h"

#include <algorithm>

namespace moert::emulator {

uint32_t Actors::addLaunch(std::string name) {
  names.push_back(std::move(name));
  return uint32_t(names.size() - 1);
}

Actor Actors::addRange(uint32_t launch, uint32_t count, uint32_t actorsPerBlock, uint32_t blocksPerCluster,
                       uint32_t device) {
  ActorRange range;
  range.first = Actor(chunks.size() * chunkSize);
  uint32_t needed = (std::max(count, 1U) + chunkSize - 1) / chunkSize;
  range.end = range.first + count;
  range.actorsPerBlock = actorsPerBlock;
  range.blocksPerCluster = blocksPerCluster;
  range.launch = launch;
  range.device = device;
  chunks.insert(chunks.end(), needed, uint32_t(ranges.size()));
  ranges.push_back(range);
  return range.first;
}

Clock &Clock::operator=(const Clock &other) {
  if (data != other.data) {
    other.retain();
    release();
    data = other.data;
  }
  return *this;
}

Clock &Clock::operator=(Clock &&other) noexcept {
  std::swap(data, other.data);
  return *this;
}

void Clock::release() {
  if (data && --data->references == 0) {
    delete data;
  }
  data = nullptr;
}

Clock::Data &Clock::own() {
  if (!data) {
    data = new Data;
  } else if (data->references > 1) {
    Data *copy = new Data(*data);
    copy->references = 1;
    --data->references;
    data = copy;
  }
  return *data;
}

Clock Clock::upTo(Time time) {
  Clock clock;
  clock.own().floor = time;
  return clock;
}

Time Clock::find(uint64_t key) const {
  if (!data) {
    return 0;
  }
  auto it = std::lower_bound(data->entries.begin(), data->entries.end(), key,
                             [](const Entry &entry, uint64_t wanted) { return entry.key < wanted; });
  return it != data->entries.end() && it->key == key ? it->time : 0;
}

void Clock::learn(uint64_t key, Time time) {
  if (time <= floor() || find(key) >= time) {
    return;
  }
  Data &mine = own();
  auto it = std::lower_bound(mine.entries.begin(), mine.entries.end(), key,
                             [](const Entry &entry, uint64_t wanted) { return entry.key < wanted; });
  if (it != mine.entries.end() && it->key == key) {
    it->time = time;
  } else {
    mine.entries.insert(it, {key, time});
  }
}

bool Clock::covers(const Clock &other) const {
  if (!other.data || data == other.data) {
    return true;
  }
  if (!data || other.data->floor > data->floor) {
    return false;
  }
  for (const Entry &entry : other.data->entries) {
    if (entry.time > data->floor && find(entry.key) < entry.time) {
      return false;
    }
  }
  return true;
}

void Clock::join(const Clock &other) {
  if (!data) {
    *this = other;
    return;
  }
  if (covers(other)) {
    return; // keep sharing
  }
  Data *merged = new Data;
  merged->floor = std::max(data->floor, other.data->floor);
  const auto &a = data->entries, &b = other.data->entries;
  size_t i = 0, j = 0;
  while (i < a.size() || j < b.size()) {
    Entry next;
    if (j == b.size() || (i < a.size() && a[i].key < b[j].key)) {
      next = a[i++];
    } else if (i == a.size() || b[j].key < a[i].key) {
      next = b[j++];
    } else {
      next = {a[i].key, std::max(a[i].time, b[j].time)};
      ++i;
      ++j;
    }
    if (next.time > merged->floor) {
      merged->entries.push_back(next);
    }
  }
  release();
  data = merged;
}

void Clock::forgetBlock(Actor firstOfBlock, Actor endOfBlock, Time time) {
  if (!data) {
    return;
  }
  auto inside = [&](const Entry &entry) {
    unsigned group = entry.key & 7;
    uint64_t actor = group == 0 ? entry.key >> 9 : entry.key >> 3;
    return group <= 2 && entry.time <= time && actor >= firstOfBlock && actor < endOfBlock &&
           (group == 2 || actor % actorsPerWarp == AgentThreads);
  };
  if (std::none_of(data->entries.begin(), data->entries.end(), inside)) {
    return;
  }
  Data &mine = own();
  mine.entries.erase(std::remove_if(mine.entries.begin(), mine.entries.end(), inside), mine.entries.end());
}

bool Clock::knows(const Actors &actors, Actor actor, unsigned lane, Time time) const {
  if (!data) {
    return false;
  }
  if (time <= data->floor) {
    return true;
  }
  if (data->entries.empty()) {
    return false;
  }
  constexpr unsigned wholeBlock = 62; // Shadow.h: an access of several warps of one block
  if (lane != wholeBlock && find(warpKey(actor)) >= time) {
    return true;
  }
  if (lane < 32) {
    if (find(laneKey(actor, lane)) >= time) {
      return true;
    }
  }
  const ActorRange &range = actors.rangeOf(actor);
  if (find(launchKey(range.launch)) >= time) {
    return true;
  }
  // A block entry speaks of its threads, not of what they left in flight.
  if (range.actorsPerBlock != 0 && (actor - range.first) % actorsPerWarp == AgentThreads) {
    Actor block = actor - (actor - range.first) % range.actorsPerBlock;
    if (find(blockKey(block)) >= time) {
      return true;
    }
    uint32_t perCluster = range.actorsPerBlock * range.blocksPerCluster;
    Actor cluster = actor - (actor - range.first) % perCluster;
    if (find(clusterKey(cluster)) >= time) {
      return true;
    }
  }
  if (lane == allLanes) {
    for (unsigned l = 0; l < 32; ++l) {
      if (find(laneKey(actor, l)) < time) {
        return false;
      }
    }
    return true;
  }
  return false;
}

} // namespace moert::emulator
