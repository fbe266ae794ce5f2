//===- Console.h - What moe-run prints --------------------------*- C++ -*-===//
//
// Results on stdout: text for people, or one JSON object with --json. Notes and
// progress on stderr: a line that is rewritten on a terminal, plain lines for
// stages that take long elsewhere, nothing with --quiet.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CONSOLE_H
#define MOE_TOOLS_MOERUN_CONSOLE_H

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moerun {

using Json = nlohmann::ordered_json;

/// Writes `text` to stdout now. False when nobody reads it any more.
bool printOut(const std::string &text);
/// Writes a line to stderr, after clearing a line of progress.
void printNote(const std::string &line);
/// One object on one line; text that is no UTF-8 is replaced.
bool printJson(const Json &json);

/// Columns of text, the first aligned left and the others right.
std::string table(const std::vector<std::vector<std::string>> &rows);
/// With this many digits after the point.
std::string fixed(double value, int digits);
/// "1.5 GiB".
std::string bytesText(double bytes);

/// Shows how far a long stage is.
class Progress {
public:
  explicit Progress(bool quiet);
  ~Progress() { finish(); }
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;
  void update(const std::string &stage, uint64_t done, uint64_t total);
  /// Clears the line.
  void finish();

private:
  bool quiet, terminal, shown = false, said = false;
  std::string stage;
  std::chrono::steady_clock::time_point stageStart, last;
};

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CONSOLE_H
