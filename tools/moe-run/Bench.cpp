//===- Bench.cpp - moe-run bench ------------------------------------------===//
//
// Speed of prefill and decode, and how far decode is from what memory allows:
// every step reads the weights it needs once, so bytes per step times steps per
// second is compared with the read bandwidth measured in the same run.
//
// Weight bytes of a decode step: all that the program uses, less the embedding
// (of which B rows are read) where a separate head exists, and of the experts
// the share that the steps of a warm-up touched. Which tensors are which is
// taken from Hugging Face's names in the checkpoint.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Bandwidth.h"
#include "tools/moe-run/Commands.h"
#include "tools/moe-run/Measure.h"

#include "runtime/readers/Safetensors.h"

#include <algorithm>

using namespace moert;
using namespace moerun;

namespace {

/// Counts how many experts each step touches.
class TouchedExperts {
public:
  explicit TouchedExperts(Session &session) : session(session) {}
  Status begin() { return read(before); }
  Status afterStep() {
    std::vector<std::vector<int64_t>> counts;
    MOERT_TRY(read(counts));
    for (size_t layer = 0; layer < counts.size(); ++layer) {
      for (size_t e = 0; e < counts[layer].size(); ++e) {
        touched += counts[layer][e] != before[layer][e];
      }
      total += static_cast<int64_t>(counts[layer].size());
    }
    before = std::move(counts);
    return Status();
  }
  /// Share of all experts that a step touches; 1 without experts.
  double share() const { return total == 0 ? 1 : static_cast<double>(touched) / static_cast<double>(total); }

private:
  Status read(std::vector<std::vector<int64_t>> &out) {
    MOERT_ASSIGN(counts, session.expertCounts());
    out = std::move(counts);
    return Status();
  }
  Session &session;
  std::vector<std::vector<int64_t>> before;
  int64_t touched = 0, total = 0;
};

/// Bytes of the checkpoint by what a decode step reads of them.
struct WeightBytes {
  double experts = 0, embedding = 0;
};
WeightBytes classifyWeights(const std::string &folder) {
  WeightBytes bytes;
  Result<readers::Checkpoint> checkpoint = readers::Checkpoint::open(folder);
  if (!checkpoint.ok()) {
    return bytes;
  }
  bool hasHead = checkpoint->find("lm_head.weight") != nullptr;
  for (const readers::TensorInfo &tensor : checkpoint->tensors()) {
    auto contains = [&](const char *part) { return tensor.name.find(part) != std::string::npos; };
    if (contains(".experts.")) {
      bytes.experts += static_cast<double>(tensor.bytes);
    } else if (hasHead && contains("embed_tokens.weight")) {
      bytes.embedding += static_cast<double>(tensor.bytes);
    }
  }
  return bytes;
}

struct Series {
  std::vector<double> rates;
  Json json() const {
    return {{"median", median(rates)},
            {"min", *std::min_element(rates.begin(), rates.end())},
            {"max", *std::max_element(rates.begin(), rates.end())},
            {"runs", rates}};
  }
  std::string text() const {
    return concat(fixed(median(rates), 1), " tokens/s (", fixed(*std::min_element(rates.begin(), rates.end()), 1),
                  " to ", fixed(*std::max_element(rates.begin(), rates.end()), 1), ", ", rates.size(), " runs)");
  }
};

} // namespace

Status moerun::runBench(const BenchCommand &command) {
  if (command.device == "emulator") {
    return error(Code::InvalidArgument,
                 "--device emulator: the emulator says whether GPU code is right, never how fast "
                 "it is: bench runs on a CPU or a GPU");
  }
  MOERT_ASSIGN(package, Package::load(command.package));
  int64_t context = command.promptLength + command.generate;
  MOERT_TRY(checkContext(package.info(), context));
  MOERT_ASSIGN(session, openSession(package, command, command.batch, context));
  MOERT_ASSIGN(recorder, beginRecording(*session, command));
  Measurement measurement(recorder ? *recorder : static_cast<Engine &>(*session), command.promptLength);

  // The warm-up fills caches and page tables, and sees which experts decoding touches.
  Progress progress(command.quiet);
  auto runs = static_cast<uint64_t>(command.repeat) + 1;
  progress.update("warm-up", 0, runs);
  TouchedExperts touched(*session);
  MOERT_TRY(measurement.prefill().status());
  MOERT_TRY(touched.begin());
  MOERT_TRY(measurement.decode(std::min<int64_t>(command.generate, 32), [&] { return touched.afterStep(); }).status());

  Series prefill, decode;
  for (int64_t run = 0; run < command.repeat; ++run) {
    progress.update("measuring", static_cast<uint64_t>(run) + 1, runs);
    MOERT_ASSIGN(prefillSeconds, measurement.prefill());
    MOERT_ASSIGN(decodeSeconds, measurement.decode(command.generate, nullptr));
    prefill.rates.push_back(static_cast<double>(command.promptLength * command.batch) / prefillSeconds);
    decode.rates.push_back(static_cast<double>(command.generate * command.batch) / decodeSeconds);
  }
  progress.finish();
  MOERT_TRY(endRecording(recorder.get(), command));

  MOERT_ASSIGN(report, parseReport(*session));
  // Of a GPU's memory nothing is measured.
  const bool noBandwidth = command.noBandwidth || session->deviceKind() != "cpu";
  double bandwidth = noBandwidth ? 0 : measureReadBandwidth(report.value("threads", 1));
  double all = report.value("weight_bytes", 0.0);
  WeightBytes parts = classifyWeights(report.value("weights", std::string()));
  double stepBytes = all - parts.embedding - parts.experts * (1 - touched.share());
  double readRate = stepBytes * median(decode.rates) / static_cast<double>(command.batch);
  double fraction = bandwidth > 0 ? readRate / bandwidth : 0;
  if (command.json) {
    Json json = {{"package", command.package},
                 {"variant", report["variant"]},
                 {"device", report["device"]},
                 {"threads", report["threads"]},
                 {"prompt_length", command.promptLength},
                 {"generate", command.generate},
                 {"batch", command.batch},
                 {"prefill_tokens_per_second", prefill.json()},
                 {"decode_tokens_per_second", decode.json()},
                 {"weight_bytes", all},
                 {"weight_bytes_per_decode_step", stepBytes},
                 {"expert_share", touched.share()},
                 {"decode_read_bytes_per_second", readRate}};
    if (!noBandwidth) {
      json["read_bandwidth_bytes_per_second"] = bandwidth;
      json["bandwidth_fraction"] = fraction;
    }
    return outputStatus(printJson(json));
  }
  std::string text = concat("prefill ", command.promptLength, " tokens x ", command.batch, ": ", prefill.text(), "\n");
  text += concat("decode  ", command.generate, " tokens x ", command.batch, ": ", decode.text(), "\n");
  text += concat("weights ", bytesText(stepBytes), " read per decode step of ", bytesText(all), " in all\n");
  text += concat("memory  ", fixed(readRate / 1e9, 1), " GB/s of weights while decoding");
  if (!noBandwidth) {
    text += concat(", ", fixed(bandwidth / 1e9, 1), " GB/s measured with ", report.value("threads", 1),
                   " threads: ", fixed(100 * fraction, 0), fraction > 1 ? " % (weights that fit in the caches)" : " %");
  }
  text += "\n";
  text += concat("variant ", report.value("variant", std::string()), ", ", report.value("threads", 1), " threads\n");
  return outputStatus(printOut(text));
}
