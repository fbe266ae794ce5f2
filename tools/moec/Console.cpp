//===- Console.cpp - What moec says and where -------------------------------===//

#include "tools/moec/Console.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Location.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"
#include <algorithm>
#include <cmath>

using namespace moec;
using llvm::StringRef;

void moec::installErrorHandlers() {
  llvm::install_fatal_error_handler([](void *, const char *reason, bool) {
    llvm::errs() << "moec: internal error: " << reason << "; please report it with the command and its input\n";
    std::_Exit(kInternalError);
  });
}

ExitCode moec::finishOutput(ExitCode code) {
  llvm::outs().flush();
  if (!llvm::outs().has_error()) {
    return code;
  }
  printError("standard output cannot be written: " + llvm::outs().error().message());
  llvm::outs().clear_error();
  return code == kSuccess ? kUserError : code;
}

void moec::printError(const llvm::Twine &message) {
  std::string text = message.str();
  for (StringRef line : llvm::split(StringRef(text).rtrim('\n'), '\n')) {
    llvm::errs() << "moec: error: " << line << '\n';
  }
}

void moec::printNote(const CommonOptions &options, const llvm::Twine &message) {
  if (!options.quiet) {
    llvm::errs() << "moec: note: " << message << '\n';
  }
}

ExitCode moec::fail(llvm::Error error) {
  printError(llvm::toString(std::move(error)));
  return kUserError;
}

void moec::printJson(llvm::json::Value value) { llvm::outs() << llvm::formatv("{0:2}", value) << '\n'; }

std::string moec::withCommas(int64_t number) { return llvm::formatv("{0:N0}", number).str(); }

std::string moec::withPrefix(double value, StringRef unit) {
  static constexpr struct {
    double size;
    const char *prefix;
  } prefixes[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}, {1e-3, "m"}, {1e-6, "u"}, {1e-9, "n"}};
  // Nobody counts in kiloseconds.
  const auto *at = std::find_if(std::begin(prefixes), std::end(prefixes), [&](const auto &each) {
    return std::abs(value) >= each.size && (each.size <= 1 || unit != "s");
  });
  if (at == std::end(prefixes)) {
    return "0 " + unit.str();
  }
  const double scaled = value / at->size;
  const int decimals = std::abs(scaled) >= 99.95 ? 0 : std::abs(scaled) >= 9.995 ? 1 : 2;
  return llvm::formatv("{0} {1}{2}", llvm::format("%.*f", decimals, scaled), at->prefix, unit).str();
}

//===----------------------------------------------------------------------===//
// Progress
//===----------------------------------------------------------------------===//

Progress::Progress(const CommonOptions &options, unsigned stages)
    : quiet(options.quiet), terminal(llvm::sys::Process::StandardErrIsDisplayed()), stages(stages) {}

void Progress::begin(StringRef stage) {
  end();
  name = stage.str();
  ++current;
  start = std::chrono::steady_clock::now();
  if (!quiet && terminal) {
    llvm::errs() << '[' << current << '/' << stages << "] " << name << " ... ";
    llvm::errs().flush();
  }
}

void Progress::update(size_t done, size_t total) {
  if (!quiet && terminal) {
    llvm::errs() << "\r[" << current << '/' << stages << "] " << name << ": " << done << " of " << total << " ... ";
    llvm::errs().flush();
  }
}

void Progress::end() {
  if (!name.empty() && !quiet) {
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!terminal) {
      llvm::errs() << '[' << current << '/' << stages << "] " << name << ": ";
    }
    llvm::errs() << llvm::formatv("{0:F1} s\n", seconds);
  }
  name.clear();
}

Progress::~Progress() {
  if (!name.empty() && !quiet && terminal) {
    llvm::errs() << '\n';
  }
}

//===----------------------------------------------------------------------===//
// Diagnostics
//===----------------------------------------------------------------------===//

/// "model.mlir:3:8" or the name of a layer; empty when unknown.
static std::string describeLocation(mlir::Location location) {
  if (auto name = llvm::dyn_cast<mlir::NameLoc>(location)) {
    return name.getName().str();
  }
  if (auto file = llvm::dyn_cast<mlir::FileLineColLoc>(location)) {
    return llvm::formatv("{0}:{1}:{2}", file.getFilename().getValue(), file.getLine(), file.getColumn()).str();
  }
  if (auto fused = llvm::dyn_cast<mlir::FusedLoc>(location)) {
    return fused.getLocations().empty() ? "" : describeLocation(fused.getLocations().front());
  }
  if (auto call = llvm::dyn_cast<mlir::CallSiteLoc>(location)) {
    return describeLocation(call.getCallee());
  }
  return "";
}

/// What a user is told in place of "failed to legalize operation 'moe.x' that was explicitly marked illegal".
static std::string explain(StringRef message, StringRef stage) {
  if (!message.contains("failed to legalize") && !message.contains("explicitly marked illegal")) {
    return message.str();
  }
  StringRef op = message.split('\'').second.split('\'').first;
  return ("'" + op + "' in this form is not supported by " + stage +
          "; look at the op with 'moec compile --emit moe', and report it with that text if the model is a usual one")
      .str();
}

DiagnosticPrinter::DiagnosticPrinter(mlir::MLIRContext &context)
    : handler(&context, [this](mlir::Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Remark) {
          return mlir::success();
        }
        bool isError = diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error;
        errors += isError;
        std::string where = describeLocation(diagnostic.getLocation());
        std::string prefix = where.empty() ? "" : where + ": ";
        std::string text = prefix + explain(diagnostic.str(), stage);
        if (isError) {
          printError(text);
        } else {
          llvm::errs() << "moec: warning: " << text << '\n';
        }
        for (mlir::Diagnostic &note : diagnostic.getNotes()) {
          std::string noteWhere = describeLocation(note.getLocation());
          std::string noteText = note.str();
          // "see current operation" prints IR, which is no answer to a user's question.
          if (!StringRef(noteText).starts_with("see current operation")) {
            llvm::errs() << "moec: note: " << (noteWhere.empty() ? "" : noteWhere + ": ") << noteText << '\n';
          }
        }
        return mlir::success();
      }) {}
