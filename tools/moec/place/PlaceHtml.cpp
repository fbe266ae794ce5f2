//===- PlaceHtml.cpp - A plan as a page -------------------------------------===//
//
// Draws `moec place --json`: every number of the page is one of the report or its place among them (nothing is computed
// beyond sums over rows for charts), and the report itself is embedded.
//
//===----------------------------------------------------------------------===//

#include "tools/moec/Console.h"
#include "tools/moec/html/Html.h"
#include "tools/moec/place/PlaceReport.h"
#include "llvm/ADT/StringExtras.h"
#include <algorithm>
#include <cmath>

using namespace moec;
namespace json = llvm::json;

namespace {

using Table = std::vector<std::vector<double>>;

double numberOf(const json::Object &from, llvm::StringRef key) { return from.getNumber(key).value_or(NAN); }

std::vector<double> readRow(const json::Array &array) {
  std::vector<double> row;
  for (const json::Value &value : array) {
    row.push_back(value.getAsNumber().value_or(NAN));
  }
  return row;
}

Table readTable(const json::Array *array) {
  Table rows;
  for (const json::Value &value : array ? *array : json::Array()) {
    rows.push_back(readRow(*value.getAsArray()));
  }
  return rows;
}

double largest(const Table &rows) {
  double most = 0;
  for (const std::vector<double> &row : rows) {
    for (double value : row) {
      most = std::isnan(value) ? most : std::max(most, value);
    }
  }
  return most;
}

/// The sections of the page.
class Page {
public:
  explicit Page(const json::Object &report)
      : report(report), balance(*report.getObject("balancedness")), layers(*report.getArray("layers")) {
    for (const json::Value &layer : layers) {
      ids.push_back(html::number(numberOf(*layer.getAsObject(), "layer")));
    }
  }
  std::string render() const {
    return verdict() + tiles() + balanceByLayer() + expertLoads() + rankLoads() + stability() + company() + traffic() +
           tables();
  }

private:
  std::string verdict() const;
  std::string tiles() const;
  std::string balanceByLayer() const;
  std::string expertLoads() const;
  std::string rankLoads() const;
  std::string stability() const;
  std::string company() const;
  std::string traffic() const;
  std::string tables() const;
  /// A heat map of loads around 1, the mean.
  html::HeatMap aroundMean(std::string title, std::string columns, Table values, double most) const;

  const json::Object &report, &balance;
  const json::Array &layers;
  /// Numbers of the MoE layers in the decoder.
  std::vector<std::string> ids;
};

} // namespace

std::string Page::verdict() const {
  const llvm::StringRef answer = report.getString("verdict").value_or("unknown");
  std::string headline = answer == "do" ? "Worth it" : answer == "do not" ? "Not worth it" : "Undecided";
  headline += ": balancedness " + html::number(numberOf(balance, "before")) + " before, " +
              html::number(numberOf(balance, "after")) + " after";
  return html::verdict(headline, report.getString("reason").value_or(""), answer == "do");
}

std::string Page::tiles() const {
  auto count = [&](llvm::StringRef key) { return html::number(numberOf(report, key)); };
  std::vector<html::Tile> list = {
      {"model", count("moe_layers") + " layers", count("experts") + " experts, " + count("top_k") + " per token"},
      {"machines", count("ranks") + " ranks",
       "on " + count("nodes") + (numberOf(report, "nodes") > 1 ? " nodes" : " node")},
      {"slots", count("slots"), count("redundant_slots") + " redundant, at most " + count("most_replicas") + " of one"},
      {"balancedness", html::number(numberOf(balance, "after")),
       "EPLB " + html::number(numberOf(balance, "eplb")) + ", bound " + html::number(numberOf(balance, "bound"))}};
  if (numberOf(report, "redundant_slots") > 0) {
    list.push_back(
        {"with planned shares", html::number(numberOf(balance, "after_split")), "of replicas, in maps of moe-opt"});
  }
  if (const json::Object *remote = report.getObject("remote_nodes")) {
    list.push_back(
        {"remote nodes per token", html::number(numberOf(*remote, "after")),
         html::number(numberOf(*remote, "before")) + " before, EPLB " + html::number(numberOf(*remote, "eplb"))});
  }
  if (report.get("noise_floor")) {
    list.push_back({"noise floor", count("noise_floor"), "random routing, one step"});
  }
  if (report.get("moves")) {
    list.push_back({"moves", count("moves"),
                    html::number(numberOf(report, "moves_fraction") * 100) + " % of the slots" +
                        (report.get("move_bytes") ? ", " + withPrefix(numberOf(report, "move_bytes"), "B") : "")});
  }
  if (report.get("step_seconds_before")) {
    list.push_back({"MoE layers of a step", withPrefix(numberOf(report, "step_seconds_after"), "s"),
                    withPrefix(numberOf(report, "step_seconds_before"), "s") + " before"});
  }
  if (report.get("break_even_steps")) {
    list.push_back({"pays after", count("break_even_steps") + " steps",
                    "moving takes " + withPrefix(numberOf(report, "migration_seconds"), "s")});
  }
  return html::tiles(list);
}

std::string Page::balanceByLayer() const {
  html::Chart chart;
  chart.xTitle = "layer";
  chart.yTitle = "mean / max rank load";
  chart.width = 1000;
  chart.fromZero = false;
  chart.series = {{"before", {}}, {"after", {}}, {"EPLB", {}}, {"bound", {}, true, /*dots=*/false}};
  const llvm::StringRef keys[] = {"before", "after", "eplb", "bound"};
  for (const json::Value &value : layers) {
    const json::Object &layer = *value.getAsObject();
    for (size_t i = 0; i < std::size(keys); ++i) {
      chart.series[i].points.push_back({numberOf(layer, "layer"), numberOf(layer, keys[i]), ""});
    }
  }
  return html::section("Balancedness by layer",
                       "1: all ranks have the same load. The fullest rank decides how long a layer takes. No map with "
                       "these slots lies above the bound.",
                       html::draw(chart));
}

html::HeatMap Page::aroundMean(std::string title, std::string columns, Table values, double most) const {
  html::HeatMap map;
  map.title = std::move(title);
  map.rowTitle = "layer";
  map.columnTitle = std::move(columns);
  map.rowNames = ids;
  map.values = std::move(values);
  // As far above the mean as below, by factors, so that white is the mean.
  most = std::max(most, 1.05);
  map.scale = {1 / most, most, html::Scale::Palette::Diverging, true};
  return map;
}

std::string Page::expertLoads() const {
  Table loads = readTable(report.getArray("expert_loads"));
  const double most = std::min(16.0, largest(loads));
  html::HeatMap map = aroundMean("", "expert", std::move(loads), most);
  map.valueTitle = "times the mean expert";
  map.width = 1000;
  std::vector<std::string> names;
  for (const json::Value &name : *report.getArray("profiles")) {
    names.push_back(name.getAsString().value_or("").str());
  }
  return html::section(
      "Load of experts",
      "How often an expert is chosen, against the mean of its layer; profiles: " + llvm::join(names, ", ") + ".",
      html::draw(map));
}

std::string Page::rankLoads() const {
  Table before = readTable(report.getArray("rank_loads_before")),
        after = readTable(report.getArray("rank_loads_after"));
  const double most = std::max(largest(before), largest(after));
  html::HeatMap left = aroundMean("before", "rank", std::move(before), most);
  html::HeatMap right = aroundMean("after", "rank", std::move(after), most);
  left.valueTitle = right.valueTitle = "times the mean rank";
  left.width = right.width = std::clamp(static_cast<int>(numberOf(report, "ranks")) * 28, 170, 440);
  return html::section("Load of ranks", "Both on one scale, all profiles together.",
                       html::beside({html::draw(left), html::draw(right)}));
}

std::string Page::stability() const {
  std::string body;
  for (const json::Value &value : *report.getArray("windows")) {
    const json::Object &windows = *value.getAsObject();
    html::HeatMap map;
    map.title = windows.getString("profile").value_or("").str();
    map.rowTitle = "layer";
    map.columnTitle = "window";
    map.rowNames = ids;
    map.values = readTable(windows.getArray("distances"));
    map.scale.high = std::max(0.1, std::ceil(largest(map.values) * 10) / 10);
    map.valueTitle = "distance from the whole";
    map.width = 440;
    html::Chart chart;
    chart.title = map.title;
    chart.xTitle = "window";
    chart.yTitle = "balancedness";
    chart.width = 480;
    chart.height = 280;
    chart.fromZero = false;
    chart.series = {{"before", {}}, {"after", {}}};
    const llvm::StringRef keys[] = {"balancedness_before", "balancedness_after"};
    for (size_t i = 0; i < std::size(keys); ++i) {
      const std::vector<double> row = readRow(*windows.getArray(keys[i]));
      for (size_t at = 0; at < row.size(); ++at) {
        chart.series[i].points.push_back({static_cast<double>(at), row[at], ""});
      }
    }
    body += html::beside({html::draw(map), html::draw(chart)});
  }
  if (body.empty()) {
    return "";
  }
  return html::section("Stability over time",
                       "Windows of a recording. Left: how far the counts of a window are from those of the whole "
                       "(total variation; 0 the same, 1 no expert in common). Right: what the maps achieve in each "
                       "window, as a mean over layers.",
                       body);
}

std::string Page::company() const {
  const json::Array &pairs = *report.getArray("pairs");
  const auto experts = static_cast<size_t>(numberOf(report, "experts"));
  const auto perRank = static_cast<size_t>(numberOf(report, "slots") / numberOf(report, "ranks"));
  std::string body;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const std::vector<double> placement = readRow(*(*report.getArray("placement"))[i].getAsArray());
    std::vector<size_t> at(experts, experts);
    html::HeatMap map;
    size_t lastRank = 0;
    for (size_t slot = 0; slot < placement.size(); ++slot) {
      const auto expert = static_cast<size_t>(placement[slot]);
      if (at[expert] == experts) {
        at[expert] = map.rowNames.size();
        map.rowNames.push_back(std::to_string(expert));
        if (slot / perRank != lastRank) {
          map.cuts.push_back(at[expert]);
          lastRank = slot / perRank;
        }
      }
    }
    map.values.assign(experts, std::vector<double>(experts, 0));
    for (const json::Value &value : *pairs[i].getAsArray()) {
      const std::vector<double> pair = readRow(*value.getAsArray());
      const size_t a = at[static_cast<size_t>(pair[0])], b = at[static_cast<size_t>(pair[1])];
      map.values[a][b] = map.values[b][a] = pair[2];
    }
    map.columnNames = map.rowNames;
    map.rowTitle = map.columnTitle = "expert";
    map.valueTitle = "tokens that chose both";
    map.scale.high = std::max(1.0, largest(map.values));
    map.width = std::clamp(static_cast<int>(experts) * 22, 300, 900);
    for (size_t expert = 0; expert < experts; ++expert) {
      map.values[expert][expert] = NAN;
    }
    body += html::fold("layer " + ids[i], html::draw(map), /*open=*/i == 0);
  }
  if (body.empty()) {
    return "";
  }
  return html::section("Experts chosen together",
                       "By the same token. Experts stand in the order of their first slot, so that those of one rank "
                       "lie together, between lines: what is dark in a square on the diagonal stays on a rank.",
                       body);
}

std::string Page::traffic() const {
  const auto ranks = static_cast<size_t>(numberOf(report, "ranks")),
             nodes = static_cast<size_t>(numberOf(report, "nodes"));
  auto square = [&](llvm::StringRef key) {
    const std::vector<double> flat = readRow(*report.getArray(key));
    Table rows;
    for (size_t y = 0; y < ranks; ++y) {
      rows.emplace_back(flat.begin() + y * ranks, flat.begin() + (y + 1) * ranks);
    }
    return rows;
  };
  Table before = square("rank_traffic_before"), after = square("rank_traffic_after");
  const double most = std::max(largest(before), largest(after));
  auto map = [&](std::string title, Table values) {
    html::HeatMap map;
    map.title = std::move(title);
    map.rowTitle = "token's rank";
    map.columnTitle = "expert's rank";
    map.values = std::move(values);
    map.scale.high = most;
    map.valueTitle = "part of all assignments";
    map.width = std::clamp(static_cast<int>(ranks) * 28, 170, 440);
    for (size_t node = 1; node < nodes; ++node) {
      map.cuts.push_back(node * ranks / nodes);
    }
    return html::draw(map);
  };
  return html::section(
      "Traffic between ranks",
      llvm::Twine("Tokens come from all ranks alike and take a replica on their rank, else on their node, else any.")
          .concat(nodes > 1 ? " Lines lie between nodes." : "")
          .str(),
      html::beside({map("before", std::move(before)), map("after", std::move(after))}));
}

std::string Page::tables() const {
  const bool several = numberOf(report, "nodes") > 1;
  std::vector<std::string> head = {"layer",
                                   "before",
                                   "EPLB",
                                   "after",
                                   "with planned shares",
                                   "bound",
                                   "moves",
                                   "variation of loads",
                                   "squared error of fractions",
                                   "of counts"};
  std::vector<llvm::StringRef> keys = {"layer", "before", "eplb", "after",        "after_split",
                                       "bound", "moves",  "cv",   "mse_fraction", "mse_count"};
  if (several) {
    head.insert(head.end(), {"remote nodes before", "after"});
    keys.insert(keys.end(), {"remote_before", "remote_after"});
  }
  std::vector<std::vector<std::string>> rows;
  for (const json::Value &value : layers) {
    std::vector<std::string> row;
    for (llvm::StringRef key : keys) {
      row.push_back(html::number(numberOf(*value.getAsObject(), key)));
    }
    rows.push_back(std::move(row));
  }
  return html::section("Numbers by layer", "", html::fold("table", html::table(head, rows)));
}

std::string moec::renderPlan(const json::Object &report) {
  const json::Value data = json::Object(report);
  return html::page("Expert placement", Page(report).render(), &data);
}
