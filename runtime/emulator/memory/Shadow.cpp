//===- Shadow.cpp - Pages, read sets and definedness -----------------------===//
//
// The parts of Shadow.h that are not on the path of every access. Reads of one
// cell by actors that know nothing of each other form a set; when it grows
// beyond 16, records of one block become one that speaks of the block. Of strong
// writes the last 32 warps are kept: beyond, the oldest is forgotten, since a
// record that speaks for others would accuse those who did nothing.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/memory/Shadow.h"

#include <algorithm>

namespace moert::emulator {

/// Strong writes of one cell on record.
static constexpr size_t mostStrong = 32;

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

bool Shadow::checkStrong(const StrongWrite &write, const Access &last, const Access &now, bool nowWrites,
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

bool Shadow::orderedStrong(const StrongWrite &write, const Access &now, const Reach &reach, Judge &judge) {
  return eachLane(write.lanes, write.access,
                  [&](const Access &access) { return within(access, now, reach) || judge.ordered(access, true, now); });
}

void Shadow::addStrong(Beneath &beneath, const Access &now, const Reach &reach, Judge &judge) {
  std::vector<StrongWrite> &strong = beneath.strong;
  const uint32_t lanes = now.lane() < 32 ? 1U << now.lane() : 0;
  for (size_t i = strong.size(); i-- > 0;) {
    StrongWrite &other = strong[i];
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
                                [&](const StrongWrite &other) { return orderedStrong(other, now, reach, judge); }),
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
    for (const StrongWrite &other : beneath.strong) {
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
    std::vector<Access> &set = sets[cell.read.actor];
    set.erase(std::remove_if(set.begin(), set.end(),
                             [&](const Access &read) { return !check(read, false) || read.isStrong(); }),
              set.end());
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
  for (const StrongWrite &write : beneath.strong) {
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
  std::vector<Access> &set = sets[cell.read.actor];
  for (const Access &read : set) {
    if (!within(read, now, reach)) {
      slowCheck(read, false, now, true, judge, offset);
    }
  }
  set.clear();
  freeSets.push_back(cell.read.actor);
}

void Shadow::addRead(Cell &cell, const Access &now, const Reach &reach, Judge &judge) {
  if (cell.read.tag != isSet) {
    if (judge.ordered(cell.read, false, now)) {
      cell.read = now;
      return;
    }
    if (cell.read.actor == now.actor && cell.read.kind() == now.kind()) {
      // Two lanes of one warp: from now on the cell speaks of the whole warp.
      cell.read.time = std::max(cell.read.time, now.time);
      cell.read.tag = cell.read.tag | allLanes;
      return;
    }
    uint32_t set = newSet();
    sets[set].push_back(cell.read);
    cell.read.actor = set;
    cell.read.tag = isSet;
  }
  std::vector<Access> &set = sets[cell.read.actor];
  for (Access &read : set) {
    if (read.actor == now.actor && read.kind() == now.kind()) {
      if (judge.ordered(read, false, now)) {
        read = now;
        return;
      }
      read.tag |= read.lane() == now.lane() ? 0 : allLanes;
      read.time = now.time;
      return;
    }
  }
  // Reads that are ordered before this one are dominated by it.
  set.erase(
      std::remove_if(set.begin(), set.end(),
                     [&](const Access &read) { return within(read, now, reach) || judge.ordered(read, false, now); }),
      set.end());
  set.push_back(now);
  if (set.size() <= 16) {
    return;
  }
  // Too many: one record per block, and no more than 64.
  for (Access &read : set) {
    read.tag = (read.tag & ~63U) | wholeBlock;
  }
  std::stable_sort(set.begin(), set.end(),
                   [](const Access &a, const Access &b) { return a.actor / actorsPerWarp < b.actor / actorsPerWarp; });
  size_t kept = 0;
  for (const Access &read : set) {
    Access probe = read;
    if (kept && judge.sameBlock(set[kept - 1], probe)) {
      set[kept - 1].time = std::max(set[kept - 1].time, read.time);
    } else {
      set[kept++] = read;
    }
  }
  set.resize(std::min<size_t>(kept, 64));
}

} // namespace moert::emulator
