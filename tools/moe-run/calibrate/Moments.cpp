//===- Moments.cpp - Sums over tokens, and the maps they give -------------===//
#include "tools/moe-run/calibrate/Moments.h"

#include "tools/moe-run/calibrate/Dense.h"

#include <algorithm>
#include <thread>

using namespace moerun;

void moerun::inParts(int64_t count, int threads, const std::function<void(int64_t, int64_t)> &part) {
  const int64_t parts = (count + kPart - 1) / kPart;
  const int64_t workers = std::max<int64_t>(1, std::min<int64_t>(threads, parts));
  auto work = [&](int64_t worker) {
    for (int64_t i = parts * worker / workers; i < parts * (worker + 1) / workers; ++i) {
      part(i * kPart, std::min(count, (i + 1) * kPart));
    }
  };
  std::vector<std::thread> others;
  for (int64_t worker = 1; worker < workers; ++worker) {
    others.emplace_back(work, worker);
  }
  work(0);
  for (std::thread &other : others) {
    other.join();
  }
}

void moerun::applyMap(const std::vector<float> &x, const Map &m, int64_t width, int threads, std::vector<float> &y) {
  y.resize(x.size());
  inParts(int64_t(x.size()) / width, threads,
          [&](int64_t begin, int64_t end) { multiplyRows(x.data(), m.data(), begin, end, width, y.data()); });
}

Moments::Moments(int64_t width, size_t targets, int threads)
    : width(width), threads(threads), gram(size_t(width * width), 0.0), crosses(targets) {}

void Moments::add(const std::vector<float> &input, const std::vector<const std::vector<float> *> &targets) {
  const int64_t tokens = int64_t(input.size()) / width;
  inParts(width, threads, [&](int64_t begin, int64_t end) {
    addProducts(input.data(), input.data(), tokens, width, begin, end, gram.data());
  });
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!targets[i]) {
      continue;
    }
    crosses[i].resize(gram.size(), 0.0);
    inParts(width, threads, [&](int64_t begin, int64_t end) {
      addProducts(input.data(), targets[i]->data(), tokens, width, begin, end, crosses[i].data());
    });
  }
}

std::vector<Map> Moments::solve(double ridge) {
  std::vector<Map> maps(crosses.size());
  std::vector<const double *> sides;
  std::vector<float *> results;
  for (size_t i = 0; i < crosses.size(); ++i) {
    if (!crosses[i].empty()) {
      maps[i].resize(gram.size());
      sides.push_back(crosses[i].data());
      results.push_back(maps[i].data());
    }
  }
  if (!solveRidge(gram.data(), sides.data(), int64_t(sides.size()), width, ridge, results.data())) {
    maps.assign(crosses.size(), Map());
  }
  gram = {};
  crosses.clear();
  return maps;
}
