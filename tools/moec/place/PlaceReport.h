//===- PlaceReport.h - What a plan achieves, as numbers ---------*- C++ -*-===//
//
// Gathers the numbers of a plan (balance, bounds, traffic, moves, time, the
// verdict) once; text, JSON and the HTML page show the same ones.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_PLACE_PLACEREPORT_H
#define MOE_TOOLS_MOEC_PLACE_PLACEREPORT_H

#include "passes/Analysis/Placement/Facts.h"
#include "passes/Analysis/Placement/Planner.h"
#include "tools/moec/Commands.h"
#include "llvm/Support/JSON.h"
#include <optional>

namespace moec {

/// What a plan was made from.
struct PlaceInput {
  const moe::placement::Statistics &statistics;
  const moe::placement::PlanOptions &options;
  const moe::placement::Plan &plan;
  const std::optional<moe::placement::ModelFacts> &model;
  const std::optional<moe::placement::Topology> &topology;
};

/// Everything that is said about the plan.
llvm::json::Object describePlan(const PlaceCommand &command, const PlaceInput &input);

/// The same for people, on stdout.
void printPlan(const llvm::json::Object &report);

/// A page without outside references that shows `report`.
std::string renderPlan(const llvm::json::Object &report);

} // namespace moec

#endif // MOE_TOOLS_MOEC_PLACE_PLACEREPORT_H
