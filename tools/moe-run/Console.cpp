//===- Console.cpp - What moe-run prints ----------------------------------===//
//
// Progress is throttled: on a terminal ten times a second, elsewhere one line
// for a stage that has lasted two seconds.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Console.h"

#include <cstdio>
#include <unistd.h>

using namespace moerun;

bool moerun::printOut(const std::string &text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
}

void moerun::printNote(const std::string &line) { std::fprintf(stderr, "%s\n", line.c_str()); }

bool moerun::printJson(const Json &json) {
  return printOut(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string moerun::table(const std::vector<std::vector<std::string>> &rows) {
  std::vector<size_t> widths;
  for (const auto &row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (const auto &row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      std::string padding(widths[i] - row[i].size(), ' ');
      line += i == 0 ? row[i] + padding : "  " + padding + row[i];
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string moerun::fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string moerun::bytesText(double bytes) {
  const char *units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) {
    bytes /= 1024;
  }
  return fixed(bytes, unit == 0 ? 0 : 1) + " " + units[unit];
}

Progress::Progress(bool quiet) : quiet(quiet), terminal(::isatty(STDERR_FILENO) == 1) {}

void Progress::update(const std::string &name, uint64_t done, uint64_t total) {
  auto time = std::chrono::steady_clock::now();
  if (quiet) {
    return;
  }
  if (name != stage) {
    stage = name;
    stageStart = time;
    said = false;
  }
  std::string percent = total == 0 ? "" : " " + std::to_string(100 * std::min(done, total) / total) + " %";
  if (terminal && time - last > std::chrono::milliseconds(100)) {
    std::fprintf(stderr, "\r\033[K%s%s", stage.c_str(), percent.c_str());
    std::fflush(stderr);
    last = time;
    shown = true;
  } else if (!terminal && !said && time - stageStart > std::chrono::seconds(2)) {
    std::fprintf(stderr, "moe-run: %s%s\n", stage.c_str(), percent.c_str());
    said = true;
  }
}

void Progress::finish() {
  if (shown) {
    std::fprintf(stderr, "\r\033[K");
    std::fflush(stderr);
    shown = false;
  }
}
