//===- Calibrate.cpp - moe-run calibrate ----------------------------------===//
//
// Cuts text into sequences, measures them one by one (Calibration.h), then the
// windows that begin at each layer, and writes the file. What is done so far is
// kept beside it, so that an interrupted run goes on where it was; the finished
// file appears whole.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/File.h"
#include "runtime/readers/GenerationConfig.h"
#include "tools/moe-run/Commands.h"
#include "tools/moe-run/calibrate/RunKey.h"
#include "tools/moe-run/calibrate/WindowBench.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <tuple>
#include <unistd.h>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

namespace {

/// The largest text that is read.
constexpr uint64_t kMaxTextBytes = uint64_t(1) << 30;

/// The ids of a file, in one piece or as its sequences.
Result<std::vector<std::vector<int32_t>>> readIds(const CalibrateCommand &command, const std::string &path,
                                                  bool isText) {
  if (!isText) {
    return readIdsFile(path);
  }
  MOERT_ASSIGN(tokenizer, openTokenizer(command.package));
  MOERT_ASSIGN(text, readWholeFile(path, kMaxTextBytes));
  MOERT_ASSIGN(ids, tokenizer.encode(text));
  return std::vector<std::vector<int32_t>>{std::move(ids)};
}

/// The sequences of one file, cut to at most `length` tokens, appended to `text`; every `every`-th is held out (0:
/// none).
Status addFile(const CalibrateCommand &command, const ProgramInfo &info, const std::string &argument, bool isText,
               int64_t length, int64_t every, CalibrationText &text) {
  auto [domain, path] = splitDomain(argument);
  MOERT_ASSIGN(pieces, readIds(command, path, isText));
  auto found = std::find(text.domains.begin(), text.domains.end(), domain);
  const int64_t number = found - text.domains.begin();
  if (found == text.domains.end()) {
    text.domains.push_back(domain);
  }
  int64_t taken = 0, cut = 0;
  for (const std::vector<int32_t> &piece : pieces) {
    MOERT_TRY(checkIds(path, piece, info.vocabulary));
    for (size_t begin = 0; begin < piece.size() && (!command.tokens || taken < command.tokens);
         begin += size_t(length)) {
      const size_t end = std::min(piece.size(), begin + size_t(length));
      if (end - begin < 2) {
        continue; // nothing to predict
      }
      CalibrationText::Sequence sequence;
      sequence.ids.assign(piece.begin() + int64_t(begin), piece.begin() + int64_t(end));
      sequence.domain = number;
      sequence.heldOut = every && ++cut % every == 0;
      taken += int64_t(sequence.ids.size());
      text.sequences.push_back(std::move(sequence));
    }
  }
  return taken ? Status() : error(Code::InvalidArgument, path, ": has no sequence of at least 2 tokens");
}

/// All files. Held out is what comes from files for that; without such files, every `command.heldOut`-th sequence.
Result<CalibrationText> readText(const CalibrateCommand &command, const ProgramInfo &info, int64_t length) {
  CalibrationText text;
  const bool hasHeldOut = !command.heldOutTexts.empty() || !command.heldOutIdsFiles.empty();
  const std::tuple<const std::vector<std::string> *, bool, int64_t> kinds[] = {
      {&command.texts, true, hasHeldOut ? 0 : command.heldOut},
      {&command.idsFiles, false, hasHeldOut ? 0 : command.heldOut},
      {&command.heldOutTexts, true, 1},
      {&command.heldOutIdsFiles, false, 1}};
  for (const auto &[arguments, isText, every] : kinds) {
    for (const std::string &argument : *arguments) {
      MOERT_TRY(addFile(command, info, argument, isText, length, every, text));
    }
  }
  return text;
}

/// The largest difference between the model as one step and as its pieces; must be rounding only.
Result<double> checkPieces(Sublayers &model, const std::vector<int32_t> &ids) {
  model.setTokens(ids);
  std::vector<float> whole, pieces;
  Stream x, y;
  MOERT_TRY(model.whole(whole));
  MOERT_TRY(model.embed(x));
  for (int64_t l = 0; l < model.layers(); ++l) {
    for (Branch branch : {Branch::Attention, Branch::FFN}) {
      MOERT_TRY(model.run(branch, l, x, y));
      x = sum(x, y);
    }
  }
  MOERT_TRY(model.head(x, pieces));
  double largest = 0, most = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    if (!std::isfinite(whole[i]) || !std::isfinite(pieces[i])) {
      return error(Code::InvalidArgument, "a logit of token ", i * ids.size() / whole.size(),
                   " of the first sequence is not a number: nothing can be measured on this model; are its weights "
                   "damaged?");
    }
    largest = std::max(largest, double(std::abs(whole[i] - pieces[i])));
    most = std::max(most, double(std::abs(whole[i])));
  }
  const double bound = std::max(2e-4, 1e-5 * most); // of two correct f32 runs, as for the goldens
  if (!(largest <= bound)) {
    return error(Code::Internal, "the model in pieces differs from the model by ", largest, " in the logits, at most ",
                 bound, " is rounding");
  }
  return largest;
}

std::string layerTable(const Json &summary) {
  std::vector<std::vector<std::string>> rows{{"layer", "influence", "attention", "|h|/|x|", "KL without attention",
                                              "KL without layer", "dependency on the layer before"}};
  const auto layers = summary["layers"].get<int64_t>();
  for (int64_t l = 0; l < layers; ++l) {
    auto value = [&](const char *name) { return fixed(summary[name][size_t(l)].get<double>(), 4); };
    rows.push_back({std::to_string(l), value("block_influence"), value("attention_contribution"),
                    value("block_norm_ratio"), value("attention_removed_kl"), value("layer_removed_kl"),
                    l ? fixed(summary["dependency"][size_t(l - 1)][size_t(l)].get<double>(), 4) : "-"});
  }
  return table(rows);
}

/// The best window of every form and length.
std::string windowTable(const Json &windows) {
  std::vector<std::vector<std::string>> rows{
      {"best window", "KL", "repaired", "95 % bound", "error", "repaired", "same winner"}};
  std::map<std::pair<std::string, int64_t>, const Json *> best;
  for (const Json &window : windows) {
    const Json *&found = best[{window["form"].get<std::string>(), window["length"].get<int64_t>()}];
    if (!found || window["kl_repaired"] < (*found)["kl_repaired"]) {
      found = &window;
    }
  }
  for (const auto &[key, found] : best) {
    const Json *window = found;
    auto value = [&](const char *name) {
      const Json &number = (*window)[name];
      return number.is_null() ? std::string("-") : fixed(number.get<double>(), 4);
    };
    rows.push_back({concat(key.first, " ", (*window)["first"].get<int64_t>(), " x ", key.second), value("kl"),
                    value("kl_repaired"), value("kl_bound"), value("error"), value("error_repaired"),
                    value("same_winner")});
  }
  return best.empty() ? "" : table(rows);
}

/// Repairs and judges all windows that `calibration` does not have yet.
Status measureWindows(const CalibrateCommand &command, const std::vector<Form> &forms, WindowBench &bench,
                      int64_t layers, Calibration &calibration, const std::function<Status()> &save) {
  Progress progress(command.quiet);
  MOERT_TRY(bench.open());
  for (int64_t first = calibration.layersWithWindows(); first < layers; ++first) {
    std::vector<WindowResult> windows;
    for (Form form : forms) {
      for (int64_t length = 1; length <= std::min(command.windows, layers - first); ++length) {
        if (bench.windows().isPossible({first, length, form})) {
          windows.emplace_back().window = {first, length, form};
        }
      }
    }
    std::vector<WindowRow> rows;
    if (!windows.empty()) {
      MOERT_TRY(bench.fit(windows, [&](double share) {
        progress.update(concat("windows (layer ", first + 1, " of ", layers, ")"),
                        uint64_t(1000 * (double(first) + share)), uint64_t(1000 * layers));
      }));
    }
    for (const WindowResult &result : windows) {
      rows.push_back(summarize(result, bench.judgedText()));
    }
    calibration.addWindows(std::move(rows));
    MOERT_TRY(save());
  }
  return {};
}

} // namespace

Status moerun::runCalibrate(const CalibrateCommand &command) {
  if (command.texts.empty() && command.idsFiles.empty()) {
    return error(Code::InvalidArgument, "nothing to calibrate on: give --text FILE or --ids-file FILE");
  }
  if (readers::exists(command.output)) {
    Json facts;
    if (!readCalibrationText(command.output, facts).ok()) {
      return error(Code::InvalidArgument, command.output,
                   ": exists and is not a calibration, so it is not overwritten; choose another name");
    }
  }
  MOERT_ASSIGN(package, Package::load(command.package));
  const ProgramInfo &info = package.info();
  if (info.ranks > 1) {
    return error(
        Code::InvalidArgument, command.package, " was compiled for ", info.ranks,
        " ranks, but a calibration runs the pieces of a model on one: compile it without --ranks and --plan MAP");
  }
  const int64_t most = command.maxTokens ? command.maxTokens : info.maxTokens;
  const int64_t length = std::min(command.sequenceLength, most);
  MOERT_TRY(checkContext(info, length));
  MOERT_ASSIGN(text, readText(command, info, length));
  MOERT_ASSIGN(session, openSession(package, command, 1, length));
  MOERT_ASSIGN(model, Sublayers::open(*session, command.package));
  MOERT_ASSIGN(report, parseReport(*session));
  MOERT_ASSIGN(print, readers::fingerprint(report["weights"].get<std::string>()));

  MOERT_ASSIGN(forms, parseForms(command.forms));

  Calibration calibration(model.layers(), int64_t(text.domains.size()));
  const std::string unfinished = command.output + ".unfinished";
  const std::string key = runKey(command, {print, text.digest(), report["variant"].get<std::string>(), length});
  MOERT_TRY(calibration.resume(unfinished, key));
  if (calibration.sequences() && !command.quiet) {
    printNote(concat("going on after ", calibration.sequences(), " sequences of an earlier run"));
  }
  MOERT_ASSIGN(difference, checkPieces(model, text.sequences.front().ids));

  const std::vector<const CalibrationText::Sequence *> measured = text.pick(false, command.measureTokens);
  Progress progress(command.quiet);
  const auto total = uint64_t(measured.size());
  for (size_t i = size_t(calibration.sequences()); i < measured.size(); ++i) {
    MOERT_TRY(calibration.measure(model, *measured[i], info.vocabulary, [&](int64_t done, int64_t parts) {
      progress.update(concat("calibrate (sequence ", i + 1, " of ", total, ")"), i * uint64_t(parts) + uint64_t(done),
                      total * uint64_t(parts));
    }));
    MOERT_TRY(calibration.save(unfinished, key));
  }
  progress.finish();
  // Calibration runs changed models too; what is recorded is the model as it is, each sequence once.
  MOERT_ASSIGN(recorder, beginRecording(*session, command));
  std::vector<float> logits;
  for (size_t i = 0; recorder && i < measured.size(); ++i) {
    progress.update("record routing", i, total);
    model.setTokens(measured[i]->ids);
    MOERT_TRY(model.whole(logits));
    MOERT_TRY(recorder->afterStep());
  }
  progress.finish();
  MOERT_TRY(endRecording(recorder.get(), command));

  Json modelFacts = Json::parse(info.modelJson, nullptr, false);
  Json facts = {{"model", modelFacts.is_discarded() ? Json::object() : modelFacts},
                {"fingerprint", print},
                {"layers", model.layers()},
                {"hidden", model.hidden()},
                {"vocabulary", info.vocabulary},
                {"sequence_length", length},
                {"variant", report["variant"]}};
  if (command.windows) {
    WindowBench::Options options;
    options.fit = {command.ridge, report["threads"].get<int>()};
    options.judgeTokens = command.judgeTokens;
    WindowBench bench(model, text, info.vocabulary, options);
    MOERT_TRY(measureWindows(command, forms, bench, model.layers(), calibration,
                             [&] { return calibration.save(unfinished, key); }));
    facts["max_window"] = command.windows;
    facts["forms"] = Json::array();
    for (Form form : forms) {
      facts["forms"].push_back(std::string(1, formLetter(form)));
    }
    facts["ridge"] = command.ridge;
    facts["fitted_tokens"] = bench.fittedTokens();
    facts["judged_tokens"] = bench.judgedText().tokenCount();
    facts["judged_sequences"] = bench.judgedText().tokens.size();
  }
  MOERT_TRY(calibration.write(command.output, text, facts));
  unlink(unfinished.c_str());
  Json summary = calibration.summary();
  summary["output"] = command.output;
  summary["fingerprint"] = print;
  summary["pieces_difference"] = difference;
  if (command.json) {
    return outputStatus(printJson(summary));
  }
  return outputStatus(
      printOut(concat(layerTable(summary), windowTable(summary["windows"]), command.output, ": ", calibration.tokens(),
                      " tokens of ", calibration.sequences(), " sequences, loss ", fixed(calibration.loss(), 4),
                      ", pieces and whole model differ by ", difference, "\n")));
}
