//===- Traffic.h - How many nodes a token visits ----------------*- C++ -*-===//
//
// A dispatch kernel that forwards inside a node sends a token once to every
// node that holds one of its experts. How many those are needs to know which
// experts are chosen together. Statistics rarely say, so tokens are drawn from
// a model: groups of experts are drawn without replacement by their load,
// then K experts inside the drawn groups by theirs (Gumbel noise on the log of
// the load; the largest are such draws). Replicas are chosen at random, the
// source node is uniform.
//
// Limits: only the marginal loads are real. Correlation between experts
// beyond groups is absent, so a placement that follows real co-activation is
// better than it looks; a real router draws groups by their best experts, so
// that few drawn groups stay without a token's expert; an engine that prefers a replica on a node already visited sends
// less. Pair counts, where they were recorded, replace the model.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_ANALYSIS_PLACEMENT_TRAFFIC_H
#define MOE_PASSES_ANALYSIS_PLACEMENT_TRAFFIC_H

#include "passes/Analysis/Placement/Model.h"

namespace moe::placement {

/// How the router of a model chooses.
struct RoutingModel {
  int expertsPerToken = 8;
  /// Groups of E / groups neighbouring experts, of which `topGroups` stay; 1: no groups.
  int groups = 1, topGroups = 1;
};

/// Tokens drawn from the model: [token * K + i], experts.
std::vector<int> sampleTokens(const Loads &loads, const RoutingModel &model, int tokens, uint64_t seed);

/// Tokens drawn from recorded pairs, [expert * E + expert] as in LayerProblem::pairs: a pair by its count, then experts
/// by how often they were chosen with those already drawn. Exact for two experts per token.
std::vector<int> samplePairTokens(const std::vector<double> &pairs, int experts, int expertsPerToken, int tokens,
                                  uint64_t seed);

/// Nodes other than its own that a token's experts are on, as a mean over the tokens.
double countRemoteNodes(const std::vector<int> &tokens, int expertsPerToken, const LayerMap &map, int experts,
                        const Cluster &cluster, uint64_t seed);

/// LayerProblem::homes for groups: each group has a home node (E / N experts' worth of groups each, node loads balanced
/// as far as groups allow), and a replica there counts with its share of the load. Of a map in use that may change
/// little (`previous`, else empty) homes stay where most of the groups' load is. Empty when groups do not divide by N.
std::vector<double> homeRewards(const Loads &loads, const Cluster &cluster, int groups, const LayerMap &previous = {});

} // namespace moe::placement

#endif // MOE_PASSES_ANALYSIS_PLACEMENT_TRAFFIC_H
