//===- FuseGate.cpp - Whether a plan is good enough, and pays ----------------===//

#include "tools/moec/fuse/FuseRun.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"

using namespace moec;
using llvm::StringRef;
using llvm::Twine;

std::string moec::spellBudget(double value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%g", value);
  return text;
}

bool FuseRun::judgeQuality(Trial &trial) const {
  const Difference &difference = *trial.difference;
  if (difference.klBound > command.maxKl) {
    trial.reason = llvm::formatv("KL {0:F4} nats per token, at most {1:F4}, is above --max-kl {2}", difference.kl,
                                 difference.klBound, spellBudget(command.maxKl));
  } else if (difference.sameWinner < command.minTop1) {
    trial.reason =
        llvm::formatv("the likeliest token stays the same for {0:F2} % of tokens, {1} % are needed (--min-top-1)",
                      difference.sameWinner * 100, spellBudget(command.minTop1 * 100));
  } else if (difference.collapsed) {
    trial.reason = "its greedy text repeats itself where the model's does not";
  } else {
    trial.fits = true;
    trial.reason = "quality fits";
  }
  return trial.fits;
}

/// Of the plans that pass the gate in quality, the fastest, if it gains enough.
void FuseRun::decide() {
  std::optional<size_t> best;
  const Trial *closest = nullptr;
  for (auto [index, trial] : llvm::enumerate(result.trials)) {
    if (trial.isOurs && trial.fits && (!best || *trial.gain > *result.trials[*best].gain)) {
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
  const std::string quality =
      llvm::formatv("KL {0:F4}, at most {1:F4}", chosen.difference->kl, chosen.difference->klBound);
  const std::string measured =
      llvm::formatv("decoding is {0:F1} % faster on {1} {2}{3}", *chosen.gain * 100, command.ranks,
                    command.ranks == 1 ? "rank" : "ranks",
                    chosen.gainBound ? llvm::formatv(", at least {0:F1} %", *chosen.gainBound * 100).str() : "");
  if (command.minGain == 0) {
    result.reason = quality + "; a gain is not asked for: " + measured;
    result.chosen = best;
    chosen.kept = true;
  } else if (*chosen.gain < command.minGain) {
    result.reason = llvm::formatv("quality fits ({0}), no gain: {1}, {2:F1} % are asked for (--min-gain)", quality,
                                  measured, command.minGain * 100);
  } else if (!chosen.gainBound || *chosen.gainBound <= 0) {
    result.reason = llvm::formatv("quality fits ({0}), but {1} rounds do not prove a gain: {2}; more --rounds or a "
                                  "quieter machine may",
                                  quality, command.rounds, measured);
  } else {
    result.reason = quality + "; " + measured;
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
    if (recipe.repair || !recipe.gain) {
      continue;
    }
    const Trial *best = nullptr;
    for (const Trial &trial : result.trials) {
      const bool isAsFast = trial.repair && trial.gain && *trial.gain >= *recipe.gain - 0.01;
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
