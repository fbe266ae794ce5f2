//===- Synthetic.cpp - Expert loads that look like real ones ----------------===//

#include "test/passes/Analysis/Placement/Synthetic.h"
#include "passes/Analysis/Placement/Random.h"
#include <cmath>

using namespace moe::placement;

/// Standard normal (Box and Muller).
static double normal(Random &random) {
  return std::sqrt(-2 * std::log(random.uniform() + 1e-300)) * std::cos(6.283185307179586 * random.uniform());
}

Statistics moe::placement::makeStatistics(int layers, int experts, int profiles, double spread, double drift,
                                          uint64_t seed) {
  Random random(seed);
  Statistics statistics;
  statistics.model.experts = experts;
  statistics.model.totalLayers = layers;
  statistics.profiles.resize(profiles);
  for (int layer = 0; layer < layers; ++layer) {
    statistics.model.layerIds.push_back(layer);
    Loads logs(experts);
    for (double &log : logs) {
      log = spread * normal(random);
    }
    for (int k = 0; k < profiles; ++k) {
      statistics.profiles[k].name = "profile " + std::to_string(k);
      Loads loads(experts);
      for (int expert = 0; expert < experts; ++expert) {
        loads[expert] = std::floor(10000 * std::exp(logs[expert] + drift * normal(random))) + 1;
      }
      statistics.profiles[k].layers.push_back(std::move(loads));
    }
  }
  return statistics;
}

uint64_t moe::placement::fingerprint(const std::vector<LayerMap> &maps) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const LayerMap &map : maps) {
    for (int expert : map) {
      hash = (hash ^ static_cast<uint64_t>(expert)) * 0x100000001b3ull;
    }
  }
  return hash;
}
