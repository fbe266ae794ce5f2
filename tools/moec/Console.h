//===- Console.h - What moec says and where ---------------------------------===//
//
// Results go to stdout, everything else to stderr: "moec: error: ..." lines,
// notes, and one line per stage with its time. On a terminal a stage shows
// while it runs. Diagnostics of MLIR come out in the same form; a raw
// legalization failure is turned into a sentence for people.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_CONSOLE_H
#define MOE_TOOLS_MOEC_CONSOLE_H

#include "mlir/IR/Diagnostics.h"
#include "tools/moec/Commands.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <chrono>

namespace moec {

/// Prints `message`, one line per line of it, as "moec: error: <line>".
void printError(const llvm::Twine &message);
/// Prints "moec: note: <message>" unless quiet.
void printNote(const CommonOptions &options, const llvm::Twine &message);

/// Prints the error and returns the exit code for it.
ExitCode fail(llvm::Error error);

/// Prints `value` on stdout, indented, with a newline.
void printJson(llvm::json::Value value);

/// "5,551,744".
std::string withCommas(int64_t number);

/// Three digits with the prefix that suits them: "7.86 us", "1.18 MB", "48.2 s".
std::string withPrefix(double value, llvm::StringRef unit);

/// The stages of a long command: "[3/7] lower to sched ... 0.4 s" on a terminal, "[3/7] lower to sched: 0.4 s"
/// elsewhere.
class Progress {
public:
  Progress(const CommonOptions &options, unsigned stages);
  /// Ends the running stage, if any, and begins the next.
  void begin(llvm::StringRef stage);
  /// On a terminal: how far the running stage is.
  void update(size_t done, size_t total);
  /// Ends the running stage.
  void end();
  /// Leaves the line of the running stage, so that an error starts on its own.
  ~Progress();

private:
  bool quiet, terminal;
  unsigned stages, current = 0;
  std::string name;
  std::chrono::steady_clock::time_point start;
};

/// Prints the diagnostics of `context` as moec's own while it lives. What the compiler could not lower becomes: where,
/// which op, which stage, what to do.
class DiagnosticPrinter {
public:
  explicit DiagnosticPrinter(mlir::MLIRContext &context);
  /// Names the stage for messages: "the lowering to linalg".
  void setStage(llvm::StringRef name) { stage = name.str(); }
  bool hasErrors() const { return errors != 0; }

private:
  mlir::ScopedDiagnosticHandler handler;
  std::string stage = "the compiler";
  unsigned errors = 0;
};

} // namespace moec

#endif // MOE_TOOLS_MOEC_CONSOLE_H
