//===- Report.h - Reports as pages --------------------------------*- C++ -*-===//
//
// The page of a fusion report (`moec fuse` writes it, `moec report` draws the
// JSON of one again). Nothing is computed here beyond what is best of a list;
// what a report lacks is left out or shown as "-".
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_REPORT_H
#define MOE_TOOLS_MOEC_REPORT_H

#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <string>

namespace moec {

/// The page of a report of `moec fuse`, a file without outside references.
std::string renderFusion(const llvm::json::Object &report);

/// Writes that page to `path`, whole or not at all. An error when the report is of another format or version.
llvm::Error writeFusionReport(const llvm::json::Object &report, llvm::StringRef path);

} // namespace moec

#endif // MOE_TOOLS_MOEC_REPORT_H
