//===- Commands.h - What the commands of moec are given ---------------------===//
//
// The command line (moec.cpp, the one file that uses CLI11 and so exceptions)
// fills these structs; the commands know nothing of option parsing.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_COMMANDS_H
#define MOE_TOOLS_MOEC_COMMANDS_H

#include <cstdint>
#include <string>
#include <vector>

namespace moec {

/// Exit codes of every command.
enum ExitCode { kSuccess = 0, kUserError = 1, kInternalError = 2 };

struct CommonOptions {
  /// One JSON object on stdout in place of text.
  bool json = false;
  /// No progress and no notes on stderr.
  bool quiet = false;
};

struct ImportCommand : CommonOptions {
  std::string directory, output, dtype;
  /// Negative: not checked.
  int64_t expectParameters = -1;
  bool allowUnusedTensors = false;
  /// Print locations: the layer that every op comes from.
  bool locations = false;
};

struct CompileCommand : CommonOptions {
  /// A Hugging Face directory or a file of moe IR.
  std::string input, output;
  std::string target = "cpu", dtype, emit = "package";
  /// Where the weights are, when the input is IR; empty: the checkpoint that the IR records.
  std::string weights;
  /// Fusion plans, carried out in this order.
  std::vector<std::string> plans;
  int64_t maxTokens = 512;
  bool allowUnusedTensors = false;
};

struct InspectCommand : CommonOptions {
  /// A package or a Hugging Face directory.
  std::string path;
};

struct DoctorCommand : CommonOptions {};

/// Makes fatal errors inside LLVM end as "moec: internal error: ..." with exit code 2.
void installErrorHandlers();

ExitCode runImport(const ImportCommand &command);
ExitCode runCompile(const CompileCommand &command);
ExitCode runInspect(const InspectCommand &command);
ExitCode runDoctor(const DoctorCommand &command);

/// The version that `--version` prints and packages record: "moec 0.1.0 (LLVM 22.1.8)".
std::string getVersionString();

} // namespace moec

#endif // MOE_TOOLS_MOEC_COMMANDS_H
