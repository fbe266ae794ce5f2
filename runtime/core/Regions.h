//===- Regions.h - The values that share an arena, told apart -------*- C++ -*-===//
//
// An arena holds many values, one after the other in the same bytes. The package says where, not which bytes are one
// value; here that is found again, from who reads what whom wrote: a slice that is read belongs to the writes that it
// sees, and what is connected so is one region. A write that does not read begins a new one, unless nobody has read
// what it covers (parts of one value may be written one by one).
//
// For backends that give every value memory of its own, so that an access beyond one is found. Plain bookkeeping over
// the tables of a variant; knows no memory.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_REGIONS_H
#define MOERT_CORE_REGIONS_H

#include "runtime/core/Extent.h"

#include <vector>

namespace moert {

struct Regions {
  static constexpr uint32_t kNone = UINT32_MAX;
  /// Bytes that a slice needs, from so many bytes after the region's begin on.
  struct Part {
    uint64_t offset;
    format::Extent extent;
  };
  struct Region {
    uint32_t buffer;
    uint64_t begin; ///< in the buffer
    std::vector<Part> parts;
  };
  std::vector<Region> all;
  /// By command of the step and operand: the region, or kNone of what is no slice of an arena.
  std::vector<std::vector<uint32_t>> ofOperand;
};

/// Slices are taken at `most`, the largest sizes of the step.
Regions findRegions(const format::Variant &variant, const format::StepVariant &step, const Sizes &most);

} // namespace moert

#endif // MOERT_CORE_REGIONS_H
