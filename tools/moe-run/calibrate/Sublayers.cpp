//===- Sublayers.cpp - A model in pieces ----------------------------------===//
#include "tools/moe-run/calibrate/Sublayers.h"

#include <algorithm>
#include <charconv>
#include <numeric>

using namespace moert;
using namespace moerun;

namespace {

/// "attention.12.norm" as ("attention", 12, true); false if `name` is no such thing.
bool parseName(const std::string &name, std::string &kind, int64_t &layer, bool &isNorm) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos) {
    return false;
  }
  kind = name.substr(0, dot);
  const char *end = name.data() + name.size();
  auto [rest, failure] = std::from_chars(name.data() + dot + 1, end, layer);
  isNorm = std::string(rest, end) == ".norm";
  return failure == std::errc() && layer >= 0 && (isNorm || rest == end) && (kind == "attention" || kind == "ffn");
}

} // namespace

Result<Sublayers> Sublayers::open(Session &session, const std::string &package) {
  MOERT_ASSIGN(entries, session.entries());
  Sublayers result;
  result.session = &session;
  for (size_t e = 1; e < entries.size(); ++e) {
    const EntryInfo &entry = entries[e];
    std::string kind;
    int64_t layer = 0;
    bool isNorm = false;
    if (entry.name == "embed" && entry.outputs.size() == 1) {
      result.embedEntry = e;
      result.hiddenSize = entry.outputs[0].perToken / static_cast<int64_t>(sizeof(float));
    } else if (entry.name == "head") {
      result.headEntry = e;
    } else if (parseName(entry.name, kind, layer, isNorm)) {
      if (layer >= result.layers()) {
        result.pieces.resize(static_cast<size_t>(layer) + 1);
      }
      Layer &both = result.pieces[static_cast<size_t>(layer)];
      Piece &piece = kind == "attention" ? both.attention : both.ffn;
      (isNorm ? piece.norm : piece.branch) = e;
    }
  }
  if (!result.embedEntry || !result.headEntry || result.pieces.empty()) {
    return error(Code::InvalidArgument, package,
                 ": was compiled without calibration entries; compile the model again with --instrument calibration");
  }
  // What this class hands over is f32 [T, H]; the entries say what they take.
  for (size_t e = 1; e < entries.size(); ++e) {
    for (const EntryArgument &input : entries[e].inputs) {
      if (input.perToken != result.hiddenSize * static_cast<int64_t>(sizeof(float))) {
        return error(Code::InvalidArgument, package, ": entry '", entries[e].name, "' takes ", input.perToken,
                     " bytes per token, a value of the residual stream has ", result.hiddenSize * 4,
                     "; compile the model with --instrument calibration --dtype f32");
      }
    }
  }
  return result;
}

void Sublayers::setTokens(const std::vector<int32_t> &tokens) {
  ids = tokens;
  slots.assign(ids.size(), 0);
  positions.resize(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  normed.resize(ids.size() * static_cast<size_t>(hiddenSize));
}

Status Sublayers::run(size_t entry, const float *in, float *out, bool withRows) {
  const moert_step_input input{tokens(),        ids.data(), slots.data(), positions.data(), withRows ? tokens() : 0,
                               positions.data()};
  const void *inputs[] = {in};
  void *outputs[] = {out};
  return session->run(entry, input, inputs, outputs);
}

Status Sublayers::embed(Stream &x) {
  x.resize(normed.size());
  return run(embedEntry, nullptr, x.data(), false);
}

Status Sublayers::run(Branch branch, int64_t layer, const Stream &x, Stream &y) {
  y.resize(normed.size());
  if (!has(branch, layer)) {
    std::fill(y.begin(), y.end(), 0.0f);
    return {};
  }
  MOERT_TRY(run(piece(branch, layer).norm, x.data(), normed.data(), false));
  return run(piece(branch, layer).branch, normed.data(), y.data(), false);
}

Status Sublayers::head(const Stream &x, std::vector<float> &logits) {
  logits.resize(ids.size() * static_cast<size_t>(session->vocabulary));
  return run(headEntry, x.data(), logits.data(), true);
}

Status Sublayers::whole(std::vector<float> &logits) {
  logits.resize(ids.size() * static_cast<size_t>(session->vocabulary));
  return session->step({tokens(), ids.data(), slots.data(), positions.data(), tokens(), positions.data()},
                       logits.data());
}
