//===- Calibration.cpp - Measuring, sequence by sequence ------------------===//
#include "tools/moe-run/calibrate/Calibration.h"

#include <algorithm>

using namespace moert;
using namespace moerun;

std::vector<const CalibrationText::Sequence *> CalibrationText::pick(bool heldOut, int64_t tokens, int64_t skip) const {
  std::vector<std::vector<size_t>> ofDomain(domains.size());
  for (size_t s = 0; s < sequences.size(); ++s) {
    if (sequences[s].heldOut == heldOut) {
      ofDomain[size_t(sequences[s].domain)].push_back(s);
    }
  }
  std::vector<size_t> chosen;
  int64_t skipped = 0, taken = 0;
  bool hasMore = true;
  for (size_t turn = 0; hasMore; ++turn) {
    hasMore = false;
    for (const std::vector<size_t> &own : ofDomain) {
      if (turn >= own.size() || (tokens != 0 && taken >= tokens)) {
        continue;
      }
      hasMore = true;
      const auto length = int64_t(sequences[own[turn]].ids.size());
      if (skipped < skip) {
        skipped += length;
      } else {
        chosen.push_back(own[turn]);
        taken += length;
      }
    }
  }
  std::sort(chosen.begin(), chosen.end());
  std::vector<const Sequence *> result;
  for (size_t s : chosen) {
    result.push_back(&sequences[s]);
  }
  return result;
}

Calibration::Calibration(int64_t layers, int64_t domains) : layers(layers), domainCount(domains) {
  for (const Figure &figure : figures()) {
    figure.sums->assign(figure.sums == &baseLoss ? 1 : size_t(figure.perPair ? layers * layers : layers), 0.0);
  }
}

std::vector<Calibration::Figure> Calibration::figures() {
  return {{"base_loss", &baseLoss, true},
          {"dependency", &dependency, false, true},
          {"block_influence", &blockInfluence},
          {"attention_contribution", &attentionContribution},
          {"block_norm_ratio", &blockNorm},
          {"attention_norm_ratio", &attentionNorm},
          {"ffn_norm_ratio", &ffnNorm},
          {"attention_removed_kl", &attentionRemoved.kl},
          {"attention_removed_loss", &attentionRemoved.loss, true},
          {"attention_removed_same_winner", &attentionRemoved.sameWinner},
          {"layer_removed_kl", &layerRemoved.kl},
          {"layer_removed_loss", &layerRemoved.loss, true},
          {"layer_removed_same_winner", &layerRemoved.sameWinner}};
}

std::vector<double> Calibration::means(const Figure &figure) const {
  std::vector<double> result = *figure.sums;
  for (double &value : result) {
    value /= double(figure.perLossToken ? lossTokens : tokenCount);
  }
  return result;
}

Status Calibration::measure(Sublayers &model, const CalibrationText::Sequence &sequence, int64_t vocabulary,
                            const Step &step) {
  const int64_t width = model.hidden(), total = 1 + 2 * layers;
  model.setTokens(sequence.ids);
  // The model as it is: the stream before every layer, and what every layer adds.
  std::vector<Stream> stream(1), added;
  Stream a, f;
  std::vector<float> logits;
  MOERT_TRY(model.embed(stream[0]));
  for (int64_t l = 0; l < layers; ++l) {
    const auto layer = size_t(l);
    const Stream &x = stream.back();
    MOERT_TRY(model.run(Branch::Attention, l, x, a));
    const Stream middle = sum(x, a);
    MOERT_TRY(model.run(Branch::FFN, l, middle, f));
    Stream next = sum(middle, f);
    added.push_back(difference(next, x));
    blockInfluence[layer] += cosineDistance(x, next, width);
    attentionContribution[layer] += cosineDistance(x, middle, width);
    blockNorm[layer] += normRatio(added.back(), x, width);
    attentionNorm[layer] += normRatio(a, x, width);
    ffnNorm[layer] += normRatio(f, middle, width);
    stream.push_back(std::move(next));
  }
  MOERT_TRY(model.head(stream.back(), logits));
  const Prediction full(std::move(logits), sequence.ids, vocabulary);
  step(1, total);

  // Runs what follows layer `removed`, from the stream `x` behind it; `perLayer` sees every layer's contribution.
  auto finish = [&](int64_t removed, Stream x, Removal &sums, bool comparesLayers) -> Status {
    for (int64_t l = removed + 1; l < layers; ++l) {
      MOERT_TRY(model.run(Branch::Attention, l, x, a));
      Stream next = sum(x, a);
      MOERT_TRY(model.run(Branch::FFN, l, next, f));
      next = sum(next, f);
      if (comparesLayers) {
        dependency[size_t(removed * layers + l)] += cosineDistance(added[size_t(l)], difference(next, x), width);
      }
      x = std::move(next);
    }
    std::vector<float> changed;
    MOERT_TRY(model.head(x, changed));
    const Prediction::Effect effect = full.compare(changed);
    sums.kl[size_t(removed)] += effect.kl;
    sums.loss[size_t(removed)] += effect.loss;
    sums.sameWinner[size_t(removed)] += effect.sameWinner;
    return {};
  };
  for (int64_t l = 0; l < layers; ++l) {
    const Stream &x = stream[size_t(l)];
    MOERT_TRY(finish(l, x, layerRemoved, true));
    step(2 + 2 * l, total);
    MOERT_TRY(model.run(Branch::FFN, l, x, f));
    MOERT_TRY(finish(l, sum(x, f), attentionRemoved, false));
    step(3 + 2 * l, total);
  }
  baseLoss[0] += full.loss();
  tokenCount += model.tokens();
  lossTokens += model.tokens() - 1;
  ++sequenceCount;
  return {};
}

void Calibration::addWindows(std::vector<WindowRow> rows) {
  windows.insert(windows.end(), rows.begin(), rows.end());
  ++windowLayers;
}

Json Calibration::summary() const {
  Json result = {{"sequences", sequenceCount}, {"tokens", tokenCount}, {"layers", layers}};
  for (const Figure &figure : figures()) {
    const std::vector<double> values = means(figure);
    if (figure.sums == &baseLoss) {
      result[figure.name] = values[0];
    } else if (!figure.perPair) {
      result[figure.name] = values;
    } else {
      Json &rows = result[figure.name] = Json::array();
      for (int64_t i = 0; i < layers; ++i) {
        rows.push_back(std::vector<double>(values.begin() + i * layers, values.begin() + (i + 1) * layers));
      }
    }
  }
  Json &rows = result["windows"] = Json::array();
  for (const WindowRow &row : windows) {
    rows.push_back(describe(row));
  }
  return result;
}
