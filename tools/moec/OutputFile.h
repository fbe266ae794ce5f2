//===- OutputFile.h - Files and packages that are whole or absent -----------===//
//
// Everything is written under a temporary name beside its place, flushed to
// disk and renamed. A full disk, a signal or a kill leaves the old file (or
// nothing), never half of the new one.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_OUTPUTFILE_H
#define MOE_TOOLS_MOEC_OUTPUTFILE_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/Error.h"

namespace moec {

/// Writes `contents` to `path` ("-": stdout), whole or not at all.
llvm::Error writeOutput(llvm::StringRef path, llvm::StringRef contents);

/// An error if there is a file at `path` that does not begin with `start`: it is something else than what is going to
/// be written there, and must not be lost. Or whose first 64 bytes `isKnown` does not know.
llvm::Error checkReplaced(llvm::StringRef path, llvm::StringRef start);
llvm::Error checkReplaced(llvm::StringRef path, llvm::function_ref<bool(llvm::StringRef)> isKnown);

/// Removes the temporary files and directories of `path` that processes left which were killed while writing it.
void removeLeftovers(llvm::StringRef path);

constexpr llvm::StringLiteral kProgramFile = "program.moep", kManifestFile = "manifest.json";

/// A directory in the making: a package, an exported checkpoint.
class PackageWriter {
public:
  /// Prepares `<path>.tmp-<pid>`. An existing `path` must be what is going to be there, empty, or not there: a `kind`,
  /// known by its file `marker`.
  static llvm::Expected<PackageWriter> create(llvm::StringRef path, llvm::StringRef kind = "package",
                                              llvm::StringRef marker = kProgramFile);
  PackageWriter(PackageWriter &&other);
  /// Removes what was written, unless committed.
  ~PackageWriter();

  /// Where the files are written until `commit`.
  llvm::StringRef getDirectory() const { return temporary; }
  /// Writes a small file.
  llvm::Error write(llvm::StringRef name, llvm::StringRef contents);
  /// Copies a small file of the model (a tokenizer, a config) if it is there.
  llvm::Error copy(llvm::StringRef name, llvm::StringRef fromDirectory);
  /// Copies the file `from`, of any size, to `name`. Returns the SHA-256 of its bytes in hex.
  llvm::Expected<std::string> copyWeights(llvm::StringRef from, llvm::StringRef name);

  /// Flushes everything and puts the directory into its place, replacing an older one.
  llvm::Error commit();

private:
  PackageWriter(std::string path, std::string temporary) : path(std::move(path)), temporary(std::move(temporary)) {}

  std::string path, temporary;
};

/// "<path>.tmp-<pid>", for what is written before it is renamed to `path`. Such files and folders of processes that are
/// gone are removed.
std::string temporaryName(llvm::StringRef path);

/// Whether `directory` holds a package: it has a program file.
bool isPackage(llvm::StringRef directory);

} // namespace moec

#endif // MOE_TOOLS_MOEC_OUTPUTFILE_H
