//===- VariantChoice.h - Which variant of a program runs here ----*- C++ -*-===//
//
// Variants are listed best first: the first that this CPU, or the GPU at hand, runs is taken, or the one that is asked
// for. Why each was taken or left is kept for the report.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_VARIANTCHOICE_H
#define MOERT_CORE_VARIANTCHOICE_H

#include "runtime/core/Program.h"

#include <functional>
#include <string>
#include <vector>

namespace moert {

/// Why a variant was taken or left.
struct VariantChoice {
  std::string target, reason;
  bool chosen;
};

/// The GPU that a variant must suit.
struct GpuFacts {
  std::string name;
  uint32_t capability; ///< 90 of 9.0
  /// Why its driver does not take the kernels of variant `index`, which suits the card; empty: nothing is known.
  std::function<std::string(size_t index)> whyNotKernels;
};

/// Why a variant was left that suits this machine.
constexpr const char kNotCommon[] = "another rank does not run it";

/// Of the variants that this machine runs (a bit each, the first is the lowest), those that all ranks do.
using CommonVariants = std::function<Result<uint64_t>(uint64_t mine)>;

/// The index of the variant to run as one of `ranks` on `gpu`, or on this CPU if that is null; `forced`, if not null,
/// is the target that is asked for. With other ranks, `common` is not null, and it is the first that all of them run.
Result<size_t> chooseVariant(const Program &program, const char *forced, int ranks, const GpuFacts *gpu,
                             const CommonVariants &common, std::vector<VariantChoice> &choices);

} // namespace moert

#endif // MOERT_CORE_VARIANTCHOICE_H
