//===- Generate.cpp - moe-run generate ------------------------------------===//
//
// One prompt streams as it is generated. Of several, the first unfinished one
// streams and the others wait, so that the output reads like one after another
// while all are generated in one batch.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Commands.h"

#include "runtime/readers/File.h"
#include "runtime/readers/GenerationConfig.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

namespace {

constexpr uint64_t maxPromptBytes = 64u << 20;

/// "1,2,3" as ids.
Result<std::vector<int32_t>> parseIds(const std::string &text) {
  std::vector<int32_t> ids;
  for (const char *cursor = text.c_str();;) {
    char *end;
    errno = 0;
    long long value = std::strtoll(cursor, &end, 10);
    if (end == cursor || errno != 0 || value < 0 || value > INT32_MAX || (*end != '\0' && *end != ',')) {
      return error(Code::InvalidArgument, "--ids \"", text,
                   "\" must be numbers with commas between them, such as 1,2,3");
    }
    ids.push_back(static_cast<int32_t>(value));
    if (*end == '\0') {
      return ids;
    }
    cursor = end + 1;
  }
}

/// Prints the texts of sequences in order, each as early as it can.
class Streams {
public:
  Streams(const std::optional<Tokenizer> &tokenizer, const std::vector<Generation> &sequences, bool print)
      : sequences(sequences), print(print), texts(sequences.size()), done(sequences.size(), false) {
    for (size_t i = 0; tokenizer.has_value() && i < sequences.size(); ++i) {
      decoders.emplace_back(*tokenizer);
    }
  }

  Status push(size_t i, int32_t id, bool last) {
    add(i, decoders.empty() ? concat(texts[i].empty() ? "" : ",", id) : decoders[i].push(id));
    if (last) {
      add(i, decoders.empty() ? "" : decoders[i].finish());
      done[i] = true;
    }
    return flush();
  }
  /// A sequence that generates nothing.
  Status skip(size_t i) {
    done[i] = true;
    return flush();
  }
  /// Text that comes before what is generated.
  void begin(size_t i, const std::string &text) { heads.resize(sequences.size()), heads[i] = text; }
  const std::string &text(size_t i) const { return texts[i]; }

private:
  void add(size_t i, const std::string &text) { texts[i] += text; }
  Status flush() {
    for (; print && current < sequences.size(); ++current, printed = 0, opened = false) {
      std::string out = opened ? "" : head(current);
      opened = true;
      out += texts[current].substr(printed);
      printed = texts[current].size();
      if (done[current]) {
        out += "\n";
      }
      MOERT_TRY(outputStatus(printOut(out)));
      if (!done[current]) {
        break;
      }
    }
    return Status();
  }
  std::string head(size_t i) const {
    return (sequences.size() > 1 ? concat("[", i + 1, "] ") : "") + (heads.empty() ? "" : heads[i]);
  }

  const std::vector<Generation> &sequences;
  bool print;
  std::vector<StreamDecoder> decoders;
  std::vector<std::string> texts, heads;
  std::vector<bool> done;
  size_t current = 0, printed = 0;
  bool opened = false;
};

double rate(int64_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

/// All prompts as ids, in the order: --prompt, --prompt-file, --ids.
Status encodePrompts(const GenerateCommand &command, const ProgramInfo &info, const std::optional<Tokenizer> &tokenizer,
                     std::vector<Generation> &sequences, std::vector<std::string> &texts) {
  texts = command.prompts;
  for (const std::string &path : command.promptFiles) {
    MOERT_ASSIGN(text, readWholeFile(path, maxPromptBytes));
    texts.push_back(text);
  }
  for (const std::string &text : texts) {
    MOERT_ASSIGN(ids, tokenizer->encode(text, !command.noSpecial));
    sequences.emplace_back().prompt = std::move(ids);
  }
  for (const std::string &list : command.ids) {
    MOERT_ASSIGN(ids, parseIds(list));
    sequences.emplace_back().prompt = std::move(ids);
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    std::string what = sequences.size() == 1 ? std::string("prompt") : concat("prompt ", i + 1);
    if (sequences[i].prompt.empty()) {
      return error(Code::InvalidArgument, what, ": has no tokens; give at least one character or id");
    }
    MOERT_TRY(checkIds(what, sequences[i].prompt, info.vocabulary));
  }
  return Status();
}

std::string expertTable(const std::vector<std::vector<int64_t>> &counts) {
  std::vector<std::vector<std::string>> rows = {{"tokens per expert"}};
  size_t most = 0; // fused layers have the experts of several
  for (const std::vector<int64_t> &layer : counts) {
    most = std::max(most, layer.size());
  }
  for (size_t e = 0; e < most; ++e) {
    rows[0].push_back(concat("E", e));
  }
  for (size_t layer = 0; layer < counts.size(); ++layer) {
    std::vector<std::string> &row = rows.emplace_back(std::vector<std::string>{concat("MoE layer ", layer)});
    for (int64_t count : counts[layer]) {
      row.push_back(std::to_string(count));
    }
  }
  return table(rows);
}

Json sequenceJson(const Generation &sequence, const std::string &text, bool hasTokenizer) {
  Json json = {{"prompt_ids", sequence.prompt},
               {"ids", sequence.ids},
               {"generated", sequence.ids.size()},
               {"finish", sequence.ended ? "eos" : "length"}};
  if (hasTokenizer) {
    json["text"] = text;
  }
  return json;
}

} // namespace

Status moerun::runGenerate(const GenerateCommand &command) {
  MOERT_TRY(checkSampling(command.sampling));
  MOERT_ASSIGN(package, Package::load(command.package));
  const ProgramInfo &info = package.info();
  bool needsTokenizer = !command.prompts.empty() || !command.promptFiles.empty();
  std::optional<Tokenizer> tokenizer;
  if (needsTokenizer || exists(joinPath(command.package, "tokenizer.json"))) {
    Result<Tokenizer> opened = openTokenizer(command.package);
    if (opened.ok()) {
      tokenizer = *opened;
    } else if (needsTokenizer) {
      return opened.status();
    } else if (!command.quiet) {
      printNote("moe-run: note: ids are printed as numbers: " + opened.status().message());
    }
  }
  std::vector<Generation> sequences;
  std::vector<std::string> texts;
  MOERT_TRY(encodePrompts(command, info, tokenizer, sequences, texts));
  if (sequences.empty()) {
    return error(Code::InvalidArgument, "nothing to generate from: give --prompt TEXT or --ids 1,2,3");
  }

  // The cache holds what the longest sequence needs, unless told otherwise.
  int64_t longest = 0;
  for (const Generation &sequence : sequences) {
    longest = std::max(longest, static_cast<int64_t>(sequence.prompt.size()));
  }
  MOERT_TRY(checkContext(info, command.context));
  GenerateOptions options;
  options.maxNew = command.maxNew;
  int64_t limit = command.context != 0 ? command.context : info.maxContext;
  if (!command.maxNewGiven && limit != 0) { // The default length bends to the room there is.
    options.maxNew = std::max<int64_t>(std::min(options.maxNew, limit - longest + 1), 1);
  }
  int64_t context = command.context != 0 ? command.context : longest + std::max<int64_t>(options.maxNew - 1, 0);
  for (size_t i = 0; i < sequences.size(); ++i) {
    std::string what = sequences.size() == 1 ? std::string("prompt") : concat("prompt ", i + 1);
    auto length = static_cast<int64_t>(sequences[i].prompt.size());
    MOERT_TRY(checkLength(what, length, options.maxNew, context, "--context"));
    if (info.maxContext != 0) {
      MOERT_TRY(checkLength(what, length, options.maxNew, info.maxContext, "the model's context"));
    }
  }
  auto count = static_cast<int64_t>(sequences.size());
  int64_t slots = command.sequences != 0 ? std::min(command.sequences, count) : std::min<int64_t>(count, 16);

  options.sampling = command.sampling;
  MOERT_ASSIGN(config, readGenerationConfig(command.package));
  if (!command.ignoreEos) {
    options.ends = [&](int32_t id) { return config.ends(id); };
  }
  MOERT_ASSIGN(session, openSession(package, command, slots, context));

  Streams streams(tokenizer, sequences, !command.json);
  for (size_t i = 0; command.echo && i < texts.size(); ++i) {
    streams.begin(i, texts[i]);
  }
  for (size_t i = 0; options.maxNew == 0 && i < sequences.size(); ++i) {
    MOERT_TRY(streams.skip(i));
  }
  auto onToken = [&](size_t i, int32_t id) {
    bool last = sequences[i].ended || static_cast<int64_t>(sequences[i].ids.size()) == options.maxNew;
    return streams.push(i, id, last);
  };
  MOERT_ASSIGN(recorder, beginRecording(*session, command));
  MOERT_ASSIGN(stats, generate(recorder ? *recorder : static_cast<Engine &>(*session), sequences, options, onToken));
  MOERT_TRY(endRecording(recorder.get(), command));
  MOERT_ASSIGN(counters, readRoutingCounters(*session));
  const std::vector<std::vector<int64_t>> &counts = counters.counts;
  double prefillRate = rate(stats.prefillTokens, stats.prefillSeconds);
  double decodeRate = rate(stats.decodeTokens, stats.decodeSeconds);
  if (command.json) {
    MOERT_ASSIGN(report, parseReport(*session));
    Json json =
        sequences.size() == 1 ? sequenceJson(sequences[0], streams.text(0), tokenizer.has_value()) : Json::object();
    json["sequences"] = Json::array();
    for (size_t i = 0; i < sequences.size(); ++i) {
      json["sequences"].push_back(sequenceJson(sequences[i], streams.text(i), tokenizer.has_value()));
    }
    json["variant"] = report["variant"];
    json["threads"] = report["threads"];
    json["prefill_tokens"] = stats.prefillTokens;
    json["prefill_seconds"] = stats.prefillSeconds;
    json["prefill_tokens_per_second"] = prefillRate;
    json["decode_tokens"] = stats.decodeTokens;
    json["decode_seconds"] = stats.decodeSeconds;
    json["decode_tokens_per_second"] = decodeRate;
    json["first_token_seconds"] = stats.firstTokenSeconds;
    json["result_bytes"] = report["result_bytes"];
    json["expert_counts"] = counts;
    if (command.experts && !counts.empty()) {
      MOERT_ASSIGN(statistics, makeStatistics(counters, command.package));
      json["balance"] = describeBalance(statistics);
    }
    return outputStatus(printJson(json));
  }
  if (command.experts) {
    if (counts.empty()) {
      printNote("moe-run: note: this model has no experts");
    } else {
      MOERT_TRY(outputStatus(printOut("\n" + expertTable(counts))));
    }
  }
  if (!command.quiet) {
    printNote(concat("prefill ", stats.prefillTokens, " tokens in ", fixed(stats.prefillSeconds, 3), " s (",
                     fixed(prefillRate, 1), " tokens/s), decode ", stats.decodeTokens, " tokens in ",
                     fixed(stats.decodeSeconds, 3), " s (", fixed(decodeRate, 1), " tokens/s)"));
  }
  return Status();
}
