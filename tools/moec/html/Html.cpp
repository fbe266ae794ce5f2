//===- Html.cpp - Pages of numbers that need nothing else -------------------===//
//
// Tables, tiles and heat maps; charts are in HtmlCharts.cpp. A heat map of few cells is drawn as rectangles, each with
// its value as title; one of many cells as a PNG inside the page (a palette and stored blocks, so no compressor is
// needed), with titles for whole rows.
//
//===----------------------------------------------------------------------===//

#include "tools/moec/html/Html.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Base64.h"
#include "llvm/Support/CRC.h"
#include "llvm/Support/FormatVariadic.h"
#include <algorithm>
#include <cmath>

using namespace moec;
using namespace moec::html;
using llvm::formatv;
using llvm::StringRef;

/// Cells up to here are rectangles of their own.
static constexpr size_t kMostRectangles = 6000;

static const char *const kStyle = R"css(
:root { color-scheme: light; --ink: #1b2330; --soft: #5b6675; --line: #d9dee5; --back: #f5f7f9; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); background: var(--back);
  margin: 0 auto; padding: 1.5rem; max-width: 76rem; }
h1 { font-size: 1.5rem; margin: .2rem 0 1rem; } h2 { font-size: 1.1rem; margin: 0; }
section, .verdict { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.2rem; margin: 0 0 1rem; }
section > p { margin: .2rem 0 .8rem; color: var(--soft); max-width: 70rem; }
.verdict { border-left: 6px solid #9a6b15; } .verdict.good { border-left-color: #1f7a4d; }
.verdict b { font-size: 1.15rem; } .verdict p { margin: .2rem 0 0; color: var(--soft); }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0 0 1rem; }
.tiles > div { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .6rem 1rem; min-width: 7rem; }
.tiles span { display: block; color: var(--soft); font-size: .82rem; } .tiles b { font-size: 1.35rem; font-weight: 600; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 2rem; } figure { margin: 0; overflow-x: auto; }
figcaption { font-weight: 600; font-size: .9rem; margin: 0 0 .2rem; }
svg { display: block; font: 11px system-ui, sans-serif; fill: var(--soft); }
svg image { image-rendering: pixelated; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
td, th { padding: .12rem .8rem .12rem 0; text-align: right; } td:first-child, th:first-child { text-align: left; }
tbody tr:hover { background: var(--back); }
details { margin: .5rem 0; } summary { cursor: pointer; color: #24507f; }
footer { color: var(--soft); font-size: .85rem; }
)css";

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

std::string html::escape(StringRef text) {
  std::string out;
  for (char c : text) {
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '"':
      out += "&quot;";
      break;
    case '\'':
      out += "&#39;";
      break;
    default:
      out += c;
    }
  }
  return out;
}

std::string html::number(double value) {
  if (!std::isfinite(value)) {
    return "-";
  }
  if (value == 0) {
    return "0";
  }
  const double size = std::abs(value);
  if (size >= 1000 && size < 1e15) {
    const bool negative = value < 0;
    std::string digits = std::to_string(static_cast<int64_t>(std::llround(size)));
    for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) {
      digits.insert(at, " ");
    }
    return (negative ? "-" : "") + digits;
  }
  char text[40];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

std::string html::page(StringRef title, StringRef body, const llvm::json::Value *data) {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
                    escape(title) + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n<h1>" + escape(title) +
                    "</h1>\n" + body.str();
  if (data) {
    out += "<footer>Made by moe-opt. The numbers of this page are in it as JSON (element \"report\").</footer>\n"
           "<script type=\"application/json\" id=\"report\">";
    // A name must not end the element that holds it.
    for (char c : formatv("{0}", *data).str()) {
      out += c == '<' ? std::string("\\u003c") : std::string(1, c);
    }
    out += "</script>\n";
  }
  return out + "</body>\n</html>\n";
}

std::string html::section(StringRef title, StringRef text, StringRef body) {
  return formatv("<section>\n<h2>{0}</h2>\n<p>{1}</p>\n{2}</section>\n", escape(title), escape(text), body);
}

std::string html::fold(StringRef title, StringRef body, bool open) {
  return formatv("<details{0}><summary>{1}</summary>\n{2}</details>\n", open ? " open" : "", escape(title), body);
}

std::string html::beside(llvm::ArrayRef<std::string> parts) {
  return "<div class=\"beside\">\n" + llvm::join(parts, "") + "</div>\n";
}

std::string html::verdict(StringRef headline, StringRef reason, bool good) {
  return formatv("<div class=\"verdict{0}\"><b>{1}</b><p>{2}</p></div>\n", good ? " good" : "", escape(headline),
                 escape(reason));
}

std::string html::tiles(llvm::ArrayRef<Tile> list) {
  std::string out = "<div class=\"tiles\">\n";
  for (const Tile &tile : list) {
    out += formatv("<div><span>{0}</span><b>{1}</b><span>{2}</span></div>\n", escape(tile.caption), escape(tile.value),
                   escape(tile.note))
               .str();
  }
  return out + "</div>\n";
}

std::string html::table(llvm::ArrayRef<std::string> head, llvm::ArrayRef<std::vector<std::string>> rows) {
  std::string out = "<table>\n<thead><tr>";
  for (const std::string &cell : head) {
    out += "<th>" + escape(cell) + "</th>";
  }
  out += "</tr></thead>\n<tbody>\n";
  for (const std::vector<std::string> &row : rows) {
    out += "<tr>";
    for (const std::string &cell : row) {
      out += "<td>" + escape(cell) + "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table>\n";
}

//===----------------------------------------------------------------------===//
// Colors
//===----------------------------------------------------------------------===//

namespace {

struct Color {
  uint8_t red, green, blue;
  std::string text() const {
    return formatv("#{0:x-2}{1:x-2}{2:x-2}", static_cast<unsigned>(red), static_cast<unsigned>(green),
                   static_cast<unsigned>(blue));
  }
};

/// Stops at equal distances; lightness falls steadily, so that the order survives a grey print.
constexpr Color kSequential[] = {{250, 250, 246}, {204, 227, 222}, {133, 188, 205},
                                 {65, 136, 181},  {38, 84, 146},   {25, 35, 90}};
constexpr Color kDiverging[] = {{33, 77, 140},   {110, 163, 205}, {200, 221, 235}, {250, 250, 248},
                                {247, 206, 178}, {221, 122, 86},  {150, 28, 38}};

template <size_t N> Color mix(const Color (&stops)[N], double position) {
  const double at = position * (N - 1);
  const size_t first = std::min<size_t>(N - 2, static_cast<size_t>(at));
  const double part = at - static_cast<double>(first);
  auto between = [&](uint8_t a, uint8_t b) { return static_cast<uint8_t>(std::lround(a + (b - a) * part)); };
  const Color &a = stops[first], &b = stops[first + 1];
  return {between(a.red, b.red), between(a.green, b.green), between(a.blue, b.blue)};
}

Color colorAt(const Scale &scale, double position) {
  return scale.palette == Scale::Palette::Diverging ? mix(kDiverging, position) : mix(kSequential, position);
}

} // namespace

double Scale::position(double value) const {
  double from = low, to = high, at = value;
  if (logarithmic) {
    from = std::log(low);
    to = std::log(high);
    at = std::log(std::max(value, low));
  }
  return to > from ? std::clamp((at - from) / (to - from), 0.0, 1.0) : 0;
}

//===----------------------------------------------------------------------===//
// Heat maps
//===----------------------------------------------------------------------===//

namespace {

/// A PNG of palette indices (255 is transparent), as base64.
std::string encodeImage(llvm::ArrayRef<std::vector<double>> values, const Scale &scale) {
  std::string out("\x89PNG\r\n\x1a\n", 8);
  auto big = [](uint32_t value) {
    return std::string{static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
                       static_cast<char>(value)};
  };
  auto chunk = [&](StringRef type, StringRef bytes) {
    const std::string body = (type + bytes).str();
    out += big(static_cast<uint32_t>(bytes.size())) + body +
           big(llvm::crc32(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(body.data()), body.size())));
  };
  const size_t width = values.front().size();
  chunk("IHDR", big(static_cast<uint32_t>(width)) + big(static_cast<uint32_t>(values.size())) +
                    std::string("\x08\x03\0\0\0", 5));
  std::string palette, alpha(256, '\xff');
  for (int i = 0; i < 256; ++i) {
    const Color color = colorAt(scale, std::min(i, 254) / 254.0);
    palette += {static_cast<char>(color.red), static_cast<char>(color.green), static_cast<char>(color.blue)};
  }
  alpha[255] = 0;
  chunk("PLTE", palette);
  chunk("tRNS", alpha);
  std::string pixels;
  for (const std::vector<double> &row : values) {
    pixels += '\0'; // No filter.
    for (double value : row) {
      pixels += static_cast<char>(std::isnan(value) ? 255 : std::lround(scale.position(value) * 254));
    }
  }
  std::string stream("\x78\x01", 2);
  uint32_t a = 1, b = 0;
  for (size_t at = 0; at < pixels.size(); at += 0xffff) {
    const StringRef block = StringRef(pixels).substr(at, 0xffff);
    const auto size = static_cast<uint16_t>(block.size());
    stream += at + block.size() == pixels.size() ? '\1' : '\0';
    for (uint16_t value : {size, static_cast<uint16_t>(~size)}) {
      stream += static_cast<char>(value & 0xff);
      stream += static_cast<char>(value >> 8);
    }
    stream += block;
  }
  for (char c : pixels) {
    a = (a + static_cast<uint8_t>(c)) % 65521;
    b = (b + a) % 65521;
  }
  chunk("IDAT", stream + big(b << 16 | a));
  chunk("IEND", "");
  return llvm::encodeBase64(out);
}

std::string nameOf(const std::vector<std::string> &names, size_t index) {
  return index < names.size() ? names[index] : std::to_string(index);
}

/// Two digits are enough at the ends of a scale.
std::string shortNumber(double value) {
  const double step = value == 0 ? 1 : std::pow(10, std::floor(std::log10(std::abs(value))) - 1);
  return number(std::round(value / step) * step);
}

/// Pixels of a legend's bar.
constexpr int kLegendBar = 190;

/// Pixels of a legend with its text, whose letters are 7 wide at most on average.
int legendWidth(const HeatMap &map) { return kLegendBar + 12 + 7 * static_cast<int>(map.valueTitle.size()); }

/// A bar of the scale's colors with its ends and its middle.
std::string drawLegend(const HeatMap &map, int x, int y) {
  constexpr int length = kLegendBar, steps = 38;
  std::string out;
  for (int i = 0; i < steps; ++i) {
    out += formatv("<rect x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"8\" fill=\"{3}\"/>", x + i * length / steps, y,
                   length / steps + 1, colorAt(map.scale, i / (steps - 1.0)).text())
               .str();
  }
  const Scale &scale = map.scale;
  const double middle = scale.logarithmic ? std::sqrt(scale.low * scale.high) : (scale.low + scale.high) / 2;
  const struct {
    double value;
    int x;
    const char *anchor;
  } marks[] = {{scale.low, x, "start"}, {middle, x + length / 2, "middle"}, {scale.high, x + length, "end"}};
  for (const auto &mark : marks) {
    out += formatv("<text x=\"{0}\" y=\"{1}\" text-anchor=\"{2}\">{3}</text>", mark.x, y + 20, mark.anchor,
                   shortNumber(mark.value))
               .str();
  }
  return out + formatv("<text x=\"{0}\" y=\"{1}\">{2}</text>\n", x + length + 12, y + 9, escape(map.valueTitle)).str();
}

/// Names along one axis, as many as there is room for.
std::string drawNames(const std::vector<std::string> &names, size_t count, double cell, bool down, int left, int top) {
  std::string out;
  size_t longest = 1;
  for (size_t i = 0; i < count; ++i) {
    longest = std::max(longest, nameOf(names, i).size());
  }
  const double room = down ? 13 : 7.0 * static_cast<double>(longest) + 4;
  // Every one, second, fifth, tenth and so on: what people count in.
  const double least = std::max(1.0, room / cell), power = std::pow(10, std::floor(std::log10(least)));
  size_t every = static_cast<size_t>(10 * power);
  for (const double step : {5.0, 2.0, 1.0}) {
    every = step * power >= least ? static_cast<size_t>(step * power) : every;
  }
  for (size_t i = 0; i < count; i += every) {
    const double middle = (static_cast<double>(i) + 0.5) * cell;
    out += down ? formatv("<text x=\"{0}\" y=\"{1:F1}\" text-anchor=\"end\">{2}</text>", left - 5, top + middle + 4,
                          escape(nameOf(names, i)))
                      .str()
                : formatv("<text x=\"{0:F1}\" y=\"{1}\" text-anchor=\"middle\">{2}</text>", left + middle, top,
                          escape(nameOf(names, i)))
                      .str();
  }
  return out + "\n";
}

} // namespace

std::string html::draw(const HeatMap &map) {
  if (map.values.empty() || map.values.front().empty()) {
    return "";
  }
  const size_t rows = map.values.size(), columns = map.values.front().size();
  size_t longest = 1;
  for (size_t i = 0; i < rows; ++i) {
    longest = std::max(longest, nameOf(map.rowNames, i).size());
  }
  const int left = 26 + 7 * static_cast<int>(longest), top = 6;
  const double cellX = static_cast<double>(map.width) / static_cast<double>(columns);
  const double cellY = std::clamp(cellX, std::min(6.0, 900.0 / static_cast<double>(rows)), 22.0);
  const int width = map.width, height = static_cast<int>(std::ceil(cellY * static_cast<double>(rows)));
  std::string out = "<figure>";
  if (!map.title.empty()) {
    out += "<figcaption>" + escape(map.title) + "</figcaption>";
  }
  out += formatv("<svg width=\"{0}\" height=\"{1}\" role=\"img\" aria-label=\"{2}\">\n",
                 left + std::max(width + 20, legendWidth(map)), top + height + 64,
                 escape(map.title.empty() ? map.valueTitle : map.title))
             .str();
  out += formatv("<rect x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" fill=\"none\" stroke=\"#d9dee5\"/>\n", left,
                 top, width, height)
             .str();
  auto titleOf = [&](size_t y, size_t x) {
    return escape(map.rowTitle + " " + nameOf(map.rowNames, y) + ", " + map.columnTitle + " " +
                  nameOf(map.columnNames, x) + ": " + number(map.values[y][x]));
  };
  if (rows * columns <= kMostRectangles) {
    for (size_t y = 0; y < rows; ++y) {
      for (size_t x = 0; x < columns; ++x) {
        if (!std::isnan(map.values[y][x])) {
          out += formatv("<rect x=\"{0:F2}\" y=\"{1:F2}\" width=\"{2:F2}\" height=\"{3:F2}\" fill=\"{4}\"><title>{5}"
                         "</title></rect>",
                         left + cellX * static_cast<double>(x), top + cellY * static_cast<double>(y), cellX + 0.3,
                         cellY + 0.3, colorAt(map.scale, map.scale.position(map.values[y][x])).text(), titleOf(y, x))
                     .str();
        }
      }
      out += "\n";
    }
  } else {
    out += formatv("<image x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" preserveAspectRatio=\"none\" "
                   "href=\"data:image/png;base64,{4}\"/>\n",
                   left, top, width, height, encodeImage(map.values, map.scale))
               .str();
    for (size_t y = 0; y < rows; ++y) {
      const auto &row = map.values[y];
      const size_t most = std::max_element(row.begin(), row.end()) - row.begin();
      out += formatv("<rect x=\"{0}\" y=\"{1:F2}\" width=\"{2}\" height=\"{3:F2}\" fill-opacity=\"0\"><title>largest: "
                     "{4}</title></rect>",
                     left, top + cellY * static_cast<double>(y), width, cellY, titleOf(y, most))
                 .str();
    }
    out += "\n";
  }
  for (size_t cut : map.cuts) {
    const double x = left + cellX * static_cast<double>(cut), y = top + cellY * static_cast<double>(cut);
    out += formatv("<path d=\"M{0:F1} {1}V{2}M{3} {4:F1}H{5}\" stroke=\"#5b6675\" stroke-width=\"1\"/>", x, top,
                   top + height, left, y, left + width)
               .str();
  }
  out += drawNames(map.rowNames, rows, cellY, /*down=*/true, left, top);
  out += drawNames(map.columnNames, columns, cellX, /*down=*/false, left, top + height + 13);
  out += formatv("<text x=\"10\" y=\"{0}\" text-anchor=\"middle\" transform=\"rotate(-90 10 {0})\">{1}</text>",
                 top + height / 2, escape(map.rowTitle))
             .str();
  out += formatv("<text x=\"{0}\" y=\"{1}\" text-anchor=\"end\">{2}</text>\n", left + width, top + height + 27,
                 escape(map.columnTitle))
             .str();
  out += drawLegend(map, left, top + height + 36);
  return out + "</svg></figure>\n";
}
