//===- FuseRun.h - One run of moec fuse --------------------------------------===//
//
// Its steps, by file: Fuse.cpp reads the model and goes through them, FuseSearch.cpp chooses the plans that are tried,
// FuseGate.cpp judges them by the rules of Gate.h, FuseOutput.cpp writes what was chosen.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_FUSE_FUSERUN_H
#define MOE_TOOLS_MOEC_FUSE_FUSERUN_H

#include "tools/moec/fuse/Fuse.h"

namespace moec {

class FuseRun {
public:
  FuseRun(const FuseCommand &command, mlir::MLIRContext &context, const WorkFolder &folder)
      : command(command), context(context), commands(command, folder), runner(result, commands, folder),
        progress(command, command.planOnly ? 3 : 7) {
    result.command = &command;
  }

  llvm::Expected<FuseResult *> run();

private:
  llvm::Error readModel();
  llvm::Error readWindows();
  llvm::Error chooseFormat();
  llvm::Error chooseGroups();
  void judgeWindows(const mlir::moe::FusionLimits &limits);
  llvm::Expected<mlir::moe::FusionLimits> limitsOf(const mlir::moe::EngineFormat &format);
  std::vector<mlir::moe::WindowChoice>
  windowsOf(mlir::moe::FusionForm form, llvm::function_ref<double(const mlir::moe::MeasuredWindow &)> klOf) const;
  Trial makeTrial(const llvm::Twine &name, const mlir::moe::PlanPoint &point,
                  llvm::ArrayRef<mlir::moe::WindowChoice> from) const;
  llvm::Error search();
  llvm::Error writePlanOnly();
  std::string findObstacle(const mlir::moe::FusionPlan &plan) const;
  std::vector<Trial> formsAlone() const;
  llvm::Error addComparisons();
  llvm::Error tryPlan(Trial trial);
  GateRules rules() const;
  bool judgeQuality(Trial &trial) const;
  llvm::Error measureSpeed();
  void decide();
  void noteFronts();
  void noteText();
  llvm::Error exportChosen();
  llvm::Error writeReport();

  const FuseCommand &command;
  mlir::MLIRContext &context;
  CommandRunner commands;
  TrialRunner runner;
  Progress progress;
  FuseResult result;
  std::optional<Model> model;
  /// What a plan may have, and the front of it.
  std::vector<mlir::moe::WindowChoice> choices;
  std::vector<mlir::moe::PlanPoint> front;
};

} // namespace moec

#endif // MOE_TOOLS_MOEC_FUSE_FUSERUN_H
