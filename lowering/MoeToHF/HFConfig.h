//===- HFConfig.h - config.json of an export ---------------------------------===//
//
// Starts from the config of the model that was read, so that what it says beside
// the architecture (tokens, initializers, dtype) stays, and states everything that
// the architecture depends on: an engine's defaults are not those of the class.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOHF_HFCONFIG_H
#define MOE_LOWERING_MOETOHF_HFCONFIG_H

#include "lowering/MoeToHF/ExportGraph.h"
#include "passes/Analysis/EngineFacts.h"
#include "llvm/Support/JSON.h"

namespace mlir::moe {

/// The config of `graph` as `format` (NemotronNas or WideLlama) spells it. `storage`: the element type of most weights.
llvm::Expected<llvm::json::Object> makeHFConfig(const ExportGraph &graph, ExportFormat format, Type storage,
                                                const llvm::json::Object &original);

/// The Python file that `format` brings along, and its name.
std::pair<llvm::StringRef, llvm::StringRef> getPythonFile(ExportFormat format);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOHF_HFCONFIG_H
