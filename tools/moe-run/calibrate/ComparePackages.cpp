//===- ComparePackages.cpp - moe-run compare ------------------------------===//
//
// Two packages of one vocabulary on the same text, step by step beside each
// other: what the second predicts otherwise, per domain, how sure that is, and
// whether its own text falls into repetition.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/GenerationConfig.h"
#include "tools/moe-run/Commands.h"
#include "tools/moe-run/calibrate/Bound.h"
#include "tools/moe-run/calibrate/Repetition.h"
#include "tools/moe-run/calibrate/WindowBench.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

namespace {

/// Tokens of a text that are a prompt.
constexpr int64_t kPromptTokens = 32;

using Sequences = std::vector<const CalibrationText::Sequence *>;

/// The text to compare on: what is held out of a calibration, or all of the files.
Result<CalibrationText> readText(const CompareCommand &command) {
  CalibrationText text;
  if (!command.calibration.empty()) {
    Json facts;
    return readCalibrationText(command.calibration, facts);
  }
  for (const std::string &argument : command.idsFiles) {
    auto [domain, path] = splitDomain(argument);
    MOERT_ASSIGN(pieces, readIdsFile(path));
    for (std::vector<int32_t> &ids : pieces) {
      if (ids.size() >= 2) {
        text.sequences.push_back({std::move(ids), int64_t(text.domains.size()), true});
      }
    }
    text.domains.push_back(domain);
  }
  return text;
}

/// Sums over the tokens of every sequence.
struct Sums {
  std::vector<double> kl, same, lossBase, lossOther;
  std::vector<int64_t> tokens;
  int64_t predicted = 0;
};

/// Feeds one sequence to both, chunk by chunk.
Status compareSequence(Session &base, Session &other, const std::vector<int32_t> &ids, int threads, Sums &sums) {
  const auto length = int64_t(ids.size()), most = std::min(base.maxTokens, other.maxTokens);
  double kl = 0, same = 0, lossBase = 0, lossOther = 0;
  StepBatch batch;
  for (int64_t begin = 0; begin < length; begin += most) {
    const int64_t end = std::min(length, begin + most);
    batch.clear();
    for (int64_t t = begin; t < end; ++t) {
      batch.add(0, t, ids[size_t(t)], true);
    }
    const size_t count = size_t(end - begin) * size_t(base.vocabulary);
    std::vector<float> first(count), second(count);
    MOERT_TRY(base.step(batch.input(), first.data()));
    MOERT_TRY(other.step(batch.input(), second.data()));
    for (const auto &[package, logits] : {std::pair("first", &first), std::pair("second", &second)}) {
      auto bad = std::find_if(logits->begin(), logits->end(), [](float logit) { return !std::isfinite(logit); });
      if (bad != logits->end()) {
        return error(Code::InvalidArgument, "a logit of token ", begin + (bad - logits->begin()) / base.vocabulary,
                     " is not a number in the ", package, " package: they cannot be compared");
      }
    }
    const std::vector<int32_t> rows(ids.begin() + begin, ids.begin() + std::min(length, end + 1));
    const Prediction prediction(std::move(first), rows, base.vocabulary, threads);
    const Prediction::Effect effect = prediction.compare(second);
    kl += effect.kl;
    same += effect.sameWinner;
    lossBase += prediction.loss();
    lossOther += effect.loss;
  }
  sums.kl.push_back(kl);
  sums.same.push_back(same);
  sums.lossBase.push_back(lossBase);
  sums.lossOther.push_back(lossOther);
  sums.tokens.push_back(length);
  sums.predicted += length - 1;
  return {};
}

double total(const std::vector<double> &values) { return std::accumulate(values.begin(), values.end(), 0.0); }

/// Figures of the sequences for which `chosen` holds.
Json figures(const Sums &sums, const std::function<bool(size_t)> &chosen) {
  std::vector<double> kl;
  std::vector<int64_t> tokens;
  double same = 0;
  for (size_t s = 0; s < sums.kl.size(); ++s) {
    if (chosen(s)) {
      kl.push_back(sums.kl[s]);
      tokens.push_back(sums.tokens[s]);
      same += sums.same[s];
    }
  }
  const int64_t count = std::accumulate(tokens.begin(), tokens.end(), int64_t(0));
  const double bound = upperBound95(kl, tokens);
  return {{"tokens", count},
          {"sequences", kl.size()},
          {"kl", total(kl) / double(count)},
          {"kl_bound", std::isfinite(bound) ? Json(bound) : Json()},
          {"same_winner", same / double(count)}};
}

/// Greedy text of `engine` after each of `prompts`: how much of it is repetition.
Result<std::vector<double>> generateGreedily(Engine &engine, const std::vector<std::vector<int32_t>> &prompts,
                                             int64_t count) {
  std::vector<Generation> sequences(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    sequences[i].prompt = prompts[i];
  }
  GenerateOptions options;
  options.maxNew = count;
  MOERT_TRY(generate(engine, sequences, options, nullptr).status());
  std::vector<double> shares;
  for (const Generation &sequence : sequences) {
    shares.push_back(repeatedShare(sequence.ids));
  }
  return shares;
}

std::string textOf(const Json &number) { return number.is_null() ? "-" : fixed(number.get<double>(), 5); }

} // namespace

Status moerun::runCompare(const CompareCommand &command) {
  if (command.calibration.empty() == command.idsFiles.empty()) {
    return error(Code::InvalidArgument, "compare needs text: give either --calibration FILE or --ids-file FILE");
  }
  MOERT_ASSIGN(text, readText(command));
  const Sequences sequences = text.pick(true, command.tokens, command.skipTokens);
  if (sequences.empty()) {
    return error(Code::InvalidArgument, command.calibration.empty() ? command.idsFiles.front() : command.calibration,
                 ": has no held-out sequence of at least 2 tokens to compare on",
                 command.skipTokens ? concat(" behind the first ", command.skipTokens, " tokens (--skip-tokens)") : "");
  }
  MOERT_ASSIGN(basePackage, Package::load(command.package));
  MOERT_ASSIGN(otherPackage, Package::load(command.other));
  const int64_t vocabulary = basePackage.info().vocabulary;
  if (otherPackage.info().vocabulary != vocabulary) {
    return error(Code::InvalidArgument, command.other, ": has a vocabulary of ", otherPackage.info().vocabulary,
                 " tokens, ", command.package, " has ", vocabulary, "; only models of one vocabulary can be compared");
  }
  int64_t context = 1;
  std::vector<std::vector<int32_t>> prompts;
  for (const CalibrationText::Sequence *sequence : sequences) {
    MOERT_TRY(checkIds("text", sequence->ids, vocabulary));
    context = std::max(context, int64_t(sequence->ids.size()));
  }
  for (size_t i = 0; i < size_t(command.prompts) && i < sequences.size() && command.greedy; ++i) {
    // Spread over the text, and so over its domains.
    const std::vector<int32_t> &ids =
        sequences[i * sequences.size() / std::min(size_t(command.prompts), sequences.size())]->ids;
    prompts.emplace_back(ids.begin(), ids.begin() + std::min(int64_t(ids.size()), kPromptTokens));
    context = std::max(context, int64_t(prompts.back().size()) + command.greedy);
  }
  for (const Package *package : {&basePackage, &otherPackage}) {
    MOERT_TRY(checkContext(package->info(), context));
  }
  const int64_t slots = std::max<int64_t>(1, int64_t(prompts.size()));
  MOERT_ASSIGN(base, openSession(basePackage, command, slots, context));
  CommonOptions options = command;
  options.package = command.other;
  options.weights = command.otherWeights;
  MOERT_ASSIGN(other, openSession(otherPackage, options, slots, context));
  MOERT_ASSIGN(report, parseReport(*base));

  Progress progress(command.quiet);
  Sums sums;
  for (size_t s = 0; s < sequences.size(); ++s) {
    progress.update("compare", s, sequences.size());
    MOERT_TRY(compareSequence(*base, *other, sequences[s]->ids, report["threads"].get<int>(), sums));
  }
  std::vector<double> baseRepeats, otherRepeats;
  if (!prompts.empty()) {
    progress.update("generate", 0, 1);
    MOERT_ASSIGN(first, generateGreedily(*base, prompts, command.greedy));
    MOERT_ASSIGN(second, generateGreedily(*other, prompts, command.greedy));
    baseRepeats = std::move(first);
    otherRepeats = std::move(second);
  }
  progress.finish();

  Json json = figures(sums, [](size_t) { return true; });
  json["loss_base"] = total(sums.lossBase) / double(sums.predicted);
  json["loss_other"] = total(sums.lossOther) / double(sums.predicted);
  json["domains"] = Json::array();
  std::string worst;
  double most = -1;
  for (size_t d = 0; d < text.domains.size(); ++d) {
    auto isOf = [&](size_t s) { return sequences[s]->domain == int64_t(d); };
    Json domain = {{"name", text.domains[d]}};
    domain.update(figures(sums, isOf));
    if (domain["tokens"] == 0) {
      continue; // nothing held out
    }
    if (domain["kl"].get<double>() > most) {
      most = domain["kl"].get<double>();
      worst = text.domains[d];
    }
    json["domains"].push_back(std::move(domain));
  }
  json["worst_domain"] = worst;
  json["greedy"] = Json::array();
  for (size_t i = 0; i < prompts.size(); ++i) {
    json["greedy"].push_back(
        {{"prompt_tokens", prompts[i].size()}, {"base_repeats", baseRepeats[i]}, {"other_repeats", otherRepeats[i]}});
  }
  json["collapsed"] = isCollapse(baseRepeats, otherRepeats);
  if (command.json) {
    return outputStatus(printJson(json));
  }
  std::vector<std::vector<std::string>> rows{{"domain", "tokens", "KL", "95 % bound", "same winner"}};
  auto addRow = [&](const std::string &name, const Json &row) {
    rows.push_back(
        {name, row["tokens"].dump(), textOf(row["kl"]), textOf(row["kl_bound"]), textOf(row["same_winner"])});
  };
  for (const Json &domain : json["domains"]) {
    addRow(domain["name"].get<std::string>() + (domain["name"] == worst ? " (worst)" : ""), domain);
  }
  addRow("all", json);
  return outputStatus(printOut(
      concat(table(rows), "loss ", textOf(json["loss_base"]), " and ", textOf(json["loss_other"]),
             prompts.empty()
                 ? std::string()
                 : concat("; repeated in greedy text: ", fixed(100 * total(baseRepeats) / double(prompts.size()), 1),
                          " % and ", fixed(100 * total(otherRepeats) / double(prompts.size()), 1), " %",
                          json["collapsed"].get<bool>() ? ", it collapses" : ""),
             "\n")));
}
