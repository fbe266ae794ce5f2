//===- PlaceReport.cpp - What a plan achieves, as numbers -------------------===//

#include "tools/moec/place/PlaceReport.h"
#include "passes/Analysis/Placement/Estimate.h"
#include "passes/Analysis/Placement/LayerProblem.h"
#include "passes/Analysis/Placement/LoadMetrics.h"
#include "tools/moec/Console.h"
#include "llvm/Support/FormatVariadic.h"
#include <algorithm>
#include <cmath>
#include <map>

using namespace moec;
using namespace moe::placement;
using llvm::formatv;
namespace json = llvm::json;

namespace {

/// Numbers of a report are read by people too: six digits.
json::Value rounded(double value) {
  if (value == 0 || !std::isfinite(value)) {
    return 0;
  }
  const double scale = std::pow(10.0, 5 - std::floor(std::log10(std::abs(value))));
  return std::round(value * scale) / scale;
}

double meanOf(const Plan &plan, double LayerReport::*member) {
  double sum = 0;
  for (const LayerReport &layer : plan.layers) {
    sum += layer.*member;
  }
  return sum / static_cast<double>(plan.layers.size());
}

json::Array numbers(const std::vector<double> &values) {
  json::Array array;
  for (double value : values) {
    array.push_back(rounded(value));
  }
  return array;
}

/// Loads of a layer over all profiles, mean 1 per rank.
Loads meanLoads(const PlaceInput &input, size_t layer) {
  const auto &profiles = input.statistics.profiles;
  Loads mean(input.statistics.model.experts, 0.0);
  for (size_t k = 0; k < profiles.size(); ++k) {
    const Loads scaled = scaleLoads(profiles[k].layers[layer], input.options.cluster.ranks);
    const double weight = input.options.importance.empty() ? 1.0 : input.options.importance[k];
    for (size_t expert = 0; expert < mean.size(); ++expert) {
      mean[expert] += weight * scaled[expert];
    }
  }
  return scaleLoads(mean, input.options.cluster.ranks);
}

/// Half the sum of differences of two loads of sum 1: 0 for equal ones, 1 for those that share no expert.
double totalVariation(const Loads &first, const Loads &second) {
  const Loads a = scaleLoads(first, 1), b = scaleLoads(second, 1);
  double sum = 0;
  for (size_t expert = 0; expert < a.size(); ++expert) {
    sum += std::abs(a[expert] - b[expert]) / 2;
  }
  return sum;
}

bool isEmpty(const Loads &loads) {
  return std::all_of(loads.begin(), loads.end(), [](double load) { return load == 0; });
}

/// How a profile with windows changes along time: [layer][window] distances from its sum, and the balancedness that the
/// maps reach in every window, as a mean over layers. Windows in which a layer has no load are null, and left out of
/// means.
json::Object describeWindows(const PlaceInput &input, const Profile &profile) {
  const Plan &plan = input.plan;
  const Cluster &cluster = input.options.cluster;
  json::Array distances, before, after;
  for (size_t layer = 0; layer < profile.layers.size(); ++layer) {
    json::Array row;
    for (const std::vector<Loads> &window : profile.windows) {
      row.push_back(isEmpty(window[layer]) ? json::Value(nullptr)
                                           : rounded(totalVariation(window[layer], profile.layers[layer])));
    }
    distances.push_back(std::move(row));
  }
  for (const std::vector<Loads> &window : profile.windows) {
    double sums[2] = {0, 0};
    int count = 0;
    for (size_t layer = 0; layer < window.size(); ++layer) {
      if (!isEmpty(window[layer])) {
        sums[0] += balancedness(plan.before.layers[layer], window[layer], cluster);
        sums[1] += balancedness(plan.map.layers[layer], window[layer], cluster);
        ++count;
      }
    }
    before.push_back(count == 0 ? json::Value(nullptr) : rounded(sums[0] / count));
    after.push_back(count == 0 ? json::Value(nullptr) : rounded(sums[1] / count));
  }
  return json::Object{{"profile", profile.name},
                      {"distances", std::move(distances)},
                      {"balancedness_before", std::move(before)},
                      {"balancedness_after", std::move(after)}};
}

/// How even the routing of a profile is, layer by layer, whatever the map.
json::Object describeBalance(const PlaceInput &input, const Profile &profile) {
  json::Array layers;
  for (size_t layer = 0; layer < profile.layers.size(); ++layer) {
    const RoutingBalance balance = measureBalance(profile, layer, input.statistics.expertsPerToken);
    json::Object row{{"layer", input.statistics.model.layerIds[layer]},
                     {"cv", rounded(balance.variation)},
                     {"mse_fraction", rounded(balance.errorOfFractions)},
                     {"mse_count", rounded(balance.errorOfCounts)}};
    if (balance.hasLosses) {
      row["switch_loss"] = rounded(balance.switchLoss);
      row["gshard_loss"] = rounded(balance.gshardLoss);
      row["huggingface_loss"] = rounded(balance.huggingFaceLoss);
    }
    layers.push_back(std::move(row));
  }
  json::Object result{{"profile", profile.name}, {"layers", std::move(layers)}};
  if (!profile.firstCounts.empty()) {
    result["huggingface_loss"] = rounded(huggingFaceLossOfLayers(profile));
  }
  return result;
}

/// [i, j, n] of a layer, added up over the profiles that have pairs.
json::Array addPairs(const PlaceInput &input, size_t layer) {
  std::map<std::pair<int, int>, double> sums;
  for (const Profile &profile : input.statistics.profiles) {
    if (!profile.pairs.empty()) {
      for (const Pair &pair : profile.pairs[layer]) {
        sums[{pair.first, pair.second}] += pair.count;
      }
    }
  }
  json::Array pairs;
  for (const auto &[experts, count] : sums) {
    pairs.push_back(json::Array{experts.first, experts.second, rounded(count)});
  }
  return pairs;
}

/// [source * R + target]: part of all expert assignments, when a source prefers a replica on itself, then on its node.
std::vector<double> rankTraffic(const PlaceInput &input, const Map &map) {
  const Cluster &cluster = input.options.cluster;
  const int experts = input.statistics.model.experts;
  std::vector<double> traffic(static_cast<size_t>(cluster.ranks) * cluster.ranks, 0.0);
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    const Loads loads = scaleLoads(meanLoads(input, layer), 1);
    std::vector<std::vector<int>> holders(experts);
    for (int slot = 0; slot < cluster.slots; ++slot) {
      holders[map.layers[layer][slot]].push_back(cluster.rankOf(slot));
    }
    for (int source = 0; source < cluster.ranks; ++source) {
      for (int expert = 0; expert < experts; ++expert) {
        std::vector<int> targets;
        for (int near = 0; near < 3 && targets.empty(); ++near) {
          for (int rank : holders[expert]) {
            if (near == 2 || (near == 0 ? rank == source : cluster.nodeOf(rank) == cluster.nodeOf(source))) {
              targets.push_back(rank);
            }
          }
        }
        for (int target : targets) {
          traffic[source * cluster.ranks + target] +=
              loads[expert] / (cluster.ranks * static_cast<double>(targets.size() * map.layers.size()));
        }
      }
    }
  }
  return traffic;
}

/// Seconds of a step in all MoE layers, as a mean over profiles; replicas share as the map says.
double stepSeconds(const PlaceCommand &command, const PlaceInput &input, const Map &map,
                   double LayerReport::*remoteNodes) {
  double seconds = 0;
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    const std::vector<int> shares = map.shares.empty() ? std::vector<int>() : map.shares[layer];
    seconds +=
        layerSeconds(map.layers[layer], shares, meanLoads(input, layer), input.options.cluster, command.tokensPerStep,
                     input.plan.layers[layer].*remoteNodes, *input.model, *input.topology);
  }
  return seconds;
}

/// Whether it is worth it: {"verdict", "reason"} and the numbers behind it.
void addTimes(const PlaceCommand &command, const PlaceInput &input, int64_t moves, json::Object &report) {
  const Plan &plan = input.plan;
  const bool timed = input.model && input.topology && command.tokensPerStep > 0;
  const double expertBytes =
      command.expertBytes > 0 ? command.expertBytes : (input.model ? input.model->expertBytes() : 0);
  if (expertBytes > 0) {
    report["expert_bytes"] = rounded(expertBytes);
    report["move_bytes"] = rounded(expertBytes * static_cast<double>(moves));
  }
  double gain = 0;
  if (timed) {
    const double before = stepSeconds(command, input, plan.before, &LayerReport::remoteBefore);
    const double after = stepSeconds(command, input, plan.map, &LayerReport::remoteAfter);
    gain = before - after;
    report["step_seconds_before"] = rounded(before);
    report["step_seconds_after"] = rounded(after);
  }
  auto decide = [&](const char *verdict, std::string reason) {
    report["verdict"] = verdict;
    report["reason"] = std::move(reason);
  };
  const double balanceBefore = meanOf(plan, &LayerReport::before), balanceAfter = meanOf(plan, &LayerReport::after);
  if (command.previous.empty()) {
    if (timed) {
      return decide(gain > 0 ? "do" : "do not", "a step's MoE layers are expected to take " + withPrefix(gain, "s") +
                                                    " less; without --previous nothing moves");
    }
    return decide(balanceAfter > balanceBefore ? "do" : "do not",
                  "by balancedness only; for an answer in time give --model, --topology and --tokens-per-step");
  }
  if (moves == 0) {
    return decide("do not", "the map in use stays as it is");
  }
  const double bandwidth =
      command.bandwidth > 0 ? command.bandwidth * 1e9 : (input.topology ? input.topology->networkRate : 0);
  if (!timed || bandwidth == 0 || expertBytes == 0) {
    return decide("unknown", "for an answer give --model, --topology, --tokens-per-step and --replan-every");
  }
  const double migration = migrationSeconds(plan.map, plan.before, expertBytes, bandwidth);
  report["migration_seconds"] = rounded(migration);
  if (gain <= 0) {
    return decide("do not", "no step becomes faster, although balancedness may rise");
  }
  report["break_even_steps"] = std::ceil(migration / gain);
  const std::string price = formatv("moving takes {0}, a step gains {1}: it pays after {2:F0} steps",
                                    withPrefix(migration, "s"), withPrefix(gain, "s"), std::ceil(migration / gain));
  if (command.replanEvery == 0) {
    return decide("unknown", price + "; say with --replan-every how many steps the map stays");
  }
  decide(gain * command.replanEvery > migration ? "do" : "do not",
         price + formatv(", and the map stays for {0:F0}", command.replanEvery).str());
}

} // namespace

json::Object moec::describePlan(const PlaceCommand &command, const PlaceInput &input) {
  const Plan &plan = input.plan;
  const Cluster &cluster = input.options.cluster;
  const ModelLayers &model = input.statistics.model;
  const bool several = cluster.nodes > 1;
  json::Object report{{"experts", model.experts},
                      {"moe_layers", model.layerIds.size()},
                      {"total_layers", model.totalLayers},
                      {"ranks", cluster.ranks},
                      {"slots", cluster.slots},
                      {"nodes", cluster.nodes},
                      {"groups", input.options.routing.groups},
                      {"top_k", input.options.routing.expertsPerToken},
                      {"seed", command.seed},
                      {"resamples", command.resamples},
                      {"assumes_no_dense_layers", input.statistics.assumesNoDenseLayers},
                      {"ended_by_time", plan.endedByTime}};
  json::Array names, windows, evenness;
  for (const Profile &profile : input.statistics.profiles) {
    names.push_back(profile.name);
    evenness.push_back(describeBalance(input, profile));
    if (!profile.windows.empty()) {
      windows.push_back(describeWindows(input, profile));
    }
  }
  report["profiles"] = std::move(names);
  report["windows"] = std::move(windows);
  report["routing_balance"] = std::move(evenness);
  const double after = meanOf(plan, &LayerReport::after), bound = meanOf(plan, &LayerReport::bound);
  report["balancedness"] = json::Object{{"before", rounded(meanOf(plan, &LayerReport::before))},
                                        {"eplb", rounded(meanOf(plan, &LayerReport::eplb))},
                                        {"after", rounded(after)},
                                        {"after_split", rounded(meanOf(plan, &LayerReport::afterSplit))},
                                        {"bound", rounded(bound)},
                                        {"any_split_bound", rounded(meanOf(plan, &LayerReport::anySplitBound))},
                                        {"gap", rounded(1 - after / bound)}};
  if (command.tokensPerStep > 0) {
    report["noise_floor"] = rounded(
        noiseFloor(command.tokensPerStep * input.options.routing.expertsPerToken / cluster.ranks, cluster.ranks));
  }
  if (several) {
    report["remote_nodes"] = json::Object{{"before", rounded(meanOf(plan, &LayerReport::remoteBefore))},
                                          {"eplb", rounded(meanOf(plan, &LayerReport::remoteEplb))},
                                          {"after", rounded(meanOf(plan, &LayerReport::remoteAfter))}};
    if (input.model) {
      report["remote_bytes_per_token_layer"] =
          json::Object{{"before", rounded(remoteBytes(meanOf(plan, &LayerReport::remoteBefore), input.model->hidden))},
                       {"after", rounded(remoteBytes(meanOf(plan, &LayerReport::remoteAfter), input.model->hidden))}};
    }
  }
  json::Array layers, loads, ranksBefore, ranksAfter, pairs;
  const auto &profiles = input.statistics.profiles;
  const bool hasPairs =
      std::any_of(profiles.begin(), profiles.end(), [](const Profile &profile) { return !profile.pairs.empty(); });
  int64_t moves = 0;
  int duplicates = 0, eplbDuplicates = 0, mostReplicas = 0;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const LayerReport &layer = plan.layers[i];
    const Loads mean = meanLoads(input, i);
    // As they were counted, all profiles together: this one grows with the square of the tokens.
    Loads counted(model.experts, 0.0);
    for (const Profile &profile : profiles) {
      for (int expert = 0; expert < model.experts; ++expert) {
        counted[expert] += profile.layers[i][expert];
      }
    }
    const std::vector<int> counts = countReplicas(plan.map.layers[i], model.experts);
    mostReplicas = std::max(mostReplicas, *std::max_element(counts.begin(), counts.end()));
    duplicates += countDuplicates(plan.map.layers[i], cluster);
    eplbDuplicates += countDuplicates(plan.eplb.layers[i], cluster);
    moves += layer.moves;
    json::Object row{{"layer", model.layerIds[i]},
                     {"before", rounded(layer.before)},
                     {"eplb", rounded(layer.eplb)},
                     {"after", rounded(layer.after)},
                     {"after_split", rounded(layer.afterSplit)},
                     {"bound", rounded(layer.bound)},
                     {"moves", layer.moves},
                     {"cv", rounded(coefficientOfVariation(mean))},
                     {"mse_fraction", rounded(squaredErrorOfFractions(mean))},
                     {"mse_count", rounded(squaredErrorOfCounts(counted))}};
    if (several) {
      row["remote_before"] = rounded(layer.remoteBefore);
      row["remote_after"] = rounded(layer.remoteAfter);
    }
    layers.push_back(std::move(row));
    loads.push_back(numbers(scaleLoads(mean, model.experts)));
    ranksBefore.push_back(numbers(rankLoads(plan.before.layers[i], mean, cluster)));
    ranksAfter.push_back(numbers(rankLoads(plan.map.layers[i], mean, cluster)));
    if (hasPairs) {
      pairs.push_back(addPairs(input, i));
    }
  }
  report["duplicates"] = duplicates;
  report["eplb_duplicates"] = eplbDuplicates;
  report["redundant_slots"] = cluster.slots - model.experts;
  report["most_replicas"] = mostReplicas;
  report["has_previous"] = !command.previous.empty();
  if (!command.previous.empty()) {
    report["moves"] = moves;
    report["moves_fraction"] =
        rounded(static_cast<double>(moves) / (static_cast<double>(cluster.slots) * static_cast<double>(layers.size())));
  }
  addTimes(command, input, command.previous.empty() ? 0 : moves, report);
  json::Array map;
  for (const LayerMap &layer : plan.map.layers) {
    map.push_back(json::Array(layer));
  }
  report["layers"] = std::move(layers);
  report["expert_loads"] = std::move(loads);
  report["rank_loads_before"] = std::move(ranksBefore);
  report["rank_loads_after"] = std::move(ranksAfter);
  report["pairs"] = std::move(pairs);
  report["rank_traffic_before"] = numbers(rankTraffic(input, plan.before));
  report["rank_traffic_after"] = numbers(rankTraffic(input, plan.map));
  report["placement"] = std::move(map);
  return report;
}

//===----------------------------------------------------------------------===//
// For people
//===----------------------------------------------------------------------===//

void moec::printPlan(const json::Object &report) {
  auto number = [](const json::Object &from, llvm::StringRef key) { return from.getNumber(key).value_or(0); };
  const bool several = number(report, "nodes") > 1, moved = report.getBoolean("has_previous").value_or(false);
  llvm::raw_ostream &out = llvm::outs();
  out << formatv(
      "{0:F0} MoE layers, {1:F0} experts; {2:F0} ranks on {3:F0} {4}, {5:F0} slots, {6:F0} of them redundant\n",
      number(report, "moe_layers"), number(report, "experts"), number(report, "ranks"), number(report, "nodes"),
      several ? "nodes" : "node", number(report, "slots"), number(report, "redundant_slots"));
  out << "balancedness (mean / max rank load), 1 is perfect\n  layer   before     EPLB    after    bound";
  out << (several ? "   remote nodes" : "") << (moved ? "   moves" : "") << '\n';
  for (const json::Value &value : *report.getArray("layers")) {
    const json::Object &row = *value.getAsObject();
    out << formatv("  {0,5:F0}  {1,7:F4}  {2,7:F4}  {3,7:F4}  {4,7:F4}", number(row, "layer"), number(row, "before"),
                   number(row, "eplb"), number(row, "after"), number(row, "bound"));
    if (several) {
      out << formatv("   {0:F2} -> {1:F2}", number(row, "remote_before"), number(row, "remote_after"));
    }
    if (moved) {
      out << formatv("   {0,5:F0}", number(row, "moves"));
    }
    out << '\n';
  }
  const json::Object &balance = *report.getObject("balancedness");
  out << formatv("   mean  {0,7:F4}  {1,7:F4}  {2,7:F4}  {3,7:F4}   {4:F2} % below the bound\n",
                 number(balance, "before"), number(balance, "eplb"), number(balance, "after"), number(balance, "bound"),
                 number(balance, "gap") * 100);
  auto row = [&](llvm::StringRef key, const llvm::Twine &value) { out << formatv("  {0,-15} ", key) << value << '\n'; };
  if (report.get("noise_floor")) {
    row("noise floor",
        formatv("{0:F4}: what random routing leaves of perfect balance in one step", number(report, "noise_floor"))
            .str());
  }
  row("replicas",
      formatv("at most {0:F0} of one expert; {1:F0} duplicates on a rank (EPLB: {2:F0})",
              number(report, "most_replicas"), number(report, "duplicates"), number(report, "eplb_duplicates"))
          .str());
  if (number(report, "redundant_slots") > 0) {
    row("planned split",
        formatv("{0:F4} when replicas take the shares of a map of moe-opt (--format json), and not equal parts",
                number(balance, "after_split"))
            .str());
  }
  if (const json::Object *remote = report.getObject("remote_nodes")) {
    row("remote nodes", formatv("{0:F3} per token before, {1:F3} after (EPLB: {2:F3}), drawn tokens",
                                number(*remote, "before"), number(*remote, "after"), number(*remote, "eplb"))
                            .str());
  }
  if (const json::Object *bytes = report.getObject("remote_bytes_per_token_layer")) {
    row("traffic", formatv("{0:F0} bytes per token and layer between nodes before, {1:F0} after",
                           number(*bytes, "before"), number(*bytes, "after"))
                       .str());
  }
  if (moved) {
    row("moves", formatv("{0:F0} slots ({1:F1} %){2}", number(report, "moves"), number(report, "moves_fraction") * 100,
                         report.get("move_bytes") ? ", " + withPrefix(number(report, "move_bytes"), "B") : "")
                     .str());
  }
  if (report.get("step_seconds_before")) {
    row("step", "MoE layers " + withPrefix(number(report, "step_seconds_before"), "s") + " before, " +
                    withPrefix(number(report, "step_seconds_after"), "s") +
                    " after (expected loads, kernels at full rate" +
                    (report.getString("format") == "json" ? ", replicas sharing as the map says)" : ")"));
  }
  row("verdict", report.getString("verdict").value_or("") + ": " + report.getString("reason").value_or(""));
  if (report.getBoolean("assumes_no_dense_layers").value_or(false)) {
    row("note",
        "the statistics count MoE layers only, so layers are numbered as if none were dense; name the model with "
        "--model if it has dense layers");
  }
  if (report.getBoolean("ended_by_time").value_or(false)) {
    row("note", "the time budget ended the search; another run may give another map");
  }
}
