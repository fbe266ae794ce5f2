//===- JsonReader.h - Checked members of JSON files of ours -----*- C++ -*-===//
//
// Plans and maps are JSON files that name their format and version. This reads
// their members and says what is wrong with them in one form: file, place in
// it, rule, what stands there. The first fault is kept and reading goes on with
// a value that is allowed, so that readers need no check after every member.
//
// Config files of checkpoints are not read by this (ModelConfig.h): their
// members have other names for one thing, and defaults of their own.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_JSON_JSONREADER_H
#define MOE_PASSES_JSON_JSONREADER_H

#include "passes/Json/JsonFile.h"
#include <optional>
#include <vector>

namespace mlir::moe {

class JsonReader {
public:
  /// `file` names the file in errors and must live as long as this.
  explicit JsonReader(llvm::StringRef file) : file(file) {}

  void fail(const llvm::Twine &message);
  bool hasFailed() const { return !fault.empty(); }
  /// The first fault, or success.
  llvm::Error takeError() const { return hasFailed() ? makeError(fault) : llvm::Error::success(); }

  /// The root, if it calls itself `format` and has the version; else null. `what`: "a plan", and who writes it.
  const llvm::json::Object *root(const llvm::json::Value &value, llvm::StringRef format, int64_t version,
                                 llvm::StringRef what, llvm::StringRef writer = "");

  /// The value as an object, else null.
  const llvm::json::Object *object(const llvm::json::Value &value, const llvm::Twine &place);

  /// Every member of `object` must be one of `known`: a misspelt option must not be passed over.
  void checkKeys(const llvm::json::Object &object, const llvm::Twine &where, llvm::ArrayRef<llvm::StringRef> known);

  /// An integer from `min` to `max`; required, unless there is a `fallback`.
  int64_t integer(const llvm::json::Object &object, const llvm::Twine &where, llvm::StringRef key, int64_t min,
                  int64_t max, std::optional<int64_t> fallback = std::nullopt);

  enum Presence { Optional, Required };
  /// An array, or null.
  const llvm::json::Array *array(const llvm::json::Object &object, const llvm::Twine &where, llvm::StringRef key,
                                 Presence presence);

  /// `count` integers from 0 to `max`, each being for one of `each`; empty after a fault.
  std::vector<int64_t> integers(const llvm::json::Object &object, const llvm::Twine &where, llvm::StringRef key,
                                int64_t count, int64_t max, llvm::StringRef each);

private:
  llvm::StringRef file;
  std::string fault;
};

} // namespace mlir::moe

#endif // MOE_PASSES_JSON_JSONREADER_H
