//===- FuseGate.cpp - The plan that passes the gate, and what to say of it ---===//

#include "tools/moec/fuse/FuseRun.h"
#include "llvm/Support/FormatVariadic.h"

using namespace moec;
using llvm::StringRef;
using llvm::Twine;

GateRules FuseRun::rules() const {
  return {command.maxKl, command.minTop1, command.minGain, command.ranks, command.rounds};
}

bool FuseRun::judgeQuality(Trial &trial) const {
  Verdict verdict = moec::judgeQuality(*trial.difference, rules());
  trial.fits = verdict.passes;
  trial.reason = std::move(verdict.reason);
  return trial.fits;
}

/// Of the plans that pass the gate in quality, the fastest, if it gains enough.
void FuseRun::decide() {
  std::optional<size_t> best;
  const Trial *closest = nullptr;
  for (auto [index, trial] : llvm::enumerate(result.trials)) {
    if (trial.isOurs && trial.fits && (!best || trial.gain->median > result.trials[*best].gain->median)) {
      best = index;
    }
    if (trial.isOurs && (!closest || trial.difference->klBound < closest->difference->klBound)) {
      closest = &trial;
    }
  }
  if (!best) {
    // Without any trial the search has said why.
    if (closest) {
      result.reason = closest->reason + " (plan " + describeWindows(closest->windows) + ")";
    }
    return;
  }
  Trial &chosen = result.trials[*best];
  Verdict verdict = judgeGain(*chosen.difference, *chosen.gain, rules());
  result.reason = std::move(verdict.reason);
  if (verdict.passes) {
    result.chosen = best;
    chosen.kept = true;
  }
  chosen.reason = result.reason;
}

/// On what the verdict rests, and what it does not cover.
void FuseRun::noteText() {
  for (const Trial &trial : result.trials) {
    const Difference &difference = *trial.difference;
    const auto domains = static_cast<int64_t>(difference.domains.size());
    if (difference.tokens < kEnoughTokens || domains < kEnoughDomains) {
      result.notes.push_back(llvm::formatv("the verdict rests on {0} held-out tokens in {1} {2}; {3} in {4} are "
                                           "advised",
                                           difference.tokens, domains, domains == 1 ? "domain" : "domains",
                                           kEnoughTokens, kEnoughDomains));
    }
    break;
  }
  result.notes.push_back(
      result.skipTokens > 0
          ? llvm::formatv("the verdict rests on held-out text that neither windows nor maps were chosen on; {0} other "
                          "tokens served for that",
                          result.skipTokens)
                .str()
          : "windows were chosen on the held-out text that the verdict rests on too");
  if (result.chosen) {
    result.notes.push_back("LoRA adapters and draft heads of the model do not fit the fused one");
    if (!result.format->how.empty()) {
      result.notes.push_back((Twine(result.engine->product) + " " + result.format->minimumVersion +
                              " or later loads it: " + result.format->how)
                                 .str());
    }
  }
}

/// Where the published recipe stands at equal speed: the plan of ours that is at least as fast and differs least.
void FuseRun::noteFronts() {
  int64_t ahead = 0, all = 0;
  std::string behind;
  for (const Trial &recipe : result.trials) {
    if (!recipe.isRecipe || !recipe.gain) {
      continue;
    }
    const Trial *best = nullptr;
    for (const Trial &trial : result.trials) {
      const bool isOurs = trial.repair && trial.given.empty();
      const bool isAsFast = isOurs && trial.gain && trial.gain->median >= recipe.gain->median - 0.01;
      if (isAsFast && (!best || trial.difference->kl < best->difference->kl)) {
        best = &trial;
      }
    }
    ++all;
    if (best && best->difference->kl < recipe.difference->kl) {
      ++ahead;
    } else {
      behind += (behind.empty() ? "" : "; ") + recipe.name + " (" + describeWindows(recipe.windows) + ")";
    }
  }
  if (all != 0) {
    result.notes.push_back(llvm::formatv(
        "at equal speed (within 1 %) plans of ours differ less from the model than the published recipe at "
        "{0} of {1} points{2}{3}",
        ahead, all, behind.empty() ? "" : ", not at: ", behind));
  }
}
