//===- FusionPlanFile.h - The windows of a fusion plan ----------*- C++ -*-===//
//
// Reads of a plan (docs/ffn-fusion.md) what repairing it needs, and writes it
// again with the maps that repair it. What else a plan may hold stays as it is:
// checking all of it is the compiler's business.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_FUSIONPLANFILE_H
#define MOE_TOOLS_MOERUN_CALIBRATE_FUSIONPLANFILE_H

#include "tools/moe-run/Console.h"
#include "tools/moe-run/calibrate/Windows.h"

namespace moerun {

struct FusionPlanFile {
  /// The whole plan.
  Json tree;
  /// Ascending and apart.
  std::vector<Window> windows;
  std::set<int64_t> removeAttention;

  /// A plan for a model of `layers` layers.
  static moert::Result<FusionPlanFile> read(const std::string &path, int64_t layers);
};

/// Tensors of a window's maps by name, as a plan's "maps" and its file have them.
std::string mapName(const Window &window, const std::string &what);

/// The maps `file` as the plan `plan` names them: seen from its folder, where they must be, or below.
moert::Result<std::string> mapsFileOf(const std::string &file, const std::string &plan);

/// An error if there is a file at `path` that is no maps (no plan): it must not be lost.
moert::Status checkMapsReplaced(const std::string &path);
moert::Status checkPlanReplaced(const std::string &path);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_FUSIONPLANFILE_H
