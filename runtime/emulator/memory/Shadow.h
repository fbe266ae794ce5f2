//===- Shadow.h - Who wrote and read each byte, and is it defined -*- C++ -*-===//
//
// The shadow of one piece of memory (an allocation, or the shared memory of a
// block). Two things per byte: whether it is defined (a bit), and the last write
// and the reads since then, each with actor, lane, time and place. A cell speaks
// of 4 bytes; a page of 1 KiB on which somebody accesses fewer bytes is split to
// cells of 2 or 1 bytes, so that neighbours do not seem to race.
//
// `access` is called for every access of a lane and does the judging: a conflict
// is an access not ordered after an earlier one, of which at least one writes,
// unless both are strong and in scope of each other. What is ordered the caller
// knows: cheap bounds first (Reach), its clock after (Judge).
//
// Strong writes need no order among each other, so that the last of them says
// nothing of the others, nor of the plain write before them: a cell that is
// written strongly keeps these too (Beneath). What a run happens to execute first
// must not decide whether a race is found.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_MEMORY_SHADOW_H
#define MOERT_EMULATOR_MEMORY_SHADOW_H

#include "runtime/emulator/memory/Clock.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

namespace moert::emulator {

/// How an access takes part in the memory model.
enum AccessKind : unsigned { Weak = 0, Strong = 1, AtomicAccess = 2, AsyncAccess = 3 };
/// Scopes in the order of their size.
enum AccessScope : unsigned { ScopeCta = 0, ScopeCluster = 1, ScopeGpu = 2, ScopeSys = 3 };

/// One access: who, when, where. `tag` packs lane, kind, scope and the number of the site.
struct Access {
  Time time = 0; ///< 0: none
  Actor actor = 0;
  uint32_t tag = 0;

  unsigned lane() const { return tag & 63; }
  /// Strong, or atomic: bit 7 of the tag plus 1 in bits 6 and 7.
  bool isStrong() const { return (((tag >> 6) + 1) & 2) != 0; }
  AccessKind kind() const { return AccessKind(tag >> 6 & 3); }
  AccessScope scope() const { return AccessScope(tag >> 8 & 3); }
  uint32_t site() const { return tag >> 10; }
  static uint32_t makeTag(unsigned lane, AccessKind kind, AccessScope scope, uint32_t site) {
    return lane | unsigned(kind) << 6 | unsigned(scope) << 8 | site << 10;
  }
};

/// Lanes of reads that speak of more than a warp.
constexpr unsigned wholeBlock = 62;

/// Bounds below which everything is ordered before the accessor.
struct Reach {
  Time floor = 0;                     ///< of anybody
  Time block = 0;                     ///< of threads of the own block
  Actor blockFirst = 0, blockEnd = 0; ///< the own block
};

/// Asked when the bounds do not tell.
class Judge {
public:
  virtual ~Judge() = default;
  bool superseded = false; ///< the earlier write is not the last one: memory does not hold its bytes
  /// Is `earlier` ordered before the access `now`? (Never asked about the accessor itself.)
  virtual bool ordered(const Access &earlier, bool earlierWrites, const Access &now) = 0;
  /// May `now` and `earlier`, both strong, touch the same bytes unordered (scopes include each other)?
  virtual bool stronglyRelated(const Access &earlier, const Access &now) = 0;
  /// Do both belong to one block?
  virtual bool sameBlock(const Access &a, const Access &b) = 0;
  /// `now` conflicts with `earlier` at `offset`.
  virtual void conflict(const Access &earlier, bool earlierWrites, const Access &now, bool nowWrites,
                        uint64_t offset) = 0;
};

class Shadow {
public:
  Shadow(uint64_t size, bool defined);

  // Definedness: one bit per byte.
  bool allDefined(uint64_t offset, uint64_t size) const;
  /// The definedness of up to 16 bytes, bit i of byte offset + i.
  uint32_t definedBits(uint64_t offset, unsigned size) const {
    uint64_t word;
    std::memcpy(&word, defined.data() + offset / 8, 8);
    return uint32_t(word >> offset % 8) & ((1U << size) - 1);
  }
  void setDefinedBits(uint64_t offset, unsigned size, uint32_t bits) {
    uint64_t word;
    std::memcpy(&word, defined.data() + offset / 8, 8);
    uint64_t mask = uint64_t((1U << size) - 1) << offset % 8;
    word = (word & ~mask) | (uint64_t(bits) << offset % 8 & mask);
    std::memcpy(defined.data() + offset / 8, &word, 8);
  }
  void setDefined(uint64_t offset, uint64_t size, bool value);
  uint64_t firstUndefined(uint64_t offset, uint64_t size) const;

  /// Judges and records an access of `size` bytes at `offset`.
  void access(uint64_t offset, uint64_t size, bool write, const Access &now, const Reach &reach, Judge &judge) {
    if (write && !tileReaders.empty()) {
      writeTiles(offset, size, now, reach, judge);
    }
    while (size) {
      uint64_t index = offset / pageBytes;
      uint64_t in = offset % pageBytes;
      uint64_t count = std::min<uint64_t>(size, pageBytes - in);
      Page &page = pageAt(index, in, count);
      page.writes += write;
      Cell *cell = &page.cells[in >> page.shift];
      Cell *end = &page.cells[(in + count - 1) >> page.shift];
      for (; cell <= end; ++cell) {
        if (write) {
          writeCell(page, *cell, now, reach, judge, offset);
        } else {
          readCell(page, *cell, now, reach, judge, offset);
        }
      }
      offset += count;
      size -= count;
    }
  }
  /// The same for 32 lanes of 4 bytes each, one behind the other; `now.tag` is that of lane 0.
  void accessWarp(uint64_t offset, bool write, Access now, const Reach &reach, Judge &judge) {
    uint64_t index = offset / pageBytes, in = offset % pageBytes;
    if (in + 128 > pageBytes || pageAt(index, in, 4).shift != 2 || (write && !tileReaders.empty())) {
      for (unsigned l = 0; l < 32; ++l, ++now.tag, offset += 4) {
        access(offset, 4, write, now, reach, judge);
      }
      return;
    }
    Page &page = pages[index];
    page.writes += write;
    Cell *cell = &page.cells[in / 4];
    for (unsigned l = 0; l < 32; ++l, ++now.tag, ++cell) {
      if (write) {
        writeCell(page, *cell, now, reach, judge, offset + l * 4);
      } else {
        readCell(page, *cell, now, reach, judge, offset + l * 4);
      }
    }
  }
  uint64_t size() const { return bytes; }
  /// seen(read) for every read of the cell at `offset` that is on record and not older than its last write.
  template <typename Seen> void forEachRead(uint64_t offset, Seen seen) const {
    const Page &page = pages[offset / pageBytes];
    if (!page.cells) {
      return;
    }
    const Cell &cell = page.cells[offset % pageBytes >> page.shift];
    auto one = [&](const Access &read) {
      if (read.time >= cell.write.time) {
        seen(read);
      }
    };
    if (cell.read.time && cell.read.tag == isSet) {
      for (const WarpAccess &read : sets[cell.read.actor]) {
        one(read.access);
      }
    } else if (cell.read.time) {
      one(cell.read);
    }
  }

  /// Reads of whole tiles by one matrix unit: the last one of every 16 bytes since they were written. Kept apart from
  /// the cells, since several warps read the same tiles again and again.
  struct TileReader {
    Actor actor = 0;
    std::vector<Access> runs;     ///< by offset / 16
    std::vector<uint32_t> judged; ///< Page::writes that these reads have been judged against
  };
  TileReader &tileReader(Actor actor);
  /// A read of 16 bytes at `offset` (a multiple of 16). `ordered`: a write that was found to be ordered before, kept
  /// by the caller from run to run; writes of the same lane up to its time need no second look.
  void readTile(TileReader &reader, uint64_t offset, const Access &now, const Reach &reach, Judge &judge,
                Access &ordered) {
    // What was ordered before an earlier read of the unit is before this one, too.
    const Page &page = pages[offset / pageBytes];
    if (reader.judged[offset / 16] != page.writes) {
      judgeWrites(offset, 16, now, reach, judge, ordered);
      reader.judged[offset / 16] = page.writes;
    }
    reader.runs[offset / 16] = now;
  }
  /// Judges a read of `size` bytes (8 or 16, aligned) against the last writes, and leaves no trace of it.
  void judgeWrites(uint64_t offset, unsigned size, const Access &now, const Reach &reach, Judge &judge,
                   Access &ordered) {
    Page &page = pages[offset / pageBytes];
    if (page.cells) {
      Cell *cell = &page.cells[offset % pageBytes >> page.shift];
      const Cell *end = cell + (size >> page.shift);
      for (; cell != end; ++cell) {
        const Access &write = cell->write;
        if (write.time == 0 || within(write, now, reach) ||
            (write.actor == ordered.actor && ((write.tag ^ ordered.tag) & 0xFF) == 0 && write.time <= ordered.time)) {
          continue;
        }
        if (judge.ordered(write, true, now)) {
          ordered = write;
        } else if (!mayMeet(write, now, judge)) {
          judge.conflict(write, true, now, false, offset);
        }
      }
      if (__builtin_expect(page.beneath != nullptr, 0)) {
        judgeBeneath(page, offset, size, now, reach, judge);
      }
    }
  }

private:
  static constexpr uint64_t pageBytes = 1024;
  static constexpr uint32_t isSet = UINT32_MAX; ///< Access::tag of a read that is an index into `sets` (in actor)

  struct Cell {
    Access write;
    Access read;
  };
  /// Reads, or strong writes, by lanes of one warp at one place and time; `lanes` 0: those that `access` names.
  struct WarpAccess {
    Access access;
    uint32_t lanes = 0;
  };
  /// Of a cell whose last write is strong: the plain write before, and the strong ones since.
  struct Beneath {
    Access plain;
    std::vector<WarpAccess> strong; ///< with the last
  };
  struct Page {
    unsigned shift = 2;
    std::unique_ptr<Cell[]> cells;
    uint32_t writes = 0;                 ///< how many there have been
    std::unique_ptr<uint32_t[]> beneath; ///< per cell an index into `beneaths`, plus 1; null: none was written strongly
  };

  uint64_t bytes;
  std::vector<uint8_t> defined;
  std::vector<Page> pages;
  std::vector<std::vector<WarpAccess>> sets;
  std::vector<uint32_t> freeSets;
  std::vector<Beneath> beneaths;
  std::vector<std::unique_ptr<TileReader>> tileReaders;

  Page &pageAt(uint64_t index, uint64_t in, uint64_t count) {
    Page &page = pages[index];
    if (page.cells && ((in | count) & ((1U << page.shift) - 1)) == 0) {
      return page;
    }
    return preparePage(page, in | count);
  }
  Page &preparePage(Page &page, uint64_t bits);
  uint32_t newSet();

  static bool inReach(const Access &earlier, const Reach &reach) {
    return earlier.time <= reach.floor ||
           (earlier.time <= reach.block && earlier.actor >= reach.blockFirst && earlier.actor < reach.blockEnd &&
            earlier.actor % actorsPerWarp == AgentThreads);
  }
  static bool within(const Access &earlier, const Access &now, const Reach &reach) {
    return inReach(earlier, reach) ||
           (earlier.actor == now.actor && earlier.lane() == now.lane() && earlier.kind() != AsyncAccess);
  }
  void writeCell(Page &page, Cell &cell, const Access &now, const Reach &reach, Judge &judge, uint64_t offset) {
    if (__builtin_expect(now.isStrong(), 0)) {
      writeStrong(page, cell, now, reach, judge, offset);
      return;
    }
    if (__builtin_expect(cell.write.isStrong(), 0)) {
      judgeStrong(page, cell, now, true, reach, judge, offset);
    } else if (cell.write.time && !within(cell.write, now, reach)) {
      slowCheck(cell.write, true, now, true, judge, offset);
    }
    if (cell.read.time) {
      if (cell.read.tag == isSet) {
        checkSet(cell, now, reach, judge, offset);
      } else if (!within(cell.read, now, reach)) {
        slowCheck(cell.read, false, now, true, judge, offset);
      }
      cell.read.time = 0;
      cell.read.tag = 0;
    }
    cell.write = now;
  }
  void readCell(Page &page, Cell &cell, const Access &now, const Reach &reach, Judge &judge, uint64_t offset) {
    if (__builtin_expect(cell.write.isStrong(), 0)) {
      judgeStrong(page, cell, now, false, reach, judge, offset);
    } else if (cell.write.time && !within(cell.write, now, reach)) {
      slowCheck(cell.write, true, now, false, judge, offset);
    }
    if (cell.read.time == 0 || (cell.read.tag != isSet && within(cell.read, now, reach))) {
      cell.read = now;
    } else {
      addRead(cell, now, reach, judge);
    }
  }
  /// Are both strong, within each other's scope?
  static bool mayMeet(const Access &earlier, const Access &now, Judge &judge) {
    return earlier.kind() != Weak && earlier.kind() != AsyncAccess && now.kind() != Weak && now.kind() != AsyncAccess &&
           judge.stronglyRelated(earlier, now);
  }
  /// A write against the reads of tiles.
  void writeTiles(uint64_t offset, uint64_t size, const Access &now, const Reach &reach, Judge &judge);
  /// False when `earlier` conflicts, which it then reports.
  bool slowCheck(const Access &earlier, bool earlierWrites, const Access &now, bool nowWrites, Judge &judge,
                 uint64_t offset);
  void checkSet(Cell &cell, const Access &now, const Reach &reach, Judge &judge, uint64_t offset);
  /// A strong write: judged against the plain write and the plain reads on record, which stay.
  void writeStrong(Page &page, Cell &cell, const Access &now, const Reach &reach, Judge &judge, uint64_t offset);
  /// Any other access to a cell that was written strongly.
  void judgeStrong(Page &page, Cell &cell, const Access &now, bool nowWrites, const Reach &reach, Judge &judge,
                   uint64_t offset);
  /// The same for all cells of `size` bytes.
  void judgeBeneath(Page &page, uint64_t offset, unsigned size, const Access &now, const Reach &reach, Judge &judge);
  /// `last`: the last write of the cell.
  bool checkStrong(const WarpAccess &write, const Access &last, const Access &now, bool nowWrites, const Reach &reach,
                   Judge &judge, uint64_t offset);
  static bool orderedLanes(const WarpAccess &earlier, bool earlierWrites, const Access &now, const Reach &reach,
                           Judge &judge);
  void addStrong(Beneath &beneath, const Access &now, const Reach &reach, Judge &judge);
  void addRead(Cell &cell, const Access &now, const Reach &reach, Judge &judge);
  /// Adds a lane to the record of its warp's reads at this time, if there is one.
  bool joinReads(Cell &cell, const Access &now);
};

} // namespace moert::emulator

#endif // MOERT_EMULATOR_MEMORY_SHADOW_H
