//===- Finding.h - What the emulator has to say about a program -*- C++ -*-===//
//
// A `Finding` is one fault of the emulated program: where (kernel, PTX line,
// block, thread) and what, in one line. Findings go to a `FindingSink`; the
// same fault at the same two places is reported once. Nothing here decides
// what is a fault, nor prints.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_MEMORY_FINDING_H
#define MOERT_EMULATOR_MEMORY_FINDING_H

#include <cstdint>
#include <string>
#include <vector>

namespace moert::emulator {

/// An extent or an index in three dimensions.
struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;

  uint64_t count() const { return uint64_t(x) * y * z; }
};

enum class FindingKind {
  Race,        ///< two accesses of which neither is ordered before the other
  ProxyFence,  ///< ordered, but no fence.proxy.async between a generic write and an asynchronous access
  OutOfBounds, ///< an access outside of every allocation, or to freed memory
  Misaligned,  ///< an address that is no multiple of what the instruction needs
  Undefined,   ///< undefined bytes decide a branch, an address, a barrier operand or an output
  Divergence,  ///< an .aligned instruction that some threads of the warp do not execute
  Deadlock,    ///< nothing can go on and nothing is in flight
  Barrier,     ///< a barrier or mbarrier used against its rules
  Trap,        ///< trap, brkpt, a failed assertion
  Illegal,     ///< an operand that the instruction does not allow (descriptors, sizes, register hand-over)
  Limit        ///< the step limit, or another limit of the emulator, was reached
};

/// A kernel's name for people: as it is, but one of more than 100 characters as C++ writes it, up to the hundredth.
/// Names of templates' instances may have thousands, and the fault comes behind them.
std::string shortName(const std::string &symbol);

/// A short lower-case name: "race", "out of bounds", ...
const char *findingName(FindingKind kind);

/// One fault. `note` marks what is suspicious and not wrong (racing writes of equal values).
struct Finding {
  FindingKind kind = FindingKind::Race;
  bool note = false;
  std::string kernel;
  uint32_t line = 0; ///< of the PTX text, 1 is the first; 0: not in a kernel (a host command)
  Dim3 block{0, 0, 0};
  Dim3 thread{0, 0, 0};
  std::string what;
  uint32_t partner = 0; ///< site of the other access of a race, so that pairs are told apart

  /// "race: kernel k, line 12, block (0,0,0), thread (3,0,0): ...".
  std::string text() const;
};

/// Where findings go. Not thread-safe: the owner holds a lock or uses one thread.
class FindingSink {
public:
  /// Keeps at most `limit` findings; later ones are counted only.
  explicit FindingSink(size_t limit = 1000) : limit(limit) {}

  void report(Finding finding);
  const std::vector<Finding> &findings() const { return kept; }
  /// Findings that are no notes, dropped ones included.
  uint64_t faults() const { return faultCount; }
  void clear();

private:
  size_t limit;
  uint64_t faultCount = 0;
  std::vector<Finding> kept;
};

} // namespace moert::emulator

#endif // MOERT_EMULATOR_MEMORY_FINDING_H
