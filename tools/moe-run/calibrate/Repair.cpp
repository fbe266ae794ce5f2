//===- Repair.cpp - moe-run repair ----------------------------------------===//
//
// Fits maps for the windows of a plan on the text of a calibration, judges every
// window by itself and the plan as a whole on its held-out text, and writes the
// maps and the plan that names them. Nothing is compiled: windows are composed of
// an instrumented package's pieces.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Npy.h"
#include "runtime/readers/OutputFile.h"
#include "tools/moe-run/Commands.h"
#include "tools/moe-run/calibrate/Bound.h"
#include "tools/moe-run/calibrate/FusionPlanFile.h"
#include "tools/moe-run/calibrate/WindowBench.h"

#include <cmath>
#include <numeric>
#include <optional>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

namespace {

/// The model with all windows of the plan, for one sequence.
Status composePlan(Sublayers &model, WindowRunner &runner, const std::vector<WindowResult> &windows, bool withMaps,
                   std::vector<float> &logits) {
  static const WindowMaps none;
  Stream x, y;
  MOERT_TRY(model.embed(x));
  auto next = windows.begin();
  for (int64_t l = 0; l < model.layers();) {
    if (next != windows.end() && next->window.first == l) {
      MOERT_TRY(runner.run(next->window, withMaps ? next->maps : none, x, y));
      x.swap(y);
      l += next->window.length;
      ++next;
      continue;
    }
    if (runner.hasAttention(l)) {
      MOERT_TRY(model.run(Branch::Attention, l, x, y));
      addTo(x, y);
    }
    MOERT_TRY(model.run(Branch::FFN, l, x, y));
    addTo(x, y);
    ++l;
  }
  return model.head(x, logits);
}

/// KL and share of equal winners of the whole plan on the held-out text, plain and with maps.
struct PlanScore {
  std::vector<double> plain, repaired;
  double samePlain = 0, sameRepaired = 0;
};

/// The maps of `result` as tensors, and as the plan names them (null: none).
Json nameMaps(const WindowRunner &runner, const WindowResult &result, int64_t width,
              std::map<std::string, OutputTensor> &tensors) {
  const Window &window = result.window;
  Json maps = Json::object();
  auto addInputs = [&](const char *kind, Branch branch, const std::vector<Map> &inputs) {
    if (inputs.empty()) {
      return;
    }
    Json names = Json::array();
    for (size_t k = 0; k < size_t(window.length); ++k) {
      names.push_back(nullptr);
      if (k < inputs.size() && !inputs[k].empty()) {
        const std::string name = mapName(window, concat(kind, ".", k));
        tensors[name] =
            makeTensor("F32", {width, width}, runner.storedMap(window, branch, window.first + int64_t(k), inputs[k]));
        names.back() = name;
      }
    }
    maps[kind] = names;
  };
  addInputs("attention", Branch::Attention, result.maps.attention);
  addInputs("ffn", Branch::FFN, result.maps.ffn);
  if (!result.maps.output.empty()) {
    const std::string name = mapName(window, "output");
    tensors[name] = makeTensor("F32", {width, width}, transposed(result.maps.output, width));
    maps["output"] = name;
  }
  return maps.empty() ? Json() : maps;
}

std::string stageText(int32_t stages) {
  std::string text;
  for (auto [bit, name] : {std::pair(kAttentionMaps, "attention"), {kFFNMaps, "ffn"}, {kOutputMap, "output"}}) {
    text += stages & bit ? (text.empty() ? "" : "+") + std::string(name) : "";
  }
  return text.empty() ? "none" : text;
}

} // namespace

Status moerun::runRepair(const RepairCommand &command) {
  MOERT_TRY(checkMapsReplaced(command.output));
  std::string mapsFile;
  if (!command.planOutput.empty()) {
    MOERT_TRY(checkPlanReplaced(command.planOutput));
    MOERT_ASSIGN(name, mapsFileOf(command.output, command.planOutput));
    mapsFile = name;
  }
  MOERT_ASSIGN(package, Package::load(command.package));
  const ProgramInfo &info = package.info();
  Json facts;
  MOERT_ASSIGN(text, readCalibrationText(command.calibration, facts));
  int64_t length = 2;
  for (const CalibrationText::Sequence &sequence : text.sequences) {
    MOERT_TRY(checkIds(command.calibration, sequence.ids, info.vocabulary));
    length = std::max(length, int64_t(sequence.ids.size()));
  }
  const int64_t most = command.maxTokens ? command.maxTokens : info.maxTokens;
  if (length > most) {
    return error(Code::InvalidArgument, command.calibration, ": has sequences of ", length,
                 " tokens, but a step of the package takes ", most, "; compile it with a larger --max-tokens");
  }
  MOERT_ASSIGN(session, openSession(package, command, 1, length));
  MOERT_ASSIGN(model, Sublayers::open(*session, command.package));
  MOERT_ASSIGN(report, parseReport(*session));
  MOERT_ASSIGN(print, readers::fingerprint(report["weights"].get<std::string>()));
  if (facts.value("fingerprint", "") != print) {
    return error(Code::InvalidArgument, command.calibration, ": is of another checkpoint (fingerprint ",
                 facts.value("fingerprint", "none"), ", the package's is ", print, "); calibrate this one");
  }
  MOERT_ASSIGN(plan, FusionPlanFile::read(command.plan, model.layers()));

  WindowBench::Options options;
  options.fit = {command.ridge, report["threads"].get<int>()};
  options.judgeTokens = command.judgeTokens;
  options.removed = plan.removeAttention;
  WindowBench bench(model, text, info.vocabulary, options);
  MOERT_TRY(bench.open());
  Progress progress(command.quiet);
  std::vector<WindowResult> results;
  std::map<std::string, OutputTensor> tensors;
  Json windows = Json::array();
  for (size_t i = 0; i < plan.windows.size(); ++i) {
    std::vector<WindowResult> one(1);
    one[0].window = plan.windows[i];
    if (bench.windows().isPossible(plan.windows[i])) {
      MOERT_TRY(bench.fit(one, [&](double share) {
        progress.update(concat("repair (window ", i + 1, " of ", plan.windows.size(), ")"),
                        uint64_t(1000 * (double(i) + share)), 1000 * plan.windows.size());
      }));
      const WindowRow row = summarize(one[0], bench.judgedText());
      windows.push_back(describe(row));
      for (const auto &[stages, kl] : one[0].tried) {
        windows.back()["tried"].push_back({{"repair", stages}, {"kl", kl}});
      }
    }
    Json &planned = plan.tree["windows"][i];
    planned.erase("maps");
    const Json maps = nameMaps(bench.windows(), one[0], model.hidden(), tensors);
    if (!maps.is_null()) {
      planned["maps"] = maps;
    }
    results.push_back(std::move(one[0]));
  }

  // The plan as a whole.
  const std::vector<const CalibrationText::Sequence *> heldOut = text.pick(true, command.judgeTokens);
  std::optional<NpyWriter> writer;
  if (!command.logits.empty()) {
    MOERT_ASSIGN(created, NpyWriter::create(command.logits, {bench.judgedText().tokenCount(), info.vocabulary}));
    writer.emplace(std::move(created));
  }
  PlanScore score;
  int64_t row = 0;
  for (size_t s = 0; s < heldOut.size(); ++s) {
    progress.update("whole plan", s, heldOut.size());
    model.setTokens(heldOut[s]->ids);
    std::vector<float> full, changed;
    MOERT_TRY(model.whole(full));
    const Prediction prediction(std::move(full), heldOut[s]->ids, info.vocabulary, options.fit.threads);
    MOERT_TRY(composePlan(model, bench.windows(), results, false, changed));
    const Prediction::Effect plain = prediction.compare(changed);
    MOERT_TRY(composePlan(model, bench.windows(), results, true, changed));
    const Prediction::Effect repaired = prediction.compare(changed);
    score.plain.push_back(plain.kl);
    score.repaired.push_back(repaired.kl);
    score.samePlain += plain.sameWinner;
    score.sameRepaired += repaired.sameWinner;
    if (writer) {
      MOERT_TRY(writer->put(row * info.vocabulary, changed.data(), int64_t(changed.size())));
      row += int64_t(heldOut[s]->ids.size());
    }
  }
  progress.finish();
  if (writer) {
    MOERT_TRY(writer->finish());
  }

  MOERT_TRY(writeTensors(command.output, tensors, "", ""));
  if (!command.planOutput.empty()) {
    plan.tree.erase("maps_file");
    if (!tensors.empty()) {
      plan.tree["maps_file"] = mapsFile;
    }
    MOERT_TRY(writeWholeFile(command.planOutput, plan.tree.dump(1) + "\n"));
  }

  const JudgedText &judged = bench.judgedText();
  const auto tokens = double(judged.tokenCount());
  auto mean = [&](const std::vector<double> &sums) { return std::accumulate(sums.begin(), sums.end(), 0.0) / tokens; };
  const double bound = upperBound95(score.repaired, judged.tokens);
  Json summary = {{"output", command.output},
                  {"maps", tensors.size()},
                  {"fitted_tokens", bench.fittedTokens()},
                  {"judged_tokens", judged.tokenCount()},
                  {"windows", windows},
                  {"kl", mean(score.plain)},
                  {"kl_repaired", mean(score.repaired)},
                  {"kl_bound", std::isfinite(bound) ? Json(bound) : Json()},
                  {"same_winner", score.samePlain / tokens},
                  {"same_winner_repaired", score.sameRepaired / tokens}};
  if (command.json) {
    return outputStatus(printJson(summary));
  }
  std::vector<std::vector<std::string>> rows{{"window", "KL", "repaired", "same winner", "maps"}};
  for (const Json &window : windows) {
    rows.push_back({concat(window["form"].get<std::string>(), " ", window["first"].get<int64_t>(), " x ",
                           window["length"].get<int64_t>()),
                    fixed(window["kl"].get<double>(), 4), fixed(window["kl_repaired"].get<double>(), 4),
                    fixed(window["same_winner"].get<double>(), 4), stageText(window["repair"].get<int32_t>())});
  }
  rows.push_back(
      {"all", fixed(mean(score.plain), 4), fixed(mean(score.repaired), 4), fixed(score.sameRepaired / tokens, 4), ""});
  return outputStatus(printOut(concat(table(rows), command.output, ": ", tensors.size(), " maps, fitted on ",
                                      bench.fittedTokens(), " tokens, judged on ", judged.tokenCount(), "\n")));
}
