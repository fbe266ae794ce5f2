//===- FuseProcess.h - Commands that moec fuse runs --------------------------===//
//
// Repairing, comparing and measuring are commands of moe-run, compiling and
// exporting of moec itself; fusing runs them as a user would and says so. A
// command dies with moec: nothing works on after a kill. What they write lies in
// a folder that is removed in the end, and by the next run if it could not be.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_FUSE_FUSEPROCESS_H
#define MOE_TOOLS_MOEC_FUSE_FUSEPROCESS_H

#include "tools/moec/Console.h"
#include "llvm/ADT/ArrayRef.h"

namespace moec {

/// A folder for intermediate files.
class WorkFolder {
public:
  /// `kept` if given, which is made if it is not there and stays; else one beside `output` that is removed.
  static llvm::Expected<WorkFolder> create(llvm::StringRef output, llvm::StringRef kept);
  WorkFolder(WorkFolder &&other);
  ~WorkFolder();

  std::string file(const llvm::Twine &name) const;
  bool stays() const { return isKept; }

private:
  WorkFolder(std::string path, bool isKept) : path(std::move(path)), isKept(isKept) {}
  std::string path;
  bool isKept;
};

class CommandRunner {
public:
  CommandRunner(const CommonOptions &options, const WorkFolder &folder) : options(options), folder(folder) {}

  /// Runs `tool` ("moec" or "moe-run", beside this executable), quietly, and returns what it printed on stdout. A
  /// failure is an error with the command and what it said.
  llvm::Expected<std::string> run(llvm::StringRef tool, std::vector<std::string> arguments);
  /// The same for a command that prints one JSON object.
  llvm::Expected<llvm::json::Object> runJson(llvm::StringRef tool, std::vector<std::string> arguments);
  /// From now on, in a folder that stays, a command that ended well is not run again: what it printed is known and what
  /// it wrote is there. `inputs` stands for everything that commands read beside what their arguments name.
  void reuseResults(llvm::StringRef inputs);
  /// Every command runs, whatever is there: for those that measure time.
  void stopReuse() { identity.clear(); }
  /// Whether `tool COMMAND --help` exists and speaks of `text`.
  bool knows(llvm::StringRef tool, llvm::StringRef command, llvm::StringRef text);

private:
  const CommonOptions &options;
  const WorkFolder &folder;
  /// What the names of remembered results depend on beside the command; empty: nothing is remembered.
  std::string identity;
};

} // namespace moec

#endif // MOE_TOOLS_MOEC_FUSE_FUSEPROCESS_H
