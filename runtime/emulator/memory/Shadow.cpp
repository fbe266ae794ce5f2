//===- Shadow.cpp - Pages, read sets and definedness -----------------------===//
//
// The parts of Shadow.h that are not on the path of every access. Reads of one
// cell by actors that know nothing of each other form a set; when it grows
// beyond 16, records of one block become one that speaks of the block.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/memory/Shadow.h"

#include <algorithm>

namespace moert::emulator {

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

void Shadow::slowCheck(const Access &earlier, bool earlierWrites, const Access &now, bool nowWrites, Judge &judge,
                       uint64_t offset) {
  if (mayMeet(earlier, now, judge)) {
    return;
  }
  if (!judge.ordered(earlier, earlierWrites, now)) {
    judge.conflict(earlier, earlierWrites, now, nowWrites, offset);
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
