//===- Windows.cpp - Fused windows, composed of a model's pieces ----------===//
#include "tools/moe-run/calibrate/Windows.h"

#include <algorithm>
#include <cmath>

using namespace moert;
using namespace moerun;

namespace {

/// A fused norm keeps its scale away from zero by this (kScaleFloor in passes/Transforms/FusionRewrites.h): so does a
/// map that is divided by a scale.
constexpr float kScaleFloor = 0x1p-10f;

const Map &mapOf(const std::vector<Map> &maps, int64_t index) {
  static const Map none;
  return size_t(index) < maps.size() ? maps[size_t(index)] : none;
}

} // namespace

char moerun::formLetter(Form form) { return "RDP"[size_t(form)]; }

Result<Form> moerun::parseForm(const std::string &letter) {
  for (Form form : {Form::Removed, Form::Deferred, Form::Pair}) {
    if (letter == std::string(1, formLetter(form))) {
      return form;
    }
  }
  return error(Code::InvalidArgument, "form \"", letter, "\" must be R, D or P");
}

bool WindowRunner::isPossible(const Window &window) const {
  int64_t attentions = 0, networks = 0;
  double least[2] = {1e300, 1e300}, most[2] = {0, 0};
  auto count = [&](Branch branch, int64_t layer, int64_t &counter) {
    const double eps = model.norm(branch, layer).eps;
    double &low = least[size_t(branch)], &high = most[size_t(branch)];
    low = std::min(low, eps);
    high = std::max(high, eps);
    ++counter;
  };
  for (int64_t l = window.first; l < window.first + window.length; ++l) {
    if (hasAttention(l)) {
      count(Branch::Attention, l, attentions);
    }
    if (model.has(Branch::FFN, l)) {
      count(Branch::FFN, l, networks);
    }
  }
  // eps was measured: equal but for rounding.
  auto differs = [&](Branch branch) {
    return most[size_t(branch)] - least[size_t(branch)] > 1e-3 * most[size_t(branch)] + 1e-10;
  };
  if (networks == 0 || differs(Branch::FFN) ||
      (window.form == Form::Pair && attentions && differs(Branch::Attention))) {
    return false;
  }
  // Something must become of it.
  return networks > 1 || (window.form == Form::Removed && attentions > 0) ||
         (window.form == Form::Pair && attentions > 1);
}

Result<bool> WindowRunner::takesOutputMap(const Window &window) {
  const std::vector<int32_t> one(1, 0);
  model.setTokens(one);
  Stream zero(size_t(model.hidden()), 0.0f), y;
  for (int64_t l = window.first; l < window.first + window.length; ++l) {
    if (model.has(Branch::FFN, l)) {
      MOERT_TRY(model.runBranch(Branch::FFN, l, zero, y));
      if (std::any_of(y.begin(), y.end(), [](float value) { return value != 0; })) {
        return false;
      }
    }
  }
  return true;
}

double WindowRunner::ffnEps(const Window &window) const {
  int64_t layer = window.first + window.length - 1;
  while (!model.has(Branch::FFN, layer)) {
    --layer;
  }
  return model.norm(Branch::FFN, layer).eps;
}

std::vector<float> WindowRunner::sharedScale(const Window &window, Branch branch, int64_t layer) const {
  if (branch == Branch::Attention && window.form == Form::Deferred) {
    return model.norm(branch, layer).scale; // attentions stay where they are
  }
  std::vector<float> scale;
  bool differ = false;
  for (int64_t l = window.first; l < window.first + window.length; ++l) {
    if (branch == Branch::Attention ? hasAttention(l) : model.has(branch, l)) {
      differ |= !scale.empty() && scale != model.norm(branch, l).scale;
      scale = model.norm(branch, l).scale;
    }
  }
  for (float &value : scale) {
    value = differ && std::abs(value) < kScaleFloor ? kScaleFloor : value;
  }
  return scale;
}

void WindowRunner::hide(const std::vector<float> &shared, Stream &normed) const {
  for (size_t channel = 0; channel < shared.size(); ++channel) {
    if (std::abs(shared[channel]) < kScaleFloor) {
      for (size_t i = channel; i < normed.size(); i += shared.size()) {
        normed[i] = 0;
      }
    }
  }
}

std::vector<float> WindowRunner::storedMap(const Window &window, Branch branch, int64_t layer, const Map &map) const {
  const std::vector<float> shared = sharedScale(window, branch, layer), &own = model.norm(branch, layer).scale;
  const size_t width = own.size();
  std::vector<float> stored(map.size());
  for (size_t out = 0; out < width; ++out) {
    for (size_t in = 0; in < width; ++in) {
      const bool seen = std::abs(shared[in]) >= kScaleFloor;
      stored[out * width + in] = seen ? float(double(own[out]) * map[in * width + out] / shared[in]) : 0.0f;
    }
  }
  return stored;
}

std::vector<float> moerun::transposed(const Map &map, int64_t width) {
  std::vector<float> result(map.size());
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j < width; ++j) {
      result[size_t(j * width + i)] = map[size_t(i * width + j)];
    }
  }
  return result;
}

Status WindowRunner::branch(Branch kind, int64_t layer, const Stream &normed, const Map &map,
                            const std::vector<float> &shared, Stream &y) {
  const std::vector<float> &scale = model.norm(kind, layer).scale;
  hidden = normed;
  if (!map.empty()) {
    hide(shared, hidden);
    applyMap(hidden, map, model.hidden(), threads, mapped);
    hidden.swap(mapped);
  }
  for (size_t row = 0; row < hidden.size(); row += scale.size()) {
    for (size_t i = 0; i < scale.size(); ++i) {
      hidden[row + i] *= scale[i];
    }
  }
  return model.runBranch(kind, layer, hidden, y);
}

Status WindowRunner::attend(const Window &window, const std::vector<Map> &maps, const Stream &x, const Visit &visit) {
  Stream z = x, normed, y;
  for (int64_t j = 0; j < window.length; ++j) {
    const int64_t layer = window.first + j;
    if (window.form != Form::Removed && hasAttention(layer)) {
      normalize(window.form == Form::Pair ? x : z, model.hidden(), model.norm(Branch::Attention, layer).eps, normed);
      MOERT_TRY(
          branch(Branch::Attention, layer, normed, mapOf(maps, j), sharedScale(window, Branch::Attention, layer), y));
      addTo(z, y);
    }
    MOERT_TRY(visit(j + 1, z));
  }
  return {};
}

Status WindowRunner::feed(const Window &window, const std::vector<Map> &maps, const Stream &z, Stream &sum) {
  Stream normed, y;
  normalize(z, model.hidden(), ffnEps(window), normed);
  sum.assign(z.size(), 0.0f);
  for (int64_t j = 0; j < window.length; ++j) {
    const int64_t layer = window.first + j;
    if (model.has(Branch::FFN, layer)) {
      MOERT_TRY(branch(Branch::FFN, layer, normed, mapOf(maps, j), sharedScale(window, Branch::FFN, layer), y));
      addTo(sum, y);
    }
  }
  return {};
}

Status WindowRunner::run(const Window &window, const WindowMaps &maps, const Stream &x, Stream &y) {
  return attend(window, maps.attention, x, [&](int64_t length, const Stream &z) -> Status {
    if (length < window.length) {
      return {};
    }
    Stream sum;
    MOERT_TRY(feed(window, maps.ffn, z, sum));
    if (!maps.output.empty()) {
      applyMap(sum, maps.output, model.hidden(), threads, mapped);
      sum.swap(mapped);
    }
    y = z;
    addTo(y, sum);
    return {};
  });
}

Status WindowRunner::finish(int64_t layer, Stream x, std::vector<float> &logits) {
  Stream y;
  for (; layer < model.layers(); ++layer) {
    for (Branch branch : {Branch::Attention, Branch::FFN}) {
      MOERT_TRY(model.run(branch, layer, x, y));
      addTo(x, y);
    }
  }
  return model.head(x, logits);
}
