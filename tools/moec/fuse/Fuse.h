//===- Fuse.h - The parts of moec fuse ---------------------------------------===//
//
// Fuse.cpp decides which plans to try, Gate.h whether one is good enough. Here is
// what is known of a plan that is tried (FuseTrial.cpp measures it), and the
// report (FuseReport.cpp), whose keys others read.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_FUSE_FUSE_H
#define MOE_TOOLS_MOEC_FUSE_FUSE_H

#include "passes/Analysis/EngineFacts.h"
#include "tools/moec/Model.h"
#include "tools/moec/fuse/FuseModel.h"
#include "tools/moec/fuse/FuseProcess.h"
#include "tools/moec/fuse/Gate.h"

namespace moec {

/// A measured window, and why no plan may have it; empty: it may.
struct FuseWindow {
  mlir::moe::MeasuredWindow measured;
  std::string reason;
};

/// Decode and prefill, round by round: `moe-run bench`.
struct Speed {
  std::vector<double> decodeMs, prefillTokensPerSecond;
};

/// A plan that is tried.
struct Trial {
  std::string name;
  std::vector<mlir::moe::WindowChoice> windows;
  /// Attentions that go before anything is fused, as a plan of the user's may say.
  std::vector<int64_t> removeAttention;
  /// It has maps; the published recipe has none.
  bool repair = true;
  /// The user's plan file that this is, else empty; and whether the maps are its own. Others are fitted.
  std::string given;
  bool hasOwnMaps = false;
  double klPredicted = 0, klPlain = 0;
  /// Known once it was tried.
  std::string planFile, package;
  ModelShape shape;
  std::optional<Difference> difference;
  Speed speed;
  /// Of decode against the base measured just before or after.
  std::optional<Gain> gain;
  /// Whether it is a plan of the search, and not there to be compared with.
  bool isOurs = false;
  /// Whether it is the published recipe's, which ours are compared with.
  bool isRecipe = false;
  /// Whether the quality gate is passed, and why not.
  bool fits = false, kept = false;
  std::string reason;
};

/// Everything that the report says.
struct FuseResult {
  const FuseCommand *command = nullptr;
  const Model *model = nullptr;
  ModelLayers layers;
  ModelShape baseShape;
  mlir::moe::FusionCalibration calibration;
  /// Held-out tokens that windows were judged on, if there are enough others for the gate; else 0, and the gate takes
  /// all.
  int64_t skipTokens = 0;
  const mlir::moe::EngineFacts *engine = nullptr;
  const mlir::moe::EngineFormat *format = nullptr;
  std::vector<FuseWindow> windows;
  std::vector<Trial> trials;
  Speed baseSpeed;
  /// Index of the chosen trial, if one passes the gate.
  std::optional<size_t> chosen;
  std::string reason;
  std::vector<std::string> notes;
};

/// What divides a package among the ranks whose speed is measured.
void addRanks(std::vector<std::string> &arguments, int64_t ranks);
/// `file` as the plan `plan` names it, seen from the plan's folder.
std::string besidePlan(llvm::StringRef plan, llvm::StringRef file);
/// Copies the maps `from` beside `plan`, under a name that their contents give, and returns that name.
llvm::Expected<std::string> placeMaps(llvm::StringRef from, llvm::StringRef plan);

/// Measures plans on one model.
class TrialRunner {
public:
  TrialRunner(FuseResult &result, CommandRunner &commands, const WorkFolder &folder)
      : result(result), commands(commands), folder(folder) {}

  /// Compiles the model as it is.
  llvm::Error compileBase();
  /// Writes the plan of `trial`, with maps that repair it if it asks for that, and says where it is.
  llvm::Error writePlan(Trial &trial);
  /// Compiles the plan and compares it with the base.
  llvm::Error compare(Trial &trial);
  /// Measures all of `trials` in turn, round by round, each beside the base.
  llvm::Error measureSpeed(llvm::MutableArrayRef<Trial *> trials);

private:
  std::vector<std::string> compileArguments(llvm::StringRef package, int64_t ranks) const;
  llvm::Expected<llvm::json::Object> describePlan(const Trial &trial) const;
  llvm::Error measureShape(Trial &trial);
  llvm::Expected<std::string> packageForSpeed(llvm::StringRef package, llvm::StringRef plan);
  llvm::Error measureOnce(llvm::StringRef package, Speed &speed);

  FuseResult &result;
  CommandRunner &commands;
  const WorkFolder &folder;
  bool hasInstrumented = false;
};

/// "R", "D", "P" or, of several, "mixed".
std::string describeForms(llvm::ArrayRef<mlir::moe::WindowChoice> windows);
/// "4-5 D, 9-11 P".
std::string describeWindows(llvm::ArrayRef<mlir::moe::WindowChoice> windows);

/// The report for programs (docs/ffn-fusion.md) and for people. `plan` is the chosen plan file's content, or null.
llvm::json::Object describeResult(const FuseResult &result, llvm::json::Value plan);
std::string spellResult(const FuseResult &result);

} // namespace moec

#endif // MOE_TOOLS_MOEC_FUSE_FUSE_H
