//===- VariantChoice.h - Which variant of a program runs here ----*- C++ -*-===//
//
// Variants are listed best first: the first that this CPU runs is taken, or the one that is asked for. Why each was
// taken or left is kept for the report.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_VARIANTCHOICE_H
#define MOERT_CORE_VARIANTCHOICE_H

#include "runtime/core/Program.h"

#include <string>
#include <vector>

namespace moert {

/// Why a variant was taken or left.
struct VariantChoice {
  std::string target, reason;
  bool chosen;
};

/// The index of the variant to run as one of `ranks`; `forced`, if not null, is the target that is asked for.
Result<size_t> chooseVariant(const Program &program, const char *forced, int ranks,
                             std::vector<VariantChoice> &choices);

} // namespace moert

#endif // MOERT_CORE_VARIANTCHOICE_H
