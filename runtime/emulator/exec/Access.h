//===- Access.h - From addresses to bytes -----------------------*- C++ -*-===//
//
// Every instruction that touches memory goes through `resolve`, which turns the
// lanes' addresses into pointers (or a finding), and `judge`, which shows the
// access to the shadow. Flags in memory: `writeFlag` and `readFlag`.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_ACCESS_H
#define MOERT_EMULATOR_EXEC_ACCESS_H

#include "runtime/emulator/exec/Warp.h"

namespace moert::emulator {

/// Where the lanes' bytes are.
struct Target {
  enum Where : uint8_t { Shared, Global, Local };
  uint8_t *pointer[32];
  uint64_t offset[32];  ///< in the shadow
  Shadow *shadow[32];   ///< null: not judged (local memory, checks off)
  uint64_t address[32]; ///< as the instruction has it, windows removed
  Where where[32];
  Block *block[32];        ///< Shared: whose
  bool contiguous = false; ///< lane l's bytes follow lane l - 1's, for all 32 lanes
};

/// Which kind of access an instruction makes.
struct AccessMode {
  AccessKind kind = Weak;
  AccessScope scope = ScopeCta;
  bool acquire = false, release = false;
};
AccessMode accessMode(const ptx::Modifiers &mods, bool atomic);
AccessScope scopeOf(ptx::Scope scope, AccessScope otherwise);

/// Fills in all lanes of a contiguous target of which only lane 0 is known.
void spread(Target &target, unsigned bytes);
/// `bytes` at `base` + `imm` for the lanes of `mask`, in `space` (None: generic). Next, or Failed after a report.
/// `lazy`: of a contiguous target only lane 0 is filled in (and `address` of all).
Step resolve(Warp &w, const Op &op, uint32_t mask, const Ref &base, int64_t imm, ptx::Space space, unsigned bytes,
             bool write, Target &target, unsigned align = 0, bool lazy = false);
/// The same for one address of one lane.
Step resolveOne(Warp &w, const Op &op, unsigned lane, uint64_t address, ptx::Space space, uint64_t bytes, bool write,
                unsigned align, uint8_t *&pointer, Shadow *&shadow, uint64_t &offset, Block *&block);

/// Remembers that a lane accesses shared memory of `owner`, if that is another block: it must not exit meanwhile.
void noteVisit(Warp &w, const Op &op, unsigned lane, Block *owner);

/// Judges accesses of a warp (or of asynchronous work that a lane of it has issued, when `agent` is set).
class WarpJudge : public Judge {
public:
  WarpJudge(Warp &w, const Op &op, bool proxied = false) : w(w), op(op), proxied(proxied) {}
  bool ordered(const Access &earlier, bool earlierWrites, const Access &now) override;
  bool stronglyRelated(const Access &earlier, const Access &now) override;
  bool sameBlock(const Access &a, const Access &b) override;
  void conflict(const Access &earlier, bool earlierWrites, const Access &now, bool nowWrites, uint64_t offset) override;

  const uint8_t *newBytes = nullptr, *oldBytes = nullptr; ///< of a store: equal bytes make the race a note
  const uint8_t *allBytes = nullptr;                      ///< newBytes of the lanes that execute the instruction now
  uint32_t allMask = 0;                                   ///< which these are
  const Target *target = nullptr;                         ///< where they write
  unsigned size = 0;
  unsigned lane = 0; ///< who issues
  bool shared = false;
  Clock *extra = nullptr; ///< what asynchronous work knows besides its issuer
  Time fencedUpTo = 0;    ///< writes up to then are behind a proxy fence that is none of fence.proxy.async

  /// Is `earlier` ordered before lane `lane`, as plain accesses or as asynchronous ones count?
  bool knows(const Access &earlier, bool proxiedView) const;

private:
  Warp &w;
  const Op &op;
  bool proxied;

  /// Does `earlier` need a fence.proxy.async before asynchronous accesses? cp.async writes through the generic proxy.
  bool isGeneric(const Access &earlier) const;
  /// Is `earlier` the store of another lane by the same execution of the instruction?
  bool isSameStore(const Access &earlier, const Access &now) const;
};

/// Shows the accesses of all lanes to the shadow. `data`: what is about to be written, `bytes` per lane.
void judge(Warp &w, const Op &op, uint32_t mask, const Target &target, unsigned bytes, bool write,
           const AccessMode &mode, const uint8_t *data = nullptr);

/// A strong write of `bytes` bytes or a read-modify-write (`keep`) by one lane hands over its clock. To be called
/// before the bytes change.
void writeFlag(Warp &w, const Op &op, const Target &target, unsigned lane, unsigned bytes, const AccessMode &mode,
               bool keep);
/// A strong read takes the clock that the location carries. The bytes that it reads: null when those in memory, or the
/// value before the last write when nothing orders the read after it and it has not arrived here yet. `latest`: always
/// those in memory (read-modify-writes).
const uint8_t *readFlag(Warp &w, const Op &op, const Target &target, unsigned lane, unsigned bytes,
                        const AccessMode &mode, bool latest);

/// Before a compare-and-swap is judged: what its warp has read plainly there was a first guess.
void noteGuesses(Warp &w, uint32_t mask, const Target &target);

/// Undefined bits in an address or another operand that decides something: a finding.
void requireDefined(Warp &w, const Op &op, const Ref &ref, uint32_t mask, const char *what);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_ACCESS_H
