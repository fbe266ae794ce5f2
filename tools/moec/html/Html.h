//===- Html.h - Pages of numbers that need nothing else ---------*- C++ -*-===//
//
// Reports are single files without outside references and without scripts:
// tables, heat maps and charts are drawn here as HTML and inline SVG, and the
// numbers behind them are embedded as JSON. A value that a picture shows can be
// read where the pointer rests (SVG titles), without a script.
//
// Everything returns markup; texts that are passed in are escaped here, except
// the bodies of `page`, `section` and `fold`, which are markup already. Layout
// only: what the numbers mean is the caller's.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_HTML_HTML_H
#define MOE_TOOLS_MOEC_HTML_HTML_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/JSON.h"
#include <string>
#include <vector>

namespace moec::html {

/// Text between tags or inside quotes of an attribute.
std::string escape(llvm::StringRef text);

/// For people: four significant digits, thousands and more as whole numbers.
std::string number(double value);

/// A whole page. `data`, if any, is embedded as <script type="application/json" id="report">, which no browser runs.
std::string page(llvm::StringRef title, llvm::StringRef body, const llvm::json::Value *data);

/// A part of a page; `text` says what is seen.
std::string section(llvm::StringRef title, llvm::StringRef text, llvm::StringRef body);

/// A part that is folded away until its title is clicked.
std::string fold(llvm::StringRef title, llvm::StringRef body, bool open = false);

/// Pictures side by side, as far as the window is wide.
std::string beside(llvm::ArrayRef<std::string> parts);

/// The sentence that a reader should see first; `good` colours it.
std::string verdict(llvm::StringRef headline, llvm::StringRef reason, bool good);

/// Large figures with a caption each.
struct Tile {
  std::string caption, value, note;
};
std::string tiles(llvm::ArrayRef<Tile> list);

/// First column left, others right aligned.
std::string table(llvm::ArrayRef<std::string> head, llvm::ArrayRef<std::vector<std::string>> rows);

/// Which color a value has: light to dark between `low` and `high`, or (Diverging) blue below, white at and red above
/// the middle of the scale.
struct Scale {
  enum class Palette { Sequential, Diverging };
  double low = 0, high = 1;
  Palette palette = Palette::Sequential;
  /// Position by logarithm; needs low > 0, and smaller values count as `low`.
  bool logarithmic = false;

  /// 0 at `low`, 1 at `high`, never outside.
  double position(double value) const;
};

struct HeatMap {
  std::string title, rowTitle, columnTitle;
  /// Empty: 0, 1, 2, ...
  std::vector<std::string> rowNames, columnNames;
  /// [row][column]; NaN is drawn as nothing.
  std::vector<std::vector<double>> values;
  Scale scale;
  /// Lines before these rows and columns, of a matrix whose rows are its columns.
  std::vector<size_t> cuts;
  /// What a value is, for the legend.
  std::string valueTitle;
  /// Pixels; the height follows from the shape, within limits.
  int width = 520;
};
std::string draw(const HeatMap &map);

/// Points of a chart, in their order.
struct Series {
  std::string name;
  struct Point {
    double x, y;
    std::string label;
  };
  std::vector<Point> points;
  /// Connected, and marked one by one.
  bool line = true, dots = true;
};

/// Curves and points over two numeric axes.
struct Chart {
  std::string title, xTitle, yTitle;
  std::vector<Series> series;
  bool logarithmicY = false;
  /// Whether the y axis starts at 0.
  bool fromZero = true;
  int width = 520, height = 260;
};
std::string draw(const Chart &chart);

/// Bars in groups: one group per category, one bar per series.
struct Bars {
  std::string title, yTitle;
  std::vector<std::string> categories;
  struct Group {
    std::string name;
    std::vector<double> values;
  };
  std::vector<Group> series;
  int width = 520, height = 240;
};
std::string draw(const Bars &bars);

} // namespace moec::html

#endif // MOE_TOOLS_MOEC_HTML_HTML_H
