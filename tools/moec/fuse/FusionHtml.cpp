//===- FusionHtml.cpp - A fusion report as a page ---------------------------===//
//
// Draws the JSON that `moec fuse` writes: the decision and its reason first,
// then the plan over the layers, what was tried, and what was measured of the
// model. A number that the report lacks is "-".
//
//===----------------------------------------------------------------------===//

#include "tools/moec/Report.h"
#include "tools/moec/html/Html.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include <algorithm>
#include <cmath>
#include <map>

using namespace moec;
using llvm::formatv;
using llvm::StringRef;
namespace json = llvm::json;

namespace {

/// No model has more; a report that says so is drawn as one without layers.
constexpr int64_t kMaxLayers = 4096;
constexpr StringRef kForms[] = {"R", "D", "P"};
/// Colors of the forms in the drawing of a plan.
StringRef colorOfForm(StringRef form) { return form == "R" ? "#d9772b" : form == "D" ? "#24507f" : "#2f8f6b"; }
StringRef titleOfForm(StringRef form) {
  return form == "R"   ? "R: attentions removed, FFNs as one"
         : form == "D" ? "D: attentions one after the other, FFNs as one behind the last"
                       : "P: attentions as one, FFNs as one";
}

double numberOf(const json::Object *from, StringRef key) { return from ? from->getNumber(key).value_or(NAN) : NAN; }
std::string textOf(const json::Object *from, StringRef key) {
  return from ? from->getString(key).value_or("").str() : std::string();
}
std::string shown(const json::Object *from, StringRef key) { return html::number(numberOf(from, key)); }
std::string percent(double part) { return std::isfinite(part) ? html::number(part * 100) + " %" : "-"; }
/// "12.3 MB".
std::string bytes(double count) {
  return !std::isfinite(count) ? "-"
         : count < 1e9         ? formatv("{0:F1} MB", count / 1e6).str()
                               : formatv("{0:F2} GB", count / 1e9).str();
}

/// The objects of an array.
std::vector<const json::Object *> objectsOf(const json::Object *from, StringRef key) {
  std::vector<const json::Object *> list;
  if (const json::Array *array = from ? from->getArray(key) : nullptr) {
    for (const json::Value &value : *array) {
      if (const json::Object *object = value.getAsObject()) {
        list.push_back(object);
      }
    }
  }
  return list;
}
std::vector<double> numbersOf(const json::Object *from, StringRef key) {
  std::vector<double> list;
  if (const json::Array *array = from ? from->getArray(key) : nullptr) {
    for (const json::Value &value : *array) {
      list.push_back(value.getAsNumber().value_or(NAN));
    }
  }
  return list;
}

struct Window {
  int64_t first, length;
  std::string form;
};
/// Those that lie inside the layers, in their order.
std::vector<Window> windowsOf(const json::Object *from, int64_t layers) {
  std::vector<Window> list;
  for (const json::Object *object : objectsOf(from, "windows")) {
    Window window{object->getInteger("first").value_or(-1), object->getInteger("length").value_or(0),
                  textOf(object, "form")};
    if (window.first >= 0 && window.length >= 1 && window.length <= layers && window.first <= layers - window.length) {
      list.push_back(std::move(window));
    }
  }
  llvm::sort(list, [](const Window &a, const Window &b) { return a.first < b.first; });
  return list;
}
/// "D 13-14, P 20-22".
std::string spell(llvm::ArrayRef<Window> windows) {
  std::vector<std::string> parts;
  for (const Window &window : windows) {
    parts.push_back(window.form + " " + std::to_string(window.first) + "-" +
                    std::to_string(window.first + window.length - 1));
  }
  return llvm::join(parts, ", ");
}

/// The sections of the page.
class Page {
public:
  explicit Page(const json::Object &report)
      : report(report), model(report.getObject("model")), calibration(report.getObject("calibration")),
        base(report.getObject("base")), budget(report.getObject("budget")),
        candidates(objectsOf(&report, "candidates")) {
    const int64_t count = model ? model->getInteger("layers").value_or(0) : 0;
    layers = count >= 1 && count <= kMaxLayers ? count : 0;
    plan = windowsOf(report.getObject("plan"), layers);
    for (const json::Object *candidate : candidates) {
      if (candidate->getBoolean("kept").value_or(false)) {
        chosen = candidate;
      }
    }
  }
  std::string render() const {
    return verdict() + tiles() + drawing() + tried() + fronts() + latency() + domains() + windows() + dependency() +
           layerFigures() + notes();
  }

private:
  bool isFused() const { return report.getString("verdict") == "fuse"; }
  std::string verdict() const;
  std::string tiles() const;
  std::string drawing() const;
  std::string tried() const;
  std::string fronts() const;
  std::string latency() const;
  std::string domains() const;
  std::string windows() const;
  std::string dependency() const;
  std::string layerFigures() const;
  std::string notes() const;
  /// KL against `key`: every form's best plans connected, the others as points.
  std::string front(StringRef key, StringRef title) const;

  const json::Object &report;
  const json::Object *model, *calibration, *base, *budget, *chosen = nullptr;
  std::vector<const json::Object *> candidates;
  std::vector<Window> plan;
  int64_t layers = 0;
};

} // namespace

std::string Page::verdict() const {
  std::string headline = isFused() ? "Fuse: " + spell(plan) : "No change";
  return html::verdict(headline, textOf(&report, "reason"), isFused());
}

std::string Page::tiles() const {
  const json::Object *engine = report.getObject("engine");
  std::string engineName = engine ? textOf(engine, "product") : textOf(&report, "engine");
  engineName = engineName.empty() ? textOf(engine, "for") : engineName;
  const std::string version = textOf(engine, "minimum_version");
  auto change = [&](StringRef key, bool isBytes) {
    auto show = [&](const json::Object *of) { return isBytes ? bytes(numberOf(of, key)) : shown(of, key); };
    return chosen ? std::pair(show(chosen), show(base) + " before") : std::pair(show(base), std::string("unchanged"));
  };
  const auto [subLayers, subLayersBefore] = change("sub_layers", false);
  const auto [weights, weightsBefore] = change("weight_bytes", true);
  const auto [cache, cacheBefore] = change("kv_bytes_per_token", false);
  const auto [decode, decodeBefore] = change("decode_ms", false);
  const std::vector<std::string> domainNames = [&] {
    std::vector<std::string> names;
    if (const json::Array *array = calibration ? calibration->getArray("domains") : nullptr) {
      for (const json::Value &name : *array) {
        names.push_back(name.getAsString().value_or("").str());
      }
    }
    return names;
  }();
  std::vector<html::Tile> list = {
      {"model", textOf(model, "family"),
       shown(model, "layers") + " layers, H " + shown(model, "hidden") + ", " + shown(model, "parameters") +
           " parameters"},
      {"engine", engineName, textOf(engine, "forms") + (version.empty() ? std::string() : ", from " + version + " on")},
      {"text", shown(calibration, "tokens") + " tokens",
       shown(calibration, "sequences") + " sequences" +
           (calibration && calibration->get("held_out_tokens")
                ? ", " + shown(calibration, "held_out_tokens") + " tokens held out"
                : std::string()) +
           (domainNames.empty() ? std::string() : "; " + llvm::join(domainNames, ", "))},
      {"sub-layers", subLayers, subLayersBefore},
      {"weights", weights, weightsBefore},
      {"KV bytes per token", cache, cacheBefore},
      {"decode step", decode == "-" ? decode : decode + " ms", decodeBefore}};
  if (chosen) {
    list.push_back(
        {"KL", shown(chosen, "kl"),
         "at most " + shown(chosen, "kl_bound") + " (95 %), " + shown(chosen, "kl_plain") + " without repair"});
    list.push_back({"same first choice", percent(numberOf(chosen, "same_winner")),
                    "loss " + shown(chosen, "loss") + ", " + shown(base, "loss") + " before"});
  }
  list.push_back({"asked for",
                  "KL up to " + shown(budget, "max_kl") + ", first choice " + percent(numberOf(budget, "min_top_1")),
                  "gain from " + percent(numberOf(budget, "min_gain")) + " on, " + shown(budget, "ranks") +
                      " rank(s), " + textOf(budget, "target")});
  return html::tiles(list);
}

/// Layers above, steps below: what becomes of every attention and FFN.
std::string Page::drawing() const {
  if (layers == 0) {
    return "";
  }
  // A layer is an attention and an FFN beside each other.
  const double unit = std::clamp(1000.0 / static_cast<double>(layers), 7.0, 56.0), gap = std::min(2.0, unit / 12);
  const double half = unit / 2, left = 64, boxHeight = 26, above = 18, below = above + boxHeight + 44;
  const double width = left + unit * static_cast<double>(layers) + 8, height = below + boxHeight + 30;
  std::string svg = formatv("<svg class=\"plan\" width=\"{0:F0}\" height=\"{1:F0}\" viewBox=\"0 0 {0:F0} {1:F0}\" "
                            "role=\"img\" style=\"max-width:100%\" font-size=\"11\" fill=\"currentColor\">\n",
                            width, height)
                        .str();
  auto text = [&](double x, double y, StringRef anchor, StringRef content) {
    svg +=
        formatv("<text x=\"{0:F1}\" y=\"{1:F1}\" text-anchor=\"{2}\">{3}</text>\n", x, y, anchor, html::escape(content))
            .str();
  };
  auto box = [&](double x, double y, double boxWidth, StringRef color, double opacity, StringRef letter,
                 const std::string &title) {
    svg += formatv("<rect x=\"{0:F2}\" y=\"{1:F1}\" width=\"{2:F2}\" height=\"{3:F0}\" rx=\"2\" fill=\"{4}\" "
                   "fill-opacity=\"{5:F2}\"><title>{6}</title></rect>\n",
                   x + gap / 2, y, std::max(boxWidth - gap, 1.0), boxHeight, color, opacity, html::escape(title))
               .str();
    if (boxWidth >= 12) {
      svg += formatv("<text x=\"{0:F1}\" y=\"{1:F1}\" text-anchor=\"middle\" fill=\"{2}\" "
                     "pointer-events=\"none\">{3}</text>\n",
                     x + boxWidth / 2, y + boxHeight / 2 + 4, opacity > 0.6 ? "#fff" : "currentColor", letter)
                 .str();
    }
  };
  const StringRef plain = "#7a7f87";
  text(left - 8, above + boxHeight / 2 + 4, "end", "before");
  text(left - 8, below + boxHeight / 2 + 4, "end", isFused() ? "after" : "plan");
  const int64_t step = layers <= 40 ? 1 : layers <= 80 ? 2 : 5;
  auto windowOf = [&](int64_t layer) {
    auto found = llvm::find_if(plan, [&](const Window &w) { return layer >= w.first && layer < w.first + w.length; });
    return found == plan.end() ? nullptr : &*found;
  };
  for (int64_t layer = 0; layer < layers; ++layer) {
    const double x = left + unit * static_cast<double>(layer);
    const Window *window = windowOf(layer);
    const StringRef color = window ? colorOfForm(window->form) : plain;
    const double opacity = window ? 0.85 : 0.3;
    const std::string name = "layer " + std::to_string(layer);
    box(x, above, half, color, opacity, "A", name + ": attention");
    box(x + half, above, half, color, opacity, "F", name + ": FFN");
    if (layer % step == 0) {
      text(x + half, above - 5, "middle", std::to_string(layer));
    }
    if (!window) {
      box(x, below, half, plain, 0.3, "A", name + ": attention");
      box(x + half, below, half, plain, 0.3, "F", name + ": FFN");
    }
  }
  for (const Window &window : plan) {
    const double x = left + unit * static_cast<double>(window.first),
                 end = x + unit * static_cast<double>(window.length);
    const StringRef color = colorOfForm(window.form);
    const std::string range =
        "layers " + std::to_string(window.first) + " to " + std::to_string(window.first + window.length - 1);
    svg += formatv("<path d=\"M{0:F1} {1:F1} L{2:F1} {1:F1} L{2:F1} {3:F1} L{0:F1} {3:F1} Z\" fill=\"{4}\" "
                   "fill-opacity=\"0.15\"/>\n",
                   x + gap / 2, above + boxHeight, end - gap / 2, below, color)
               .str();
    const std::string wide = "FFN of " + range + " as one";
    if (window.form == "R") {
      box(x, below, end - x, color, 0.85, "F", wide + ", attentions removed");
    } else if (window.form == "P") {
      box(x, below, (end - x) / 2, color, 0.85, "A", "attention of " + range + " as one");
      box(x + (end - x) / 2, below, (end - x) / 2, color, 0.85, "F", wide);
    } else {
      for (int64_t i = 0; i < window.length; ++i) {
        box(x + half * static_cast<double>(i), below, half, color, 0.85, "A",
            "layer " + std::to_string(window.first + i) + ": attention");
      }
      const double ffn = x + half * static_cast<double>(window.length);
      box(ffn, below, end - ffn, color, 0.85, "F", wide);
    }
  }
  std::vector<std::string> legend;
  for (StringRef form : kForms) {
    if (llvm::any_of(plan, [&](const Window &window) { return window.form == form; })) {
      legend.push_back(titleOfForm(form).str());
    }
  }
  text(left, height - 8, "start",
       legend.empty() ? "A attention, F FFN; no window is fused" : "A attention, F FFN; " + llvm::join(legend, "; "));
  svg += "</svg>\n";
  return html::section("The plan", "One step after the other from left to right; a box below stands for all above it.",
                       svg);
}

std::string Page::tried() const {
  if (candidates.empty()) {
    return "";
  }
  const std::vector<std::string> head = {"plan",         "windows",   "sub-layers", "weights", "KV/token",
                                         "KL predicted", "plain",     "measured",   "at most", "top-1",
                                         "loss",         "decode ms", "gain",       "decision"};
  std::vector<std::vector<std::string>> rows = {
      {"the model as it is", "", shown(base, "sub_layers"), bytes(numberOf(base, "weight_bytes")),
       shown(base, "kv_bytes_per_token"), "", "", "0", "", "", shown(base, "loss"), shown(base, "decode_ms"), "", ""}};
  for (const json::Object *plan : candidates) {
    const bool kept = plan->getBoolean("kept").value_or(false);
    const std::string reason = textOf(plan, "reason");
    rows.push_back({textOf(plan, "name"), spell(windowsOf(plan, layers)), shown(plan, "sub_layers"),
                    bytes(numberOf(plan, "weight_bytes")), shown(plan, "kv_bytes_per_token"),
                    shown(plan, "kl_predicted"), shown(plan, "kl_plain"), shown(plan, "kl"), shown(plan, "kl_bound"),
                    percent(numberOf(plan, "same_winner")), shown(plan, "loss"), shown(plan, "decode_ms"),
                    percent(numberOf(plan, "gain")), (kept ? "kept" : "no") + (reason.empty() ? "" : ": " + reason)});
  }
  return html::section(
      "What was tried",
      "KL in nats per token against the model as it is: predicted from single windows, without repair, "
      "measured on held-out text, and the upper end of its 95 % interval.",
      html::table(head, rows));
}

std::string Page::front(StringRef key, StringRef title) const {
  // By what the plans are made of.
  std::map<std::string, html::Series> byForm;
  html::Series others{"dominated", {}, /*line=*/false};
  double low = numberOf(base, key), high = low;
  std::map<std::string, std::vector<html::Series::Point>> points;
  for (const json::Object *plan : candidates) {
    double kl = numberOf(plan, "kl");
    kl = std::isfinite(kl) ? kl : numberOf(plan, "kl_predicted");
    const double cost = numberOf(plan, key);
    if (!std::isfinite(cost) || !(kl > 0)) {
      continue;
    }
    low = std::isfinite(low) ? std::min(low, cost) : cost;
    high = std::isfinite(high) ? std::max(high, cost) : cost;
    points[textOf(plan, "form")].push_back({cost, kl, textOf(plan, "name")});
  }
  html::Chart chart;
  chart.xTitle = title.str();
  chart.yTitle = "KL";
  chart.logarithmicY = true;
  chart.fromZero = false;
  for (auto &[form, list] : points) {
    llvm::sort(list, [](const auto &a, const auto &b) { return std::tie(a.x, a.y) < std::tie(b.x, b.y); });
    html::Series series{form.empty() ? "plans" : form, {}};
    double best = INFINITY;
    for (const html::Series::Point &point : list) {
      const bool isBest = point.y < best;
      (isBest ? series.points : others.points).push_back(point);
      best = std::min(best, point.y);
    }
    chart.series.push_back(std::move(series));
  }
  if (chart.series.empty()) {
    return "";
  }
  if (!others.points.empty()) {
    chart.series.push_back(std::move(others));
  }
  if (const double limit = numberOf(budget, "max_kl"); limit > 0 && high > low) {
    chart.series.push_back({"limit", {{low, limit, ""}, {high, limit, ""}}, /*line=*/true, /*dots=*/false});
  }
  return html::draw(chart);
}

std::string Page::fronts() const {
  std::vector<std::string> charts;
  for (auto [key, title] : {std::pair("sub_layers", "sub-layers"), std::pair("decode_ms", "decode step, ms")}) {
    if (std::string chart = front(key, title); !chart.empty()) {
      charts.push_back(std::move(chart));
    }
  }
  if (charts.empty()) {
    return "";
  }
  return html::section(
      "Quality against cost",
      "Left and down is better. Lines connect the plans of one form that no other of that form beats in "
      "both; KL is measured where it was, else predicted.",
      html::beside(charts));
}

std::string Page::latency() const {
  html::Bars decode, prefill;
  decode.yTitle = "decode step, ms";
  prefill.yTitle = "prefill, tokens/s";
  decode.series = {{"median", {}}};
  prefill.series = {{"median", {}}};
  auto add = [&](const std::string &name, const json::Object *from) {
    for (auto [bars, key] : {std::pair(&decode, "decode_ms"), std::pair(&prefill, "prefill_tokens_per_s")}) {
      if (const double value = numberOf(from, key); std::isfinite(value)) {
        bars->categories.push_back(name);
        bars->series.front().values.push_back(value);
      }
    }
  };
  add("as it is", base);
  for (const json::Object *plan : candidates) {
    add(textOf(plan, "name") + (plan == chosen ? " (chosen)" : ""), plan);
  }
  std::vector<std::string> charts;
  for (html::Bars *bars : {&decode, &prefill}) {
    if (bars->categories.size() > 1) {
      charts.push_back(html::draw(*bars));
    }
  }
  if (charts.empty()) {
    return "";
  }
  return html::section("Speed before and after",
                       "Medians of interleaved rounds: target " + textOf(budget, "target") + ", " +
                           shown(budget, "ranks") + " rank(s), " + shown(budget, "threads") + " threads.",
                       html::beside(charts));
}

std::string Page::domains() const {
  std::vector<std::vector<std::string>> rows;
  html::Bars bars;
  bars.yTitle = "KL";
  bars.series = {{"mean", {}}, {"at most (95 %)", {}}};
  for (const json::Object *domain : objectsOf(&report, "domains")) {
    rows.push_back({textOf(domain, "name"), shown(domain, "kl"), shown(domain, "kl_bound"),
                    percent(numberOf(domain, "same_winner"))});
    bars.categories.push_back(textOf(domain, "name"));
    bars.series[0].values.push_back(numberOf(domain, "kl"));
    bars.series[1].values.push_back(numberOf(domain, "kl_bound"));
  }
  if (rows.empty()) {
    return "";
  }
  return html::section("The chosen plan by kind of text", "",
                       html::beside({html::table({"domain", "KL", "at most", "top-1"}, rows), html::draw(bars)}));
}

std::string Page::windows() const {
  const std::vector<const json::Object *> list = objectsOf(&report, "windows");
  if (list.empty() || layers == 0) {
    return "";
  }
  double low = INFINITY, high = 0;
  int64_t longest = 1;
  for (const json::Object *window : list) {
    for (StringRef key : {"kl", "kl_repaired"}) {
      if (const double kl = numberOf(window, key); kl > 0 && std::isfinite(kl)) {
        low = std::min(low, kl);
        high = std::max(high, kl);
      }
    }
    longest = std::max(longest, std::min(layers, window->getInteger("length").value_or(1)));
  }
  low = std::isfinite(low) ? low : 1e-3;
  high = std::max(high, low * 10);
  std::string body;
  for (StringRef form : kForms) {
    std::vector<std::string> maps;
    for (auto [key, title] : {std::pair("kl", "plain"), std::pair("kl_repaired", "after repair")}) {
      html::HeatMap map;
      map.title = (form + ", " + title).str();
      map.rowTitle = "layers";
      map.columnTitle = "first layer";
      map.values.assign(longest, std::vector<double>(layers, NAN));
      bool isEmpty = true;
      for (const json::Object *window : list) {
        const int64_t first = window->getInteger("first").value_or(-1),
                      length = window->getInteger("length").value_or(0);
        if (textOf(window, "form") == form && first >= 0 && first < layers && length >= 1 && length <= longest) {
          map.values[length - 1][first] = numberOf(window, key);
          isEmpty = false;
        }
      }
      if (isEmpty) {
        continue;
      }
      if (longest < 2) {
        continue;
      }
      // Windows of one layer are the model as it is.
      map.values.erase(map.values.begin());
      for (int64_t length = 2; length <= longest; ++length) {
        map.rowNames.push_back(std::to_string(length));
      }
      map.scale = {low, high, html::Scale::Palette::Sequential, /*logarithmic=*/true};
      map.valueTitle = "KL";
      map.width = 440;
      maps.push_back(html::draw(map));
    }
    if (!maps.empty()) {
      body += html::beside(maps);
    }
  }
  std::vector<std::vector<std::string>> rows;
  for (const json::Object *window : list) {
    const std::string reason = textOf(window, "reason");
    rows.push_back({shown(window, "first"), shown(window, "length"), textOf(window, "form"), shown(window, "error"),
                    shown(window, "error_repaired"), shown(window, "kl"), shown(window, "kl_repaired"),
                    window->getBoolean("legal").value_or(false) ? "yes" : "no: " + reason});
  }
  body +=
      html::fold("table of all windows",
                 html::table({"first", "layers", "form", "error", "repaired", "KL", "repaired", "may be fused"}, rows));
  return html::section("Every window, before and after repair",
                       "KL of fusing this window alone, on held-out text; all maps on one scale.", body);
}

std::string Page::dependency() const {
  html::HeatMap map;
  double low = INFINITY, high = 0;
  if (const json::Array *rows = calibration ? calibration->getArray("dependency") : nullptr) {
    for (const json::Value &row : *rows) {
      std::vector<double> values;
      for (const json::Value &value : row.getAsArray() ? *row.getAsArray() : json::Array()) {
        // A layer does not depend on itself or on later ones.
        const bool isLater = values.size() > map.values.size();
        const double distance = isLater ? value.getAsNumber().value_or(NAN) : NAN;
        values.push_back(distance);
        if (distance > 0 && std::isfinite(distance)) {
          low = std::min(low, distance);
          high = std::max(high, distance);
        }
      }
      map.values.push_back(std::move(values));
    }
  }
  if (map.values.empty() || !std::isfinite(low)) {
    return "";
  }
  map.rowTitle = "removed layer";
  map.columnTitle = "later layer";
  map.scale = {std::max(low, high / 4096), high, html::Scale::Palette::Sequential, /*logarithmic=*/true};
  map.valueTitle = "cosine distance";
  map.width = 640;
  for (const Window &window : plan) {
    for (int64_t cut : {window.first, window.first + window.length}) {
      if (cut > 0 && cut < static_cast<int64_t>(map.values.size())) {
        map.cuts.push_back(static_cast<size_t>(cut));
      }
    }
  }
  return html::section(
      "Which layer depends on which",
      "How much the contribution of a later layer turns when a layer is removed (mean cosine distance over "
      "tokens, by logarithm). Lines: where windows of the plan begin and end.",
      html::draw(map));
}

std::string Page::layerFigures() const {
  std::vector<std::string> charts;
  for (auto [key, title, logarithmic] : {std::tuple("block_influence", "block influence", false),
                                         std::tuple("attention_contribution", "contribution of attention", false),
                                         std::tuple("attention_removed_kl", "KL without its attention", true)}) {
    html::Chart chart;
    chart.xTitle = "layer";
    chart.yTitle = title;
    chart.logarithmicY = logarithmic;
    chart.width = 480;
    chart.series = {{title, {}}};
    for (auto [layer, value] : llvm::enumerate(numbersOf(calibration, key))) {
      if (std::isfinite(value) && (!logarithmic || value > 0)) {
        chart.series.front().points.push_back({static_cast<double>(layer), value, ""});
      }
    }
    if (!chart.series.front().points.empty()) {
      charts.push_back(html::draw(chart));
    }
  }
  return charts.empty() ? "" : html::section("Layer by layer", "Measured by the calibration.", html::beside(charts));
}

std::string Page::notes() const {
  std::string body;
  if (const json::Array *list = report.getArray("notes")) {
    for (const json::Value &note : *list) {
      body += "<li>" + html::escape(note.getAsString().value_or("")) + "</li>\n";
    }
  }
  return body.empty() ? "" : html::section("Notes", "", "<ul>\n" + body + "</ul>\n");
}

std::string moec::renderFusion(const json::Object &report) {
  const json::Value data = json::Object(report);
  return html::page("FFN Fusion", Page(report).render(), &data);
}
