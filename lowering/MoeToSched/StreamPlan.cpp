//===- StreamPlan.cpp - What runs beside the routed experts -----------------===//

#include "lowering/MoeToSched/StreamPlan.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir::moe;

namespace {

/// Which commands each needs to be over before it begins: what it reads was written by them, or they still use what it
/// overwrites.
struct Dependences {
  explicit Dependences(llvm::ArrayRef<StreamedCommand> commands);
  bool areIndependent(int64_t a, int64_t b) const { return a != b && !before[a][b] && !before[b][a]; }

  llvm::SmallVector<llvm::SmallVector<int64_t>> direct;
  llvm::SmallVector<llvm::BitVector> before; ///< direct ones and theirs
};

Dependences::Dependences(llvm::ArrayRef<StreamedCommand> commands)
    : direct(commands.size()), before(commands.size(), llvm::BitVector(commands.size())) {
  struct Users {
    int64_t writer = -1;
    llvm::SmallVector<int64_t> readers; ///< since then
  };
  llvm::DenseMap<int, Users> users;
  for (auto [number, command] : llvm::enumerate(commands)) {
    const auto own = static_cast<int64_t>(number);
    auto need = [&](int64_t other) {
      if (other >= 0 && other != own) {
        direct[own].push_back(other);
        before[own] |= before[other];
        before[own].set(other);
      }
    };
    for (auto [buffer, writes] : command.accesses) {
      Users &known = users[buffer];
      need(known.writer);
      if (writes) {
        llvm::for_each(known.readers, need);
        known = {own, {}};
      } else {
        known.readers.push_back(own);
      }
    }
  }
}

} // namespace

llvm::SmallVector<SideWork> mlir::moe::planSideWork(llvm::ArrayRef<StreamedCommand> commands) {
  llvm::SmallVector<SideWork> all;
  if (llvm::none_of(commands, [](const StreamedCommand &command) { return command.endsExperts; })) {
    return all;
  }
  const Dependences dependences(commands);
  const auto count = static_cast<int64_t>(commands.size());
  llvm::BitVector taken(count);
  for (int64_t experts = 0; experts < count; ++experts) {
    if (!commands[experts].endsExperts) {
      continue;
    }
    // Products that neither need the experts nor are needed by them, and what comes of these up to a command that
    // stays.
    llvm::BitVector own(count), beyond(count);
    for (int64_t i = 0; i < count; ++i) {
      if (!dependences.areIndependent(experts, i)) {
        continue;
      }
      const bool follows = dependences.before[i].anyCommon(own), stays = dependences.before[i].anyCommon(beyond);
      const StreamedCommand &command = commands[i];
      if ((command.isProduct || follows) && !stays && !command.isCollective && !command.endsExperts && !taken[i]) {
        own.set(i);
      } else if (follows || stays) {
        beyond.set(i);
      }
    }
    SideWork work;
    work.before = count;
    bool isApart = true;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t needed : dependences.direct[i]) {
        if (own[i] && !own[needed]) {
          work.after = std::max(work.after, needed);
          isApart &= !taken[needed];
        } else if (!own[i] && own[needed]) {
          work.before = std::min(work.before, i);
          isApart &= !taken[i];
        }
      }
    }
    while (work.before < count && commands[work.before].isCollective && commands[work.before - 1].isCollective) {
      --work.before;
    }
    // Where a collective stays that they need, the experts may be over before they can begin.
    if (own.any() && isApart && work.after < experts && experts < work.before) {
      taken |= own;
      llvm::append_range(work.commands, own.set_bits());
      all.push_back(std::move(work));
    }
  }
  llvm::sort(all, [](const SideWork &a, const SideWork &b) {
    return std::pair(a.after, a.commands.front()) < std::pair(b.after, b.commands.front());
  });
  return all;
}
