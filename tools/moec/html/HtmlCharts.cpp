//===- HtmlCharts.cpp - Curves, points and bars as SVG ----------------------===//

#include "tools/moec/html/Html.h"
#include "llvm/Support/FormatVariadic.h"
#include <algorithm>
#include <cmath>

using namespace moec;
using namespace moec::html;
using llvm::formatv;
using llvm::StringRef;

/// Apart for color-blind readers too, in this order.
static constexpr const char *kColors[] = {"#24507f", "#d9772b", "#2f8f6b", "#9c3d73", "#7a7f87", "#b8a11c"};

static const char *colorOf(size_t index) { return kColors[index % std::size(kColors)]; }

namespace {

/// One axis: which values it shows, and where.
struct Axis {
  double low = 0, high = 1;
  bool logarithmic = false;
  std::vector<double> marks;

  double position(double value) const {
    return logarithmic ? (std::log10(std::max(value, low)) - std::log10(low)) / (std::log10(high) - std::log10(low))
                       : (value - low) / (high - low);
  }
};

/// An axis around the values with marks at round numbers.
Axis makeAxis(std::vector<double> values, bool logarithmic, bool fromZero, int mostMarks) {
  values.erase(std::remove_if(values.begin(), values.end(),
                              [&](double value) { return !std::isfinite(value) || (logarithmic && value <= 0); }),
               values.end());
  Axis axis;
  axis.logarithmic = logarithmic;
  double low = values.empty() ? (logarithmic ? 0.1 : 0) : *std::min_element(values.begin(), values.end());
  double high = values.empty() ? 1 : *std::max_element(values.begin(), values.end());
  if (logarithmic) {
    const double from = std::floor(std::log10(low));
    const double to = std::max(from + 1, std::ceil(std::log10(high)));
    axis.low = std::pow(10, from);
    axis.high = std::pow(10, to);
    const double step = std::max(1.0, std::ceil((to - from) / mostMarks));
    for (double exponent = from; exponent <= to; exponent += step) {
      axis.marks.push_back(std::pow(10, exponent));
    }
    return axis;
  }
  if (fromZero) {
    low = std::min(low, 0.0);
    high = std::max(high, 0.0);
  }
  if (high <= low) {
    high = low + 1;
  }
  const double rough = (high - low) / mostMarks, power = std::pow(10, std::floor(std::log10(rough)));
  double step = power * 10;
  for (double factor : {1.0, 2.0, 5.0}) {
    if (power * factor >= rough) {
      step = power * factor;
      break;
    }
  }
  // Numbers of layers and the like have nothing between them.
  if (std::all_of(values.begin(), values.end(), [](double value) { return value == std::floor(value); })) {
    step = std::max(step, 1.0);
  }
  axis.low = std::floor(low / step) * step;
  axis.high = std::ceil(high / step) * step;
  for (int i = 0; axis.low + i * step <= axis.high + step / 2; ++i) {
    axis.marks.push_back(axis.low + i * step);
  }
  return axis;
}

/// The area that is drawn in, with a frame of titles around it.
struct Plot {
  int width, height;
  Axis x, y;
  int left = 62, right = 14, top = 10, bottom = 40;

  double atX(double value) const { return left + x.position(value) * (width - left - right); }
  double atY(double value) const { return height - bottom - y.position(value) * (height - top - bottom); }
  /// The y axis with its lines, and both titles.
  std::string frame(StringRef xTitle, StringRef yTitle) const {
    std::string out;
    for (double mark : y.marks) {
      out += formatv("<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:F1}\" y2=\"{2:F1}\" stroke=\"#d9dee5\"/><text x=\"{3}\" "
                     "y=\"{4:F1}\" text-anchor=\"end\">{5}</text>",
                     left, width - right, atY(mark), left - 6, atY(mark) + 4, number(mark))
                 .str();
    }
    out +=
        formatv("<text x=\"{0}\" y=\"{1}\" text-anchor=\"end\">{2}</text>", width - right, height - 8, escape(xTitle))
            .str();
    return out +
           formatv("<text x=\"11\" y=\"{0}\" text-anchor=\"middle\" transform=\"rotate(-90 11 {0})\">{1}</text>\n",
                   (height - bottom + top) / 2, escape(yTitle))
               .str();
  }
};

std::string open(StringRef title, int width, int height) {
  return formatv("<figure>{0}<svg width=\"{1}\" height=\"{2}\" role=\"img\" aria-label=\"{3}\">\n",
                 title.empty() ? std::string() : "<figcaption>" + escape(title) + "</figcaption>", width, height,
                 escape(title));
}

/// Names of series with their colors, below the drawing.
std::string close(const std::vector<std::string> &names) {
  std::string out = "</svg>";
  if (names.size() > 1) {
    out += "<div>";
    for (size_t i = 0; i < names.size(); ++i) {
      out += formatv("<span style=\"color:{0}\">&#9632;</span> {1} &nbsp; ", colorOf(i), escape(names[i])).str();
    }
    out += "</div>";
  }
  return out + "</figure>\n";
}

} // namespace

std::string html::draw(const Chart &chart) {
  std::vector<double> xs, ys;
  std::vector<std::string> names;
  for (const Series &series : chart.series) {
    names.push_back(series.name);
    for (const Series::Point &point : series.points) {
      xs.push_back(point.x);
      ys.push_back(point.y);
    }
  }
  const Plot plot{chart.width, chart.height, makeAxis(xs, false, false, 8),
                  makeAxis(ys, chart.logarithmicY, chart.fromZero, 5)};
  std::string out = open(chart.title, chart.width, chart.height) + plot.frame(chart.xTitle, chart.yTitle);
  for (double mark : plot.x.marks) {
    out += formatv("<text x=\"{0:F1}\" y=\"{1}\" text-anchor=\"middle\">{2}</text>", plot.atX(mark),
                   chart.height - plot.bottom + 15, number(mark))
               .str();
  }
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series &series = chart.series[i];
    std::string path, dots;
    for (const Series::Point &point : series.points) {
      const bool shown = std::isfinite(point.y) && (!chart.logarithmicY || point.y > 0);
      if (!shown) {
        continue;
      }
      path += formatv("{0:F1},{1:F1} ", plot.atX(point.x), plot.atY(point.y)).str();
      const std::string label = point.label.empty() ? series.name + ": " + number(point.x) : point.label;
      dots += formatv("<circle cx=\"{0:F1}\" cy=\"{1:F1}\" r=\"{2}\" fill=\"{3}\"><title>{4}: {5}</title></circle>",
                      plot.atX(point.x), plot.atY(point.y), series.line ? 2.5 : 4.5, colorOf(i), escape(label),
                      number(point.y))
                  .str();
    }
    if (series.line) {
      out += formatv("<polyline points=\"{0}\" fill=\"none\" stroke=\"{1}\" stroke-width=\"1.6\"/>", path, colorOf(i))
                 .str();
    }
    out += (series.dots ? dots : "") + "\n";
  }
  return out + close(names);
}

std::string html::draw(const Bars &bars) {
  std::vector<double> values;
  std::vector<std::string> names;
  for (const Bars::Group &series : bars.series) {
    names.push_back(series.name);
    values.insert(values.end(), series.values.begin(), series.values.end());
  }
  const auto count = static_cast<double>(std::max<size_t>(1, bars.categories.size()));
  const Plot plot{bars.width, bars.height, Axis{0, count, false, {}}, makeAxis(values, false, true, 5)};
  std::string out = open(bars.title, bars.width, bars.height) + plot.frame("", bars.yTitle);
  const double group = (plot.atX(count) - plot.atX(0)) / count;
  const double bar = group * 0.8 / static_cast<double>(std::max<size_t>(1, bars.series.size()));
  for (size_t c = 0; c < bars.categories.size(); ++c) {
    const double start = plot.atX(static_cast<double>(c)) + group * 0.1;
    for (size_t i = 0; i < bars.series.size(); ++i) {
      if (c >= bars.series[i].values.size() || !std::isfinite(bars.series[i].values[c])) {
        continue;
      }
      const double value = bars.series[i].values[c], from = plot.atY(std::max(value, 0.0));
      out += formatv("<rect x=\"{0:F1}\" y=\"{1:F1}\" width=\"{2:F1}\" height=\"{3:F1}\" fill=\"{4}\"><title>{5}, {6}: "
                     "{7}</title></rect>",
                     start + bar * static_cast<double>(i), from, std::max(1.0, bar - 1),
                     plot.atY(std::min(value, 0.0)) - from, colorOf(i), escape(bars.categories[c]), escape(names[i]),
                     number(value))
                 .str();
    }
    // Letters are 7 pixels wide at most on average; what has no room is read where the pointer rests.
    const StringRef name = bars.categories[c];
    const auto room = static_cast<size_t>(std::max(2.0, group / 7));
    out += formatv("<text x=\"{0:F1}\" y=\"{1}\" text-anchor=\"middle\"><title>{2}</title>{3}</text>\n",
                   start + group * 0.4, bars.height - plot.bottom + 15, escape(name),
                   escape(name.size() <= room ? name.str() : name.take_front(room - 1).str() + "..."))
               .str();
  }
  return out + close(names);
}
