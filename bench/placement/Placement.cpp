//===- Placement.cpp - Quality and time of placements -----------------------===//
//
// bench-placement [--drift] STATS...: for each source and each deployment shape whose slots hold its experts,
// balancedness of EPLB and of the plan, the bound, and the times of EPLB, the plan and the split of a batch. Of several
// sources, also (with --drift, only) what a few moves from the plan of one make of the plan of another, and one map for
// all. One core. No expectation is checked.
//
//===----------------------------------------------------------------------===//

#include "passes/Analysis/Placement/Eplb.h"
#include "passes/Analysis/Placement/Planner.h"
#include "passes/Analysis/Placement/Split.h"
#include "passes/Analysis/Placement/Statistics.h"
#include <cstdio>
#include <cstring>
#include <ctime>

using namespace moe::placement;

namespace {

/// Of the processor, so that other work on the machine does not count.
double seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

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

struct Summary {
  double before = 0, after = 0, afterSplit = 0, moved = 0, seconds = 0;
};

Result<Summary> planOnce(const Statistics &statistics, const PlanOptions &options, Map &map) {
  const double start = seconds();
  MOERT_ASSIGN(plan, planPlacement(statistics, options));
  Summary summary;
  summary.seconds = seconds() - start;
  for (const LayerReport &layer : plan.layers) {
    summary.before += layer.before / static_cast<double>(plan.layers.size());
    summary.after += layer.after / static_cast<double>(plan.layers.size());
    summary.afterSplit += layer.afterSplit / static_cast<double>(plan.layers.size());
    summary.moved += layer.moves / static_cast<double>(plan.layers.size()) / options.cluster.slots;
  }
  map = std::move(plan.map);
  return summary;
}

/// Deployments between whose plans drift is measured.
constexpr Cluster kDrifting[] = {{32, 288, 1}, {36, 288, 1}, {64, 320, 1}, {72, 288, 1}};

/// From the plan of each source to each other one, with few moves; then one map for all.
Status measureDrift(const std::vector<Statistics> &sources, const Cluster &cluster) {
  PlanOptions options;
  options.cluster = cluster;
  Statistics all = sources.front();
  all.profiles.clear();
  for (const Statistics &from : sources) {
    all.profiles.push_back(from.profiles.front());
    Map start, next;
    options.previous = nullptr;
    options.maxMoves = 1;
    MOERT_TRY(planOnce(from, options, start).status());
    for (const Statistics &to : sources) {
      if (&to == &from) {
        continue;
      }
      options.previous = &start;
      std::printf("%s -> %s, %d ranks %d slots:", from.profiles.front().name.c_str(), to.profiles.front().name.c_str(),
                  cluster.ranks, cluster.slots);
      for (double moves : {0.04, 0.09}) {
        options.maxMoves = moves;
        MOERT_ASSIGN(summary, planOnce(to, options, next));
        std::printf("  %.4f -> %.4f (planned split %.4f) moving %.2f %% (%.2f s)", summary.before, summary.after,
                    summary.afterSplit, 100 * summary.moved, summary.seconds);
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
  Map map;
  options.previous = nullptr;
  options.maxMoves = 1;
  MOERT_ASSIGN(summary, planOnce(all, options, map));
  std::printf("one map for all, %d ranks %d slots: %.4f (%.2f s)\n", cluster.ranks, cluster.slots, summary.after,
              summary.seconds);
  return Status();
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(
        stderr,
        "bench-placement: error: name routing statistics, each on its own: bench-placement [--drift] STATS...\n");
    return 1;
  }
  std::vector<Statistics> sources;
  const bool onlyDrift = std::strcmp(argv[1], "--drift") == 0;
  for (int i = 1 + onlyDrift; i < argc; ++i) {
    Result<Statistics> statistics = readStatistics(argv[i], {});
    if (!statistics.ok()) {
      std::fprintf(stderr, "bench-placement: error: %s\n", statistics.status().message().c_str());
      return 1;
    }
    if (!onlyDrift) {
      if (const int code = measure(*statistics, statistics->profiles.front().name.c_str())) {
        return code;
      }
    }
    sources.push_back(std::move(*statistics));
  }
  for (const Cluster &cluster : kDrifting) {
    if (sources.size() < 2 || !checkCluster(cluster, sources.front().model.experts).ok()) {
      continue;
    }
    if (Status status = measureDrift(sources, cluster); !status.ok()) {
      std::fprintf(stderr, "bench-placement: error: %s\n", status.message().c_str());
      return 1;
    }
  }
  return 0;
}
