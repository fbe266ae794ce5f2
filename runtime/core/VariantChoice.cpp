// The choice of a variant; see VariantChoice.h.
#include "runtime/core/VariantChoice.h"

#include "runtime/backends/cpu/CpuFeatures.h"

namespace moert {
namespace {

/// The features of `variant` that this machine lacks, separated by spaces.
std::string missingFeatures(const format::Variant &variant) {
  std::string missing;
  for (uint32_t f = 0; variant.features() && f < variant.features()->size(); ++f) {
    std::string feature = variant.features()->Get(f)->str();
    if (!cpu::hasFeature(feature)) {
      missing += (missing.empty() ? "" : " ") + feature;
    }
  }
  return missing;
}

} // namespace

Result<size_t> chooseVariant(const Program &program, const char *forced, int ranks,
                             std::vector<VariantChoice> &choices) {
  std::string known;
  size_t taken = program.variantCount();
  for (size_t v = 0; v < program.variantCount(); ++v) {
    const format::Variant &candidate = program.variant(v);
    const std::string target = candidate.target()->str();
    known += (known.empty() ? "" : ", ") + target;
    VariantChoice choice{target, "", false};
    const std::string missing = isForCpu(candidate) ? missingFeatures(candidate) : "";
    if (!isForCpu(candidate)) {
      choice.reason = "is not for CPUs";
    } else if (forced && target != forced) {
      choice.reason = concat("'", forced, "' was asked for");
    } else if (candidate.ranks() != ranks) {
      choice.reason = concat("is for ", candidate.ranks(), " ranks, this session is one of ", ranks);
    } else if (!missing.empty()) {
      choice.reason = concat("this CPU lacks ", missing);
      if (forced) {
        return error(Code::Unsupported, program.package(), ": variant '", target,
                     "' was asked for, but this CPU (or "
                     "its operating system) lacks ",
                     missing, "; leave the choice to the runtime");
      }
    } else if (taken != program.variantCount()) {
      choice.reason = concat("'", program.variant(taken).target()->str(), "' comes before it");
    } else {
      choice.reason = forced ? "was asked for" : "first variant whose features are all present";
      choice.chosen = true;
      taken = v;
    }
    choices.push_back(std::move(choice));
  }
  if (taken != program.variantCount()) {
    return taken;
  }
  const int made = program.variantCount() ? program.variant(0).ranks() : ranks;
  if (made != ranks) {
    return error(Code::InvalidArgument, program.package(), ": was compiled for ", made,
                 " ranks, this session is one of ", ranks, ": join ", made,
                 " sessions in a group (moe-run --thread-ranks ", made, ", or mpirun -n ", made,
                 "), or compile with --ranks ", ranks);
  }
  if (forced) {
    return error(Code::InvalidArgument, program.package(), ": has no CPU variant '", forced,
                 "', it has: ", known.empty() ? "none" : known);
  }
  std::string reasons;
  for (const VariantChoice &choice : choices) {
    reasons += concat(reasons.empty() ? "" : "; ", choice.target, ": ", choice.reason);
  }
  return error(Code::Unsupported, program.package(), ": no variant runs on this machine (",
               reasons.empty() ? "it has none" : reasons, "); compile with --target cpu:x86-64-v3");
}

} // namespace moert
