//===- Placement.cpp - Quality and time of placements -----------------------===//
//
// bench-placement STATS...: for each source and each deployment shape whose slots hold its experts, balancedness of
// EPLB and of the plan, the bound, and the times of EPLB, the plan and the split of a batch. One core. No expectation
// is checked.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/Placement/Eplb.h"
#include "passes/Analysis/Placement/Planner.h"
#include "passes/Analysis/Placement/Split.h"
#include "passes/Analysis/Placement/Statistics.h"
#include <chrono>
#include <cstdio>

using namespace moe::placement;

namespace {

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Shape {
  int ranks, slots, nodes;
};

/// Deployments of 256 experts that were published or asked for.
constexpr Shape kShapes[] = {{32, 256, 1}, {32, 288, 1},  {36, 288, 1}, {64, 320, 1}, {72, 288, 1},
                             {96, 288, 1}, {144, 288, 1}, {32, 288, 4}, {64, 320, 8}};

int measure(const Statistics &statistics, const char *name) {
  for (const Shape &shape : kShapes) {
    PlanOptions options;
    options.cluster = {shape.ranks, shape.slots, shape.nodes};
    options.routing = {8, 8, 4};
    if (!checkCluster(options.cluster, statistics.model.experts).ok() || statistics.model.experts % 8 != 0) {
      continue;
    }
    const size_t layers = statistics.model.layerIds.size();
    const double start = seconds();
    for (const Loads &loads : statistics.profiles.front().layers) {
      (void)runEplb(loads, options.cluster, shape.nodes > 1 ? 8 : 1);
    }
    const double eplbDone = seconds();
    Result<Plan> plan = planPlacement(statistics, options);
    if (!plan.ok()) {
      std::fprintf(stderr, "bench-placement: error: %s\n", plan.status().message().c_str());
      return 1;
    }
    const double planDone = seconds();
    for (size_t layer = 0; layer < layers; ++layer) {
      (void)splitLoads(plan->map.layers[layer], statistics.profiles.back().layers[layer], options.cluster);
    }
    const double splitDone = seconds();
    double eplb = 0, after = 0, bound = 0, remote = 0;
    int duplicates = 0;
    for (size_t layer = 0; layer < layers; ++layer) {
      eplb += plan->layers[layer].eplb / layers;
      after += plan->layers[layer].after / layers;
      bound += plan->layers[layer].bound / layers;
      remote += plan->layers[layer].remoteAfter / layers;
      duplicates += countDuplicates(plan->map.layers[layer], options.cluster);
    }
    std::printf("%-28s %3d ranks %3d slots %d nodes  EPLB %.4f  plan %.4f  bound %.4f  remote %.3f  duplicates %d  "
                "EPLB %.1f ms  plan %.2f s  split %.3f ms/layer\n",
                name, shape.ranks, shape.slots, shape.nodes, eplb, after, bound, remote, duplicates,
                (eplbDone - start) * 1e3, planDone - eplbDone, (splitDone - planDone) * 1e3 / layers);
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(stderr,
                 "bench-placement: error: name routing statistics, each on its own: bench-placement STATS...\n");
    return 1;
  }
  for (int i = 1; i < argc; ++i) {
    Result<Statistics> statistics = readStatistics(argv[i], {});
    if (!statistics.ok()) {
      std::fprintf(stderr, "bench-placement: error: %s\n", statistics.status().message().c_str());
      return 1;
    }
    if (const int code = measure(*statistics, statistics->profiles.front().name.c_str())) {
      return code;
    }
  }
  return 0;
}
