//===- WindowTable.cpp - What became of every window ----------------------===//
#include "tools/moe-run/calibrate/WindowTable.h"

#include "tools/moe-run/calibrate/Bound.h"

#include <cmath>
#include <limits>
#include <numeric>

using namespace moert;
using namespace moerun;

namespace {
constexpr size_t kNumbers = 10; // of a row, without its domains
}

int64_t JudgedText::tokenCount() const { return std::accumulate(tokens.begin(), tokens.end(), int64_t(0)); }

std::vector<double> JudgedText::perDomain(const std::vector<double> &sums) const {
  std::vector<double> result(size_t(domainCount), 0.0), count(result.size(), 0.0);
  for (size_t s = 0; s < sums.size(); ++s) {
    result[size_t(domains[s])] += sums[s];
    count[size_t(domains[s])] += double(tokens[s]);
  }
  for (size_t d = 0; d < result.size(); ++d) {
    result[d] = count[d] > 0 ? result[d] / count[d] : std::numeric_limits<double>::quiet_NaN();
  }
  return result;
}

WindowRow moerun::summarize(const WindowResult &result, const JudgedText &text) {
  const auto tokens = double(text.tokenCount());
  auto error = [](const WindowScore &score) { return score.added > 0 ? std::sqrt(score.wrong / score.added) : 0; };
  WindowRow row;
  row.window = result.window;
  row.error = error(result.plain);
  row.errorRepaired = error(result.repaired);
  row.kl = result.plain.klSum() / tokens;
  row.klRepaired = result.repaired.klSum() / tokens;
  row.klBound = upperBound95(result.repaired.kl, text.tokens);
  row.sameWinner = result.repaired.sameWinner / tokens;
  row.stages = result.stages;
  row.klDomains = text.perDomain(result.repaired.kl);
  return row;
}

Json moerun::describe(const WindowRow &row) {
  auto number = [](double value) { return std::isfinite(value) ? Json(value) : Json(); };
  return {{"first", row.window.first},
          {"length", row.window.length},
          {"form", std::string(1, formLetter(row.window.form))},
          {"error", row.error},
          {"error_repaired", row.errorRepaired},
          {"kl", row.kl},
          {"kl_repaired", row.klRepaired},
          {"kl_bound", number(row.klBound)},
          {"same_winner", row.sameWinner},
          {"repair", row.stages}};
}

std::vector<double> moerun::pack(const std::vector<WindowRow> &rows) {
  std::vector<double> numbers;
  for (const WindowRow &row : rows) {
    numbers.insert(numbers.end(),
                   {double(row.window.first), double(row.window.length), double(row.window.form), row.error,
                    row.errorRepaired, row.kl, row.klRepaired, row.klBound, row.sameWinner, double(row.stages)});
    numbers.insert(numbers.end(), row.klDomains.begin(), row.klDomains.end());
  }
  return numbers;
}

Result<std::vector<WindowRow>> moerun::unpackRows(const std::vector<double> &values, int64_t domains) {
  const size_t width = kNumbers + size_t(domains);
  if (values.size() % width != 0) {
    return error(Code::Corrupt, values.size(), " numbers are no rows of ", width);
  }
  std::vector<WindowRow> rows;
  for (const double *numbers = values.data(); numbers != values.data() + values.size(); numbers += width) {
    WindowRow row;
    row.window = {int64_t(numbers[0]), int64_t(numbers[1]), Form(int32_t(numbers[2]))};
    row.error = numbers[3];
    row.errorRepaired = numbers[4];
    row.kl = numbers[5];
    row.klRepaired = numbers[6];
    row.klBound = numbers[7];
    row.sameWinner = numbers[8];
    row.stages = int32_t(numbers[9]);
    row.klDomains.assign(numbers + kNumbers, numbers + kNumbers + domains);
    rows.push_back(std::move(row));
  }
  return rows;
}
