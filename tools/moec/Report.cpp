//===- Report.cpp - moec report: the JSON of a report as a page -------------===//
//
// The file is somebody's: a report of placement is checked before it is drawn,
// because its page expects every key that `moec place` writes; the page of a
// fusion report takes what is there.
//
//===----------------------------------------------------------------------===//

#include "tools/moec/Report.h"
#include "passes/Json/JsonFile.h"
#include "tools/moec/Console.h"
#include "tools/moec/OutputFile.h"
#include "tools/moec/place/PlaceReport.h"
#include <cmath>

using namespace moec;
using llvm::Error;
using llvm::StringRef;
using llvm::Twine;
using mlir::moe::makeError;
namespace json = llvm::json;

static constexpr StringRef kFusionFormat = "moe-fusion-report";

Error moec::writeFusionReport(const json::Object &report, StringRef path) {
  if (report.getString("format") != kFusionFormat || report.getInteger("version") != 1) {
    const json::Value *version = report.get("version");
    return makeError(path + ": not written: the report is '" + report.getString("format").value_or("no string") +
                     "' version " + (version ? mlir::moe::describe(*version) : "missing") + ", but must be '" +
                     kFusionFormat + "' version 1");
  }
  return writeOutput(path, renderFusion(report));
}

namespace {

/// Checks that a report of `moec place` has what its page reads.
class PlacementChecker {
public:
  explicit PlacementChecker(const json::Object &report) : report(report) {}

  Error check() {
    ranks = count("ranks");
    slots = count("slots");
    experts = count("experts");
    count("nodes");
    object("balancedness");
    const json::Array *layers = list("layers");
    const size_t size = layers ? layers->size() : 0;
    for (size_t i = 0; i < size; ++i) {
      expect((*layers)[i].getAsObject() != nullptr, "layers", "an array of objects");
    }
    for (StringRef key : {"expert_loads", "rank_loads_before", "rank_loads_after"}) {
      table(report.getArray(key), key);
    }
    list("profiles");
    indices("placement", size, experts, 0);
    indices("pairs", size, experts, 3);
    for (StringRef key : {"rank_traffic_before", "rank_traffic_after"}) {
      const json::Array *flat = list(key);
      expect(flat && static_cast<int64_t>(flat->size()) == ranks * ranks, key, "an array of ranks * ranks numbers");
    }
    if (const json::Array *windows = list("windows")) {
      for (const json::Value &value : *windows) {
        const json::Object *window = value.getAsObject();
        expect(window && window->getArray("balancedness_before") && window->getArray("balancedness_after"), "windows",
               "an array of objects with the balancedness in every window");
        table(window ? window->getArray("distances") : nullptr, "windows");
      }
    }
    return problem.empty() ? Error::success() : makeError(problem);
  }

private:
  void expect(bool holds, StringRef key, const Twine &what) {
    if (!holds && problem.empty()) {
      problem = ("'" + key + "' must be " + what + "; is this what 'moec place --json' printed, whole?").str();
    }
  }
  const json::Object *object(StringRef key) {
    const json::Object *value = report.getObject(key);
    expect(value != nullptr, key, "an object");
    return value;
  }
  const json::Array *list(StringRef key) {
    const json::Array *value = report.getArray(key);
    expect(value != nullptr, key, "an array");
    return value;
  }
  int64_t count(StringRef key) {
    const int64_t value = report.getInteger(key).value_or(0);
    expect(value >= 1 && value <= 1 << 20, key, "an integer from 1 to 2^20");
    return value >= 1 && value <= 1 << 20 ? value : 1;
  }
  void table(const json::Array *rows, StringRef key) {
    expect(rows != nullptr, key, "an array of rows");
    for (size_t i = 0; rows && i < rows->size(); ++i) {
      expect((*rows)[i].getAsArray() != nullptr, key, "an array of rows");
    }
  }
  /// One row for each of `layers`: numbers below `limit`, or, with `tuple`, arrays of so many of which the first two
  /// are.
  void indices(StringRef key, size_t layers, int64_t limit, size_t tuple) {
    const json::Array *rows = list(key);
    // `pairs` may be left out for many experts.
    expect(rows && (rows->size() == layers || (tuple != 0 && rows->empty())), key,
           "an array with a row for each layer");
    auto isIndex = [&](const json::Value &value) {
      const int64_t index = value.getAsInteger().value_or(-1);
      return index >= 0 && index < limit;
    };
    for (size_t i = 0; rows && i < rows->size(); ++i) {
      const json::Array *row = (*rows)[i].getAsArray();
      expect(row != nullptr, key, "an array of rows");
      for (size_t at = 0; row && at < row->size(); ++at) {
        const json::Value &value = (*row)[at];
        const json::Array *parts = value.getAsArray();
        expect(tuple == 0 ? isIndex(value)
                          : parts && parts->size() == tuple && isIndex((*parts)[0]) && isIndex((*parts)[1]),
               key, "rows of experts' numbers below " + Twine(limit));
      }
      if (tuple == 0 && row) {
        std::vector<bool> seen(static_cast<size_t>(limit));
        for (const json::Value &value : *row) {
          if (isIndex(value)) {
            seen[static_cast<size_t>(*value.getAsInteger())] = true;
          }
        }
        expect(!llvm::is_contained(seen, false) && slots % ranks == 0, key, "rows that name every expert");
      }
    }
  }

  const json::Object &report;
  int64_t ranks = 1, slots = 1, experts = 1;
  std::string problem;
};

} // namespace

ExitCode moec::runReport(const ReportCommand &command) {
  llvm::Expected<json::Value> value = mlir::moe::readJsonFile(command.input);
  if (!value) {
    return fail(value.takeError());
  }
  const json::Object *report = value->getAsObject();
  const bool isFusion = report && report->getString("format") == kFusionFormat;
  const bool isPlacement = report && !isFusion && report->get("balancedness") && report->get("placement");
  if (!isFusion && !isPlacement) {
    const json::Value *format = report ? report->get("format") : nullptr;
    return fail(makeError(command.input + ": is no report that can be drawn" +
                          (format ? " ('format' is " + mlir::moe::describe(*format) + ")" : std::string()) +
                          "; give the report of 'moec fuse' or what 'moec place --json' printed"));
  }
  if (isFusion) {
    if (Error error = writeFusionReport(*report, command.output)) {
      return fail(std::move(error));
    }
  } else {
    if (Error error = PlacementChecker(*report).check()) {
      return fail(makeError(command.input + ": " + llvm::toString(std::move(error))));
    }
    if (Error error = writeOutput(command.output, renderPlan(*report))) {
      return fail(std::move(error));
    }
  }
  if (command.output == "-") {
    return kSuccess;
  }
  const StringRef kind = isFusion ? "fusion" : "placement";
  if (command.json) {
    printJson(json::Object{{"input", command.input},
                           {"output", command.output},
                           {"kind", kind},
                           {"verdict", report->getString("verdict").value_or("")}});
  } else {
    llvm::outs() << command.output << ": the " << kind << " report " << command.input << " as a page\n";
  }
  return kSuccess;
}
