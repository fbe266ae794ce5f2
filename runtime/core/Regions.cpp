// Finding the values in an arena; see Regions.h.
#include "runtime/core/Regions.h"

#include <algorithm>

namespace moert {
namespace {

/// Bytes of a buffer whose last write is known, and whether anybody has read it.
struct Written {
  uint32_t buffer;
  uint64_t begin, end;
  uint32_t slice;
  bool isRead;
};

/// A slice that a command names.
struct Slice {
  uint32_t command, operand, buffer;
  uint64_t begin, end;
  format::Extent extent;
  uint32_t parent; ///< of the forest of connected slices
};

class Finder {
public:
  Finder(const format::Variant &variant, const format::StepVariant &step, const Sizes &most)
      : variant(variant), step(step), most(most) {}

  Regions run() {
    for (uint32_t c = 0; c < step.command_count(); ++c) {
      const auto first = uint32_t(slices.size());
      addSlices(c);
      // What a command reads is what was there before it.
      for (uint32_t s = first; s < slices.size(); ++s) {
        if (reads(s)) {
          see(s);
        }
      }
      for (uint32_t s = first; s < slices.size(); ++s) {
        if (writes(s)) {
          write(s);
        }
      }
    }
    return collect();
  }

private:
  const format::Operand &operandOf(uint32_t command, uint32_t operand) const {
    return *variant.operands()->Get(variant.commands()->Get(step.first_command() + command)->first_operand() + operand);
  }
  uint8_t accessOf(uint32_t s) const { return uint8_t(operandOf(slices[s].command, slices[s].operand).access()); }
  bool reads(uint32_t s) const { return accessOf(s) & uint8_t(format::Access::Read); }
  bool writes(uint32_t s) const { return accessOf(s) & uint8_t(format::Access::Write); }

  void addSlices(uint32_t command) {
    const uint32_t count = variant.commands()->Get(step.first_command() + command)->operand_count();
    for (uint32_t o = 0; o < count; ++o) {
      const format::Operand &operand = operandOf(command, o);
      if (operand.kind() != format::OperandKind::Slice ||
          variant.buffers()->Get(operand.index())->kind() != format::BufferKind::Arena) {
        continue;
      }
      int64_t bytes = 0;
      const bool known = evaluate(operand.extent(), most, bytes);
      slices.push_back({command, o, operand.index(), operand.offset(),
                        known ? operand.offset() + uint64_t(bytes) : UINT64_MAX, operand.extent(),
                        uint32_t(slices.size())});
    }
  }

  uint32_t root(uint32_t s) {
    while (slices[s].parent != s) {
      s = slices[s].parent = slices[slices[s].parent].parent;
    }
    return s;
  }
  void connect(uint32_t a, uint32_t b) { slices[root(a)].parent = root(b); }

  bool touches(const Written &there, uint32_t s) const {
    return there.buffer == slices[s].buffer && there.begin < slices[s].end && slices[s].begin < there.end;
  }

  void see(uint32_t s) {
    for (Written &there : written) {
      if (touches(there, s)) {
        there.isRead = true;
        connect(s, there.slice);
      }
    }
  }

  void write(uint32_t s) {
    std::vector<Written> after;
    for (const Written &there : written) {
      if (!touches(there, s)) {
        after.push_back(there);
        continue;
      }
      if (!there.isRead) {
        connect(s, there.slice);
      }
      if (there.begin < slices[s].begin) {
        after.push_back({there.buffer, there.begin, slices[s].begin, there.slice, there.isRead});
      }
      if (slices[s].end < there.end) {
        after.push_back({there.buffer, slices[s].end, there.end, there.slice, there.isRead});
      }
    }
    after.push_back({slices[s].buffer, slices[s].begin, slices[s].end, s, false});
    written = std::move(after);
  }

  Regions collect() {
    Regions regions;
    for (uint32_t c = 0; c < step.command_count(); ++c) {
      const uint32_t count = variant.commands()->Get(step.first_command() + c)->operand_count();
      regions.ofOperand.emplace_back(count, Regions::kNone);
    }
    std::vector<uint32_t> ofRoot(slices.size(), Regions::kNone);
    for (uint32_t s = 0; s < slices.size(); ++s) {
      uint32_t &region = ofRoot[root(s)];
      if (region == Regions::kNone) {
        region = uint32_t(regions.all.size());
        regions.all.push_back({slices[s].buffer, slices[s].begin, {}});
      }
      regions.all[region].begin = std::min(regions.all[region].begin, slices[s].begin);
      regions.ofOperand[slices[s].command][slices[s].operand] = region;
    }
    for (uint32_t s = 0; s < slices.size(); ++s) {
      Regions::Region &region = regions.all[ofRoot[root(s)]];
      region.parts.push_back({slices[s].begin - region.begin, slices[s].extent});
    }
    return regions;
  }

  const format::Variant &variant;
  const format::StepVariant &step;
  const Sizes most;
  std::vector<Slice> slices;
  std::vector<Written> written;
};

} // namespace

Regions findRegions(const format::Variant &variant, const format::StepVariant &step, const Sizes &most) {
  return Finder(variant, step, most).run();
}

} // namespace moert
