//===- JsonFile.h - JSON of untrusted files, checked before it is parsed ----===//
//
// llvm::json recurses per nesting level and keeps the last of duplicate keys.
// A file of a checkpoint is somebody else's: so size, depth and duplicate keys
// are checked here, and every error names the file.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_JSON_JSONFILE_H
#define MOE_PASSES_JSON_JSONFILE_H

#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

namespace mlir::moe {

/// The largest config file that is read, and how deep its objects and arrays may nest.
constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr unsigned kMaxJsonDepth = 64;

/// Parses `text` after checking depth and duplicate keys. `file` names it in errors.
llvm::Expected<llvm::json::Value> parseJson(llvm::StringRef text, llvm::StringRef file);

/// Reads and parses a file of at most `kMaxConfigBytes`.
llvm::Expected<llvm::json::Value> readJsonFile(llvm::StringRef path);

/// How a value reads in an error message: `the string "abc"`, `true`, `an object`.
std::string describe(const llvm::json::Value &value);

/// An error of one line.
llvm::Error makeError(const llvm::Twine &message);

} // namespace mlir::moe

#endif // MOE_PASSES_JSON_JSONFILE_H
