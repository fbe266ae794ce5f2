//===- Shadow.cpp - Pages, read sets and definedness -----------------------===//
//
// The parts of Shadow.h that are not on the path of every access. Reads of one
// cell by actors that know nothing of each other form a set; when it grows
// beyond 32, records of one block become one that speaks of the block. Of strong
// writes the last 32 warps are kept: beyond, the oldest is forgotten, since a
// record that speaks for others would accuse those who did nothing.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/memory/Shadow.h"

#include <algorithm>

namespace moert::emulator {

/// Strong writes of one cell on record.
static constexpr size_t mostStrong = 32;
/// Reads of one cell on record, of lanes of a warp at one time.
static constexpr size_t mostReads = 32;

Shadow::Shadow(uint64_t size, bool isDefined)
    : bytes(size), defined(size / 8 + 16, isDefined ? 0xFF : 0), pages((size + pageBytes - 1) / pageBytes) {}

bool Shadow::allDefined(uint64_t offset, uint64_t size) const { return firstUndefined(offset, size) == size; }

uint64_t Shadow::firstUndefined(uint64_t offset, uint64_t size) const {
  uint64_t i = 0;
  while (i < size) {
    uint64_t at = offset + i;
    if (at % 8 == 0 && size - i >= 8 && defined[at / 8] == 0xFF) {
      i += 8;
      continue;
    }
    if (!(defined[at / 8] >> at % 8 & 1)) {
      return i;
    }
    ++i;
  }
  return size;
}

void Shadow::setDefined(uint64_t offset, uint64_t size, bool value) {
  uint64_t i = 0;
  while (i < size) {
    uint64_t at = offset + i;
    if (at % 8 == 0 && size - i >= 8) {
      uint64_t whole = (size - i) / 8;
      std::fill_n(defined.begin() + at / 8, whole, value ? 0xFF : 0);
      i += whole * 8;
      continue;
    }
    uint8_t bit = uint8_t(1U << at % 8);
    defined[at / 8] = uint8_t(value ? defined[at / 8] | bit : defined[at / 8] & ~bit);
    ++i;
  }
}

Shadow::Page &Shadow::preparePage(Page &page, uint64_t bits) {
  unsigned shift = bits & 1 ? 0 : bits & 2 ? 1 : 2;
  if (!page.cells) {
    page.shift = shift;
    page.cells.reset(new Cell[pageBytes >> shift]);
  } else if (shift < page.shift) {
    auto finer = std::unique_ptr<Cell[]>(new Cell[pageBytes >> shift]);
    for (uint64_t i = 0; i < pageBytes >> shift; ++i) {
      const Cell &from = page.cells[i >> (page.shift - shift)];
      finer[i] = from;
      if (from.read.time && from.read.tag == isSet) {
        uint32_t copy = newSet();
        sets[copy] = sets[from.read.actor];
        finer[i].read.actor = copy;
      }
    }
    if (page.beneath) {
      auto finerBeneath = std::unique_ptr<uint32_t[]>(new uint32_t[pageBytes >> shift]());
      for (uint64_t i = 0; i < pageBytes >> shift; ++i) {
        if (uint32_t from = page.beneath[i >> (page.shift - shift)]) {
          beneaths.push_back(Beneath(beneaths[from - 1]));
          finerBeneath[i] = uint32_t(beneaths.size());
        }
      }
      page.beneath = std::move(finerBeneath);
    }
    page.cells = std::move(finer);
    page.shift = shift;
  }
  return page;
}

uint32_t Shadow::newSet() {
  if (!freeSets.empty()) {
    uint32_t set = freeSets.back();
    freeSets.pop_back();
    return set;
  }
  sets.emplace_back();
  return uint32_t(sets.size() - 1);
}

Shadow::TileReader &Shadow::tileReader(Actor actor) {
  for (auto &reader : tileReaders) {
    if (reader->actor == actor) {
      return *reader;
    }
  }
  tileReaders.push_back(std::make_unique<TileReader>());
  tileReaders.back()->actor = actor;
  tileReaders.back()->runs.resize(bytes / 16 + 1);
  tileReaders.back()->judged.resize(bytes / 16 + 1);
  return *tileReaders.back();
}

void Shadow::writeTiles(uint64_t offset, uint64_t size, const Access &now, const Reach &reach, Judge &judge) {
  for (auto &reader : tileReaders) {
    Access ordered;
    for (uint64_t run = offset / 16; run <= (offset + size - 1) / 16; ++run) {
      Access &read = reader->runs[run];
      if (read.time == 0) {
        continue;
      }
      if (read.time > ordered.time && !within(read, now, reach)) {
        if (judge.ordered(read, false, now)) {
          ordered = read;
        } else {
          judge.conflict(read, false, now, true, std::max(offset, run * 16));
        }
      }
      // A run that is written in parts keeps its read for the others.
      if (offset <= run * 16 && run * 16 + 16 <= offset + size) {
        read.time = 0;
      }
    }
  }
}

bool Shadow::slowCheck(const Access &earlier, bool earlierWrites, const Access &now, bool nowWrites, Judge &judge,
                       uint64_t offset) {
  if (mayMeet(earlier, now, judge) || judge.ordered(earlier, earlierWrites, now)) {
    return true;
  }
  judge.conflict(earlier, earlierWrites, now, nowWrites, offset);
  return false;
}

/// visit(access) for each lane until one says no.
template <typename F> static bool eachLane(uint32_t lanes, Access access, F visit) {
  if (!lanes) {
    return visit(access);
  }
  for (; lanes; lanes &= lanes - 1) {
    access.tag = (access.tag & ~63U) | unsigned(__builtin_ctz(lanes));
    if (!visit(access)) {
      return false;
    }
  }
  return true;
}

bool Shadow::checkStrong(const WarpAccess &write, const Access &last, const Access &now, bool nowWrites,
                         const Reach &reach, Judge &judge, uint64_t offset) {
  if (inReach(write.access, reach) || mayMeet(write.access, now, judge)) {
    return true;
  }
  judge.superseded = write.access.actor != last.actor || write.access.time != last.time;
  const bool fine = eachLane(write.lanes, write.access, [&](const Access &access) {
    return within(access, now, reach) || slowCheck(access, true, now, nowWrites, judge, offset);
  });
  judge.superseded = false;
  return fine;
}

bool Shadow::orderedLanes(const WarpAccess &earlier, bool earlierWrites, const Access &now, const Reach &reach,
                          Judge &judge) {
  return eachLane(earlier.lanes, earlier.access, [&](const Access &access) {
    return within(access, now, reach) || judge.ordered(access, earlierWrites, now);
  });
}

/// The lane of `access` as a mask; 0 of what speaks of more than one.
static uint32_t laneMask(const Access &access) { return access.lane() < 32 ? 1U << access.lane() : 0; }

void Shadow::addStrong(Beneath &beneath, const Access &now, const Reach &reach, Judge &judge) {
  std::vector<WarpAccess> &strong = beneath.strong;
  const uint32_t lanes = laneMask(now);
  for (size_t i = strong.size(); i-- > 0;) {
    WarpAccess &other = strong[i];
    if (other.access.actor != now.actor || (other.lanes == 0) != (lanes == 0)) {
      continue;
    }
    if (other.access.time == now.time && ((other.access.tag ^ now.tag) & ~63U) == 0) {
      other.lanes |= lanes;
      return;
    }
    // What a lane has written is ordered behind what it wrote before.
    other.lanes &= ~lanes;
    if (!other.lanes) {
      strong.erase(strong.begin() + long(i));
    }
  }
  if (strong.size() >= mostStrong) {
    strong.erase(std::remove_if(strong.begin(), strong.end(),
                                [&](const WarpAccess &other) { return orderedLanes(other, true, now, reach, judge); }),
                 strong.end());
  }
  if (strong.size() >= mostStrong) {
    strong.erase(strong.begin());
  }
  strong.push_back({now, lanes});
}

void Shadow::writeStrong(Page &page, Cell &cell, const Access &now, const Reach &reach, Judge &judge, uint64_t offset) {
  if (!page.beneath) {
    page.beneath.reset(new uint32_t[pageBytes >> page.shift]());
  }
  uint32_t &index = page.beneath[&cell - page.cells.get()];
  if (!index) {
    beneaths.emplace_back();
    index = uint32_t(beneaths.size());
  }
  Beneath &beneath = beneaths[index - 1];
  auto check = [&](const Access &earlier, bool writes) {
    return within(earlier, now, reach) || slowCheck(earlier, writes, now, true, judge, offset);
  };
  if (!cell.write.isStrong()) {
    beneath.plain = cell.write;
    beneath.strong.clear();
  } else {
    for (const WarpAccess &other : beneath.strong) {
      if (std::min(other.access.scope(), now.scope()) < ScopeGpu) {
        checkStrong(other, cell.write, now, true, reach, judge, offset);
      }
    }
    check(cell.write, true);
    judge.superseded = true;
  }
  if (beneath.plain.time && !check(beneath.plain, true)) {
    beneath.plain.time = 0; // said once
  }
  judge.superseded = false;
  // Strong reads need no order; plain ones stay on record for the next strong write.
  if (cell.read.time && cell.read.tag == isSet) {
    std::vector<WarpAccess> &set = sets[cell.read.actor];
    auto goes = [&](const WarpAccess &read) {
      auto fine = [&](const Access &lane) { return check(lane, false); };
      return !eachLane(read.lanes, read.access, fine) || read.access.isStrong();
    };
    set.erase(std::remove_if(set.begin(), set.end(), goes), set.end());
    if (set.empty()) {
      freeSets.push_back(cell.read.actor);
      cell.read = Access();
    }
  } else if (cell.read.time && (!check(cell.read, false) || cell.read.isStrong())) {
    cell.read = Access();
  }
  addStrong(beneath, now, reach, judge);
  cell.write = now;
}

void Shadow::judgeStrong(Page &page, Cell &cell, const Access &now, bool nowWrites, const Reach &reach, Judge &judge,
                         uint64_t offset) {
  Beneath &beneath = beneaths[page.beneath[&cell - page.cells.get()] - 1];
  for (const WarpAccess &write : beneath.strong) {
    checkStrong(write, cell.write, now, nowWrites, reach, judge, offset);
  }
  judge.superseded = true;
  if (beneath.plain.time && !within(beneath.plain, now, reach) &&
      !slowCheck(beneath.plain, true, now, nowWrites, judge, offset)) {
    beneath.plain.time = 0;
  }
  judge.superseded = false;
  if (nowWrites) {
    beneath.strong.clear();
  }
}

void Shadow::judgeBeneath(Page &page, uint64_t offset, unsigned size, const Access &now, const Reach &reach,
                          Judge &judge) {
  for (uint64_t at = offset; at < offset + size; at += 1U << page.shift) {
    Cell &cell = page.cells[at % pageBytes >> page.shift];
    if (cell.write.isStrong()) {
      judgeStrong(page, cell, now, false, reach, judge, at);
    }
  }
}

void Shadow::checkSet(Cell &cell, const Access &now, const Reach &reach, Judge &judge, uint64_t offset) {
  std::vector<WarpAccess> &set = sets[cell.read.actor];
  for (const WarpAccess &read : set) {
    eachLane(read.lanes, read.access, [&](const Access &access) {
      return within(access, now, reach) || slowCheck(access, false, now, true, judge, offset);
    });
  }
  set.clear();
  freeSets.push_back(cell.read.actor);
}

bool Shadow::joinReads(Cell &cell, const Access &now) {
  std::vector<WarpAccess> &set = sets[cell.read.actor];
  const uint32_t lanes = laneMask(now);
  bool joined = false;
  for (size_t i = set.size(); i-- > 0;) {
    WarpAccess &read = set[i];
    if (read.access.actor != now.actor || read.access.kind() != now.kind() || read.access.lane() == wholeBlock) {
      continue;
    }
    if (read.access.time == now.time) {
      joined = true;
      read.lanes = read.lanes && lanes ? read.lanes | lanes : 0;
      if (!read.lanes || read.lanes == ~0U) {
        read.lanes = 0;
        read.access.tag |= allLanes;
      }
    } else if (now.kind() != AsyncAccess && lanes) {
      // What a lane reads is ordered behind what it read before.
      read.lanes = (read.lanes ? read.lanes : ~0U) & ~lanes;
      if (!read.lanes) {
        set.erase(set.begin() + long(i));
      }
    }
  }
  if (joined && set.size() == 1 && !set[0].lanes) {
    freeSets.push_back(cell.read.actor);
    cell.read = set[0].access;
    set.clear();
  }
  return joined;
}

void Shadow::addRead(Cell &cell, const Access &now, const Reach &reach, Judge &judge) {
  if (cell.read.tag != isSet) {
    const Access &read = cell.read;
    const bool together = read.actor == now.actor && read.kind() == now.kind() && read.time == now.time;
    if (together && read.lane() == allLanes) {
      return;
    }
    if (!together && judge.ordered(read, false, now)) {
      cell.read = now;
      return;
    }
    uint32_t set = newSet();
    sets[set].push_back({cell.read, laneMask(cell.read)});
    cell.read.actor = set;
    cell.read.tag = isSet;
  }
  if (joinReads(cell, now)) {
    return;
  }
  std::vector<WarpAccess> &set = sets[cell.read.actor];
  // Reads that are ordered before this one are dominated by it.
  set.erase(std::remove_if(set.begin(), set.end(),
                           [&](const WarpAccess &read) { return orderedLanes(read, false, now, reach, judge); }),
            set.end());
  set.push_back({now, laneMask(now)});
  if (set.size() <= mostReads) {
    return;
  }
  // Too many: one record per block, and no more than 64.
  for (WarpAccess &read : set) {
    read.access.tag = (read.access.tag & ~63U) | wholeBlock;
    read.lanes = 0;
  }
  std::stable_sort(set.begin(), set.end(), [](const WarpAccess &a, const WarpAccess &b) {
    return a.access.actor / actorsPerWarp < b.access.actor / actorsPerWarp;
  });
  size_t kept = 0;
  for (const WarpAccess &read : set) {
    if (kept && judge.sameBlock(set[kept - 1].access, read.access)) {
      set[kept - 1].access.time = std::max(set[kept - 1].access.time, read.access.time);
    } else {
      set[kept++] = read;
    }
  }
  set.resize(std::min<size_t>(kept, 64));
}

} // namespace moert::emulator
