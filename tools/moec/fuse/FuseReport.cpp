//===- FuseReport.cpp - What moec fuse tried, found and decided --------------===//
//
// One set of facts, as JSON for programs (`moec report` draws it) and as a table.
//
//===----------------------------------------------------------------------===//

#include "tools/moec/fuse/Fuse.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;
using namespace mlir::moe;
namespace json = llvm::json;

/// Null for what was not measured: a missing number is not 0.
static json::Value orNull(const std::vector<double> &rounds) {
  return rounds.empty() ? json::Value(nullptr) : json::Value(medianOf(rounds));
}

static json::Array describeWindowList(llvm::ArrayRef<WindowChoice> windows) {
  json::Array list;
  for (const WindowChoice &window : windows) {
    list.push_back(
        json::Object{{"first", window.first}, {"length", window.length}, {"form", spell(window.form).str()}});
  }
  return list;
}

static json::Object describeTrial(const Trial &trial) {
  json::Object object{
      {"name", trial.name},
      {"form", describeForms(trial.windows)},
      {"windows", describeWindowList(trial.windows)},
      {"repaired", trial.repair},
      {"sub_layers", trial.shape.subLayers},
      {"weight_bytes", trial.shape.weightBytes},
      {"kv_bytes_per_token", trial.shape.kvBytesPerToken},
      // What the calibration knows is of maps that it fitted.
      {"kl_predicted", trial.hasOwnMaps ? json::Value(nullptr) : json::Value(trial.klPredicted)},
      {"kl_plain", trial.klPlain},
      {"decode_ms", orNull(trial.speed.decodeMs)},
      {"prefill_tokens_per_s", orNull(trial.speed.prefillTokensPerSecond)},
      {"gain", trial.gain ? json::Value(trial.gain->median) : json::Value(nullptr)},
      {"gain_bound", trial.gain && trial.gain->bound ? json::Value(*trial.gain->bound) : json::Value(nullptr)},
      {"kept", trial.kept},
      {"reason", trial.reason}};
  for (auto [key, member] : {std::pair("kl", &Difference::kl), std::pair("kl_bound", &Difference::klBound),
                             std::pair("same_winner", &Difference::sameWinner), std::pair("loss", &Difference::loss)}) {
    object[key] = trial.difference ? json::Value(*trial.difference.*member) : json::Value(nullptr);
  }
  return object;
}

static json::Object describeCalibration(const FusionCalibration &calibration) {
  json::Array rows;
  for (int64_t row = 0; row < calibration.layers; ++row) {
    const double *begin = calibration.dependency.data() + row * calibration.layers;
    rows.push_back(json::Array(llvm::ArrayRef<double>(begin, static_cast<size_t>(calibration.layers))));
  }
  return json::Object{{"tokens", calibration.tokens},
                      {"sequences", calibration.sequences},
                      {"held_out_tokens", calibration.heldOutTokens},
                      {"domains", json::Array(calibration.domains)},
                      {"dependency", std::move(rows)},
                      {"block_influence", json::Array(calibration.blockInfluence)},
                      {"attention_contribution", json::Array(calibration.attentionContribution)},
                      {"attention_removed_kl", json::Array(calibration.attentionRemovedKl)}};
}

/// The loss of the model as it is: on the text that plans were judged on, else on that it was calibrated on.
static double baseLoss(const FuseResult &result) {
  for (const Trial &trial : result.trials) {
    if (trial.difference) {
      return trial.difference->lossBase;
    }
  }
  return result.calibration.baseLoss;
}

json::Object moec::describeResult(const FuseResult &result, json::Value plan) {
  const FuseCommand &command = *result.command;
  json::Array windows, trials, domains;
  for (const FuseWindow &window : result.windows) {
    const MeasuredWindow &measured = window.measured;
    windows.push_back(json::Object{{"first", measured.first},
                                   {"length", measured.length},
                                   {"form", spell(measured.form).str()},
                                   {"error", measured.error},
                                   {"error_repaired", measured.errorRepaired},
                                   {"kl", measured.kl},
                                   {"kl_repaired", measured.klRepaired},
                                   {"legal", window.reason.empty()},
                                   {"reason", window.reason}});
  }
  for (const Trial &trial : result.trials) {
    trials.push_back(describeTrial(trial));
  }
  if (result.chosen) {
    for (const Difference::Domain &domain : result.trials[*result.chosen].difference->domains) {
      domains.push_back(json::Object{
          {"name", domain.name}, {"kl", domain.kl}, {"kl_bound", domain.klBound}, {"same_winner", domain.sameWinner}});
    }
  }
  json::Object engine{{"for", result.engine->name.str()},
                      {"product", result.engine->product.str()},
                      {"forms", result.engine->describeForms()}};
  if (result.format) {
    engine["format"] = spell(result.format->format).str();
    engine["minimum_version"] = result.format->minimumVersion.str();
    engine["how"] = result.format->how.str();
  }
  return json::Object{{"format", "moe-fusion-report"},
                      {"version", 1},
                      {"model", json::Object{{"family", result.model->family},
                                             {"directory", command.directory},
                                             {"layers", result.layers.layers},
                                             {"hidden", result.layers.hidden},
                                             {"parameters", result.model->parameters},
                                             {"fingerprint", result.calibration.fingerprint}}},
                      {"calibration", describeCalibration(result.calibration)},
                      {"windows", std::move(windows)},
                      {"engine", std::move(engine)},
                      {"budget", json::Object{{"max_kl", command.maxKl},
                                              {"min_top_1", command.minTop1},
                                              {"min_gain", command.minGain},
                                              {"ranks", command.ranks},
                                              {"target", command.target},
                                              {"threads", command.threads}}},
                      {"candidates", std::move(trials)},
                      {"base", json::Object{{"sub_layers", result.baseShape.subLayers},
                                            {"weight_bytes", result.baseShape.weightBytes},
                                            {"kv_bytes_per_token", result.baseShape.kvBytesPerToken},
                                            {"loss", baseLoss(result)},
                                            {"decode_ms", orNull(result.baseSpeed.decodeMs)},
                                            {"prefill_tokens_per_s", orNull(result.baseSpeed.prefillTokensPerSecond)}}},
                      {"plan", std::move(plan)},
                      {"domains", std::move(domains)},
                      {"verdict", result.chosen ? "fuse" : "no change"},
                      {"reason", result.reason},
                      {"notes", json::Array(result.notes)}};
}

std::string moec::spellResult(const FuseResult &result) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  auto number = [](std::optional<double> value, int digits) {
    return !value        ? std::string("-")
           : digits == 4 ? llvm::formatv("{0:F4}", *value).str()
                         : llvm::formatv("{0:F2}", *value).str();
  };
  auto row = [&](llvm::StringRef name, const ModelShape &shape, const std::optional<Difference> &difference,
                 std::optional<double> loss, const Speed &speed, std::optional<Gain> gain, llvm::StringRef windows) {
    auto of = [&](double Difference::*member) {
      return difference ? std::optional<double>(*difference.*member) : std::nullopt;
    };
    std::optional<double> ms;
    if (!speed.decodeMs.empty()) {
      ms = medianOf(speed.decodeMs);
    }
    stream << llvm::formatv("{0,-24} {1,10} {2,9} {3,8} {4,8} {5,8} {6,7} {7,8} {8,10} {9,8}  {10}\n", name,
                            shape.subLayers, number(static_cast<double>(shape.weightBytes) / 1e6, 2),
                            shape.kvBytesPerToken, number(of(&Difference::kl), 4), number(of(&Difference::klBound), 4),
                            number(of(&Difference::sameWinner), 4), number(loss, 4), number(ms, 4),
                            gain ? llvm::formatv("{0:F1} %", gain->median * 100).str() : std::string("-"), windows);
  };
  stream << llvm::formatv("{0,-24} {1,10} {2,9} {3,8} {4,8} {5,8} {6,7} {7,8} {8,10} {9,8}  {10}\n", "plan",
                          "sub-layers", "weight MB", "KV/token", "KL", "at most", "top-1", "loss", "decode ms", "gain",
                          "windows");
  row("the model as it is", result.baseShape, std::nullopt, baseLoss(result), result.baseSpeed, std::nullopt, "");
  for (const Trial &trial : result.trials) {
    std::optional<double> loss;
    if (trial.difference) {
      loss = trial.difference->loss;
    }
    row(trial.name, trial.shape, trial.difference, loss, trial.speed, trial.gain, describeWindows(trial.windows));
  }
  stream << (result.chosen ? "fuse: " : "no change: ") << result.reason << '\n';
  return text;
}
