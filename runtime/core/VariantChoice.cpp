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

/// Why a variant for GPUs does not run on `gpu`; empty if it does.
std::string missingCapability(const format::Variant &variant, const GpuFacts &gpu) {
  bool exact = false;
  const uint32_t needed = gpuCapability(variant, exact);
  if (exact ? needed == gpu.capability : needed <= gpu.capability) {
    return "";
  }
  return concat(gpu.name, " has compute capability ", gpu.capability / 10, ".", gpu.capability % 10, ", it needs ",
                exact ? "exactly " : "at least ", needed / 10, ".", needed % 10);
}

/// Why variant `index` cannot run here; empty if it can. `what` names the machine.
std::string whyNot(const Program &program, size_t index, const GpuFacts *gpu) {
  const format::Variant &variant = program.variant(index);
  if (isForCpu(variant) == (gpu != nullptr)) {
    return gpu ? "is not for GPUs" : "is not for CPUs";
  }
  if (gpu) {
    const std::string missing = missingCapability(variant, *gpu);
    return missing.empty() && gpu->whyNotKernels ? gpu->whyNotKernels(index) : missing;
  }
  const std::string missing = missingFeatures(variant);
  return missing.empty() ? "" : "this CPU lacks " + missing;
}

uint64_t bitOf(size_t variant) { return variant < 64 ? uint64_t(1) << variant : 0; }

} // namespace

Result<size_t> chooseVariant(const Program &program, const char *forced, int ranks, const GpuFacts *gpu,
                             const CommonVariants &common, std::vector<VariantChoice> &choices) {
  std::string known;
  uint64_t runnable = 0;
  for (size_t v = 0; v < program.variantCount(); ++v) {
    const format::Variant &candidate = program.variant(v);
    const std::string target = candidate.target()->str();
    known += (known.empty() ? "" : ", ") + target;
    std::string reason = whyNot(program, v, gpu);
    if (isForCpu(candidate) == !gpu) {
      if (forced && target != forced) {
        reason = concat("'", forced, "' was asked for");
      } else if (candidate.ranks() != ranks) {
        reason = concat("is for ", candidate.ranks(), " ranks, this session is one of ", ranks);
      } else if (forced && !reason.empty()) {
        return error(Code::Unsupported, program.package(), ": variant '", target, "' was asked for, but ", reason,
                     gpu ? "" : " (or its operating system does)", "; leave the choice to the runtime");
      }
    }
    runnable |= reason.empty() ? bitOf(v) : 0;
    choices.push_back({target, std::move(reason), false});
  }
  uint64_t agreed = runnable;
  if (runnable && common) {
    MOERT_ASSIGN(all, common(runnable));
    agreed = all;
  }
  size_t taken = program.variantCount();
  for (size_t v = 0; v < choices.size(); ++v) {
    VariantChoice &choice = choices[v];
    if (agreed & bitOf(v) && taken == program.variantCount()) {
      choice.reason = forced ? "was asked for"
                      : gpu  ? "first variant that this GPU runs"
                             : "first variant whose features are all present";
      choice.chosen = true;
      taken = v;
    } else if (agreed & bitOf(v)) {
      choice.reason = concat("'", program.variant(taken).target()->str(), "' comes before it");
    } else if (runnable & bitOf(v)) {
      choice.reason = kNotCommon;
    }
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
    return error(Code::InvalidArgument, program.package(), ": has no ", gpu ? "GPU" : "CPU", " variant '", forced,
                 "', it has: ", known.empty() ? "none" : known);
  }
  std::string reasons;
  for (const VariantChoice &choice : choices) {
    reasons += concat(reasons.empty() ? "" : "; ", choice.target, ": ", choice.reason);
  }
  return error(Code::Unsupported, program.package(), ": no variant runs on this machine (",
               reasons.empty() ? "it has none" : reasons, "); compile with --target ",
               gpu ? "cuda:sm_80" : "cpu:x86-64-v3");
}

} // namespace moert
