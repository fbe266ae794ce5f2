//===- Sublayers.cpp - A model in pieces ----------------------------------===//
#include "tools/moe-run/calibrate/Sublayers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
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

Status Sublayers::runBranch(Branch branch, int64_t layer, const Stream &normed, Stream &y) {
  y.resize(normed.size());
  return run(piece(branch, layer).branch, normed.data(), y.data(), false);
}

void moerun::normalize(const Stream &x, int64_t width, double eps, Stream &y) {
  y.resize(x.size());
  for (size_t row = 0; row < x.size(); row += size_t(width)) {
    double squares = 0;
    for (size_t i = row; i < row + size_t(width); ++i) {
      squares += double(x[i]) * x[i];
    }
    const auto factor = float(1 / std::sqrt(squares / double(width) + eps));
    for (size_t i = row; i < row + size_t(width); ++i) {
      y[i] = x[i] * factor;
    }
  }
}

Status Sublayers::findNorm(Piece &piece) {
  // A row of a large constant gives the scale; one of a small constant then shows eps. Powers of two: their squares add
  // up without rounding.
  constexpr float kLarge = 0x1p13f, kSmall = 0x1p-8f;
  Stream row(size_t(hiddenSize), kLarge), small(row.size());
  piece.found.scale.resize(row.size());
  MOERT_TRY(run(piece.norm, row.data(), piece.found.scale.data(), false));
  std::fill(row.begin(), row.end(), kSmall);
  MOERT_TRY(run(piece.norm, row.data(), small.data(), false));
  double both = 0, squares = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    both += double(small[i]) * piece.found.scale[i];
    squares += double(piece.found.scale[i]) * piece.found.scale[i];
  }
  if (squares > 0 && both > 0) {
    const double normed = both / squares; // kSmall / sqrt(kSmall^2 + eps)
    piece.found.eps = std::max(0.0, double(kSmall) * kSmall * (1 / (normed * normed) - 1));
  }
  return {};
}

Status Sublayers::findNorms(const std::vector<int32_t> &tokens) {
  setTokens({tokens.front()});
  for (Layer &both : pieces) {
    for (Piece *piece : {&both.attention, &both.ffn}) {
      if (piece->branch) {
        MOERT_TRY(findNorm(*piece));
      }
    }
  }
  setTokens(tokens);
  Stream x, y, own;
  MOERT_TRY(embed(x));
  for (int64_t l = 0; l < layers(); ++l) {
    for (Branch branch : {Branch::Attention, Branch::FFN}) {
      if (!has(branch, l)) {
        continue;
      }
      MOERT_TRY(run(branch, l, x, y)); // leaves what the norm gave in `normed`
      const Norm &found = norm(branch, l);
      normalize(x, hiddenSize, found.eps, own);
      double largest = 0, most = 0;
      for (size_t i = 0; i < own.size(); ++i) {
        largest = std::max(largest, double(std::abs(own[i] * found.scale[i % found.scale.size()] - normed[i])));
        most = std::max(most, double(std::abs(normed[i])));
        x[i] += y[i];
      }
      if (!(largest <= 1e-5 * most)) { // f32: some ulps of the largest
        return error(Code::InvalidArgument, "the norm of the ", branch == Branch::Attention ? "attention" : "FFN",
                     " of layer ", l, " is not scale * x / rms(x) with one scale per channel: it differs by ", largest,
                     " of ", most, "; windows cannot be measured, give --windows 0");
      }
    }
  }
  return {};
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
