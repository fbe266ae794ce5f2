// See Agreement.h.
#include "runtime/core/Agreement.h"

#include <algorithm>
#include <cstring>

namespace moert {
namespace {

/// How long ranks wait for each other's weights at least.
constexpr int64_t kReadyNs = int64_t(600) * 1000000000;

/// What a rank would run.
struct Offer {
  uint8_t program[32];
  uint64_t variants;
};

/// What must be the same on all ranks of a session.
struct Identity {
  int64_t sequences, context, maxTokens;
};

std::string differenceOf(const Identity &a, const Identity &b) {
  auto differ = [](const char *what, auto x, auto y) { return concat(what, x, " and ", y); };
  if (a.sequences != b.sequences) {
    return differ("numbers of sequences ", a.sequences, b.sequences);
  }
  if (a.context != b.context) {
    return differ("contexts ", a.context, b.context);
  }
  return a.maxTokens != b.maxTokens ? differ("largest steps ", a.maxTokens, b.maxTokens) : "";
}

Status unreached(const Communicator &communicator) {
  const Status &failure = communicator.failure();
  return error(failure.code(), failure.message(), "; the session cannot run another step");
}

Status differentSessions(size_t rank, const std::string &difference) {
  return error(Code::InvalidArgument, "ranks 0 and ", rank, " have different sessions: ", difference,
               "; give all ranks the same package and options");
}

/// "cuda:sm_80, cuda:sm_90a".
std::string namesOf(const Program &program, uint64_t variants) {
  std::string names;
  for (size_t v = 0; v < program.variantCount() && v < 64; ++v) {
    if (variants >> v & 1) {
      names += concat(names.empty() ? "" : ", ", program.variant(v).target()->str());
    }
  }
  return names;
}

} // namespace

Agreement::Agreement(Communicator &communicator, format::RankInputs inputs, int64_t deadlineNs)
    : communicator(communicator), inputs(inputs), deadlineNs(deadlineNs), wishes(size_t(communicator.ranks())) {}

Result<uint64_t> Agreement::commonVariants(Communicator &communicator, const Program &program, uint64_t mine,
                                           int64_t deadlineNs) {
  Offer offer = {{}, mine};
  memcpy(offer.program, program.digest().data(), sizeof(offer.program));
  std::vector<Offer> all(size_t(communicator.ranks()));
  if (!communicator.gather(&offer, all.data(), sizeof(offer), deadlineNs)) {
    return unreached(communicator);
  }
  uint64_t common = all[0].variants;
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (memcmp(all[0].program, all[rank].program, sizeof(offer.program)) != 0) {
      return differentSessions(rank, concat("programs with SHA-256 ", format::toHex(all[0].program, 32), " and ",
                                            format::toHex(all[rank].program, 32)));
    }
    if (!(common & all[rank].variants)) {
      return error(Code::Unsupported, program.package(), ": no variant runs on all ranks: rank ", rank, " runs ",
                   namesOf(program, all[rank].variants), ", those before it ", namesOf(program, common),
                   "; give all ranks the same device and --variant, or compile for a target that all of them run");
    }
    common &= all[rank].variants;
  }
  return common;
}

Status Agreement::sameSession(int64_t sequences, int64_t context, int64_t maxTokens) {
  const Identity mine = {sequences, context, maxTokens};
  std::vector<Identity> all(wishes.size());
  if (!communicator.gather(&mine, all.data(), sizeof(mine), deadlineNs)) {
    return unreached(communicator);
  }
  for (size_t rank = 1; rank < all.size(); ++rank) {
    std::string difference = differenceOf(all[0], all[rank]);
    if (!difference.empty()) {
      return differentSessions(rank, difference);
    }
  }
  return {};
}

Status Agreement::everyoneIsReady() {
  const uint8_t mine = 1;
  std::vector<uint8_t> all(wishes.size());
  return communicator.gather(&mine, all.data(), 1, std::max(deadlineNs, kReadyNs)) ? Status() : unreached(communicator);
}

Status Agreement::beforeStep(size_t entry, int64_t tokens, int64_t rows, bool isPicking, bool mayUseGraphs,
                             const Status &mine, Common &common) {
  Wish wish = {tokens, rows, int32_t(entry), int32_t(mine.code()), isPicking, mayUseGraphs, {}};
  strncpy(wish.text, mine.message().c_str(), sizeof(wish.text) - 1);
  if (!communicator.gather(&wish, wishes.data(), sizeof(wish), deadlineNs)) {
    return unreached(communicator);
  }
  MOERT_TRY(mine);
  common = {};
  for (size_t rank = 0; rank < wishes.size(); ++rank) {
    const Wish &its = wishes[rank];
    if (its.code) {
      return error(Code(its.code), "rank ", rank, " failed: ", its.text, "; no rank ran the step");
    }
    common.tokens = std::max(common.tokens, its.tokens);
    common.mayUseGraphs &= its.mayUseGraphs != 0;
    common.shape = (common.shape ^ uint64_t(2 * its.rows + its.isPicking)) * 0x100000001b3u;
  }
  const Wish &first = wishes[0];
  for (size_t rank = 1; rank < wishes.size(); ++rank) {
    const Wish &its = wishes[rank];
    const bool sameInput = its.tokens == first.tokens && its.rows == first.rows;
    // Arguments of an entry are the caller's memory: there is no room to pad them.
    const bool mayPad = inputs == format::RankInputs::Distributed && entry == 0;
    if (its.entry != first.entry || (!sameInput && !mayPad)) {
      return error(Code::InvalidArgument, "ranks 0 and ", rank, " were given different steps: entry ", first.entry,
                   " with ", first.tokens, " tokens and ", first.rows, " rows, and entry ", its.entry, " with ",
                   its.tokens, " tokens and ", its.rows, " rows; no rank ran the step");
    }
  }
  return {};
}

} // namespace moert
