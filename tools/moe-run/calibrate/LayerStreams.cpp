//===- LayerStreams.cpp - The stream of many sequences at a few layers ----===//
#include "tools/moe-run/calibrate/LayerStreams.h"

#include <algorithm>

using namespace moert;
using namespace moerun;

void moerun::addTo(Stream &y, const Stream &x) {
  std::transform(y.begin(), y.end(), x.begin(), y.begin(), [](float a, float b) { return a + b; });
}

int64_t LayerStreams::tokens() const {
  int64_t total = 0;
  for (const std::vector<int32_t> &ids : sequences) {
    total += int64_t(ids.size());
  }
  return total;
}

Status LayerStreams::addLayer() {
  const int64_t layer = base + int64_t(between.size());
  std::vector<Stream> inside(count()), behind(count());
  Stream y;
  for (size_t s = 0; s < count(); ++s) {
    select(s);
    inside[s] = entering.back()[s];
    MOERT_TRY(model.run(Branch::Attention, layer, inside[s], y));
    addTo(inside[s], y);
    MOERT_TRY(model.run(Branch::FFN, layer, inside[s], y));
    behind[s] = inside[s];
    addTo(behind[s], y);
  }
  between.push_back(std::move(inside));
  entering.push_back(std::move(behind));
  return {};
}

Status LayerStreams::moveTo(int64_t first, int64_t last) {
  if (entering.empty()) {
    entering.emplace_back(count());
    for (size_t s = 0; s < count(); ++s) {
      select(s);
      MOERT_TRY(model.embed(entering.back()[s]));
    }
  }
  auto forget = [&] {
    while (base < first && !between.empty()) {
      entering.pop_front();
      between.pop_front();
      ++base;
    }
  };
  forget();
  while (base + int64_t(between.size()) <= last) {
    MOERT_TRY(addLayer());
    forget();
  }
  return {};
}
