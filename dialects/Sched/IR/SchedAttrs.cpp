//===- SchedAttrs.cpp - Text and invariants of extents, grids and operands --===//
//
// Each attribute has one reading and one printing function, shared by its own
// `#sched.name<...>` form and by the bare form inside a command.
//
//===----------------------------------------------------------------------===//

#include "dialects/Sched/IR/SchedAttrs.h"
#include "dialects/Sched/IR/SchedOps.h"

using namespace mlir;
using namespace mlir::sched;

//===----------------------------------------------------------------------===//
// Extent and grid
//===----------------------------------------------------------------------===//

__int128 ExtentAttr::evaluate(int64_t tokens, int64_t rows, int64_t sequences, int64_t context) const {
  return static_cast<__int128>(getFixed()) + static_cast<__int128>(getPerToken()) * tokens +
         static_cast<__int128>(getPerRow()) * rows + static_cast<__int128>(getPerSequence()) * sequences +
         static_cast<__int128>(getPerCacheRow()) * sequences * context;
}

LogicalResult ExtentAttr::verify(function_ref<InFlightDiagnostic()> emitError, int64_t fixed, int64_t perToken,
                                 int64_t perRow, int64_t perSequence, int64_t perCacheRow) {
  for (int64_t coefficient : {fixed, perToken, perRow, perSequence, perCacheRow}) {
    if (coefficient < 0) { // extent_c1
      return emitError() << "coefficient " << coefficient << " of an extent must not be negative";
    }
  }
  return success();
}

/// One term of a sum: `N`, `N*T`, `T`, `N*B*C`, ... added to the coefficients {1, T, M, B, B*C}.
static ParseResult parseTerm(AsmParser &parser, int64_t (&coefficients)[5]) {
  SMLoc location = parser.getCurrentLocation();
  int64_t value = 1;
  OptionalParseResult number = parser.parseOptionalInteger(value);
  if (number.has_value() && failed(*number)) {
    return failure();
  }
  int slot = 0;
  if (!number.has_value() || succeeded(parser.parseOptionalStar())) {
    StringRef letter;
    if (parser.parseKeyword(&letter)) {
      return failure();
    }
    slot = llvm::StringSwitch<int>(letter).Case("T", 1).Case("M", 2).Case("B", 3).Default(0);
    if (!slot) {
      return parser.emitError(location, "'") << letter << "' must be T, M, B or B*C";
    }
    if (slot == 3 && succeeded(parser.parseOptionalStar())) {
      if (parser.parseKeyword("C")) {
        return failure();
      }
      slot = 4;
    }
  }
  if (llvm::AddOverflow(coefficients[slot], value, coefficients[slot])) {
    return parser.emitError(location, "the coefficients of this term add up to more than 2^63");
  }
  return success();
}

ParseResult sched::parseExtent(AsmParser &parser, ExtentAttr &extent) {
  SMLoc location = parser.getCurrentLocation();
  int64_t coefficients[5] = {};
  do {
    if (parseTerm(parser, coefficients)) {
      return failure();
    }
  } while (succeeded(parser.parseOptionalPlus()));
  for (int64_t coefficient : coefficients) {
    if (coefficient < 0) { // extent_c1
      return parser.emitError(location) << "coefficient " << coefficient << " of an extent must not be negative";
    }
  }
  extent = ExtentAttr::get(parser.getContext(), coefficients[0], coefficients[1], coefficients[2], coefficients[3],
                           coefficients[4]);
  return success();
}

void sched::printExtent(AsmPrinter &printer, ExtentAttr extent) {
  std::pair<int64_t, StringRef> terms[] = {{extent.getFixed(), ""},
                                           {extent.getPerToken(), "T"},
                                           {extent.getPerRow(), "M"},
                                           {extent.getPerSequence(), "B"},
                                           {extent.getPerCacheRow(), "B*C"}};
  bool first = true;
  for (auto [coefficient, letters] : terms) {
    if (!coefficient) {
      continue;
    }
    printer << (first ? "" : " + ");
    first = false;
    if (letters.empty()) {
      printer << coefficient;
    } else if (coefficient == 1) {
      printer << letters;
    } else {
      printer << coefficient << "*" << letters;
    }
  }
  if (first) {
    printer << "0";
  }
}

LogicalResult GridAttr::verify(function_ref<InFlightDiagnostic()> emitError, ExtentAttr units, int64_t divisor,
                               int64_t cap, int64_t factor) {
  if (divisor < 1) { // grid_c1
    return emitError() << "divisor " << divisor << " of a grid must be at least 1";
  }
  if (cap < 0) { // grid_c2
    return emitError() << "cap " << cap << " of a grid must not be negative";
  }
  if (factor < 1) { // grid_c3
    return emitError() << "factor " << factor << " of a grid must be at least 1";
  }
  return success();
}

ParseResult sched::parseGrid(AsmParser &parser, GridAttr &grid) {
  SMLoc location = parser.getCurrentLocation();
  ExtentAttr units;
  int64_t divisor = 1, cap = 0, factor = 1;
  if (parser.parseLParen() || parseExtent(parser, units) ||
      (succeeded(parser.parseOptionalKeyword("ceildiv")) && parser.parseInteger(divisor)) ||
      (succeeded(parser.parseOptionalKeyword("cap")) && parser.parseInteger(cap)) ||
      (succeeded(parser.parseOptionalKeyword("times")) && parser.parseInteger(factor)) || parser.parseRParen()) {
    return failure();
  }
  grid = GridAttr::getChecked([&] { return parser.emitError(location); }, units, divisor, cap, factor);
  return success(static_cast<bool>(grid));
}

void sched::printGrid(AsmPrinter &printer, GridAttr grid) {
  printer << "(";
  printExtent(printer, grid.getUnits());
  if (grid.getDivisor() != 1) {
    printer << " ceildiv " << grid.getDivisor();
  }
  if (grid.getCap()) {
    printer << " cap " << grid.getCap();
  }
  if (grid.getFactor() != 1) {
    printer << " times " << grid.getFactor();
  }
  printer << ")";
}

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

LogicalResult SliceAttr::verify(function_ref<InFlightDiagnostic()> emitError, Access access, FlatSymbolRefAttr buffer,
                                int64_t offset, ExtentAttr extent) {
  if (offset < 0) { // slice_c1
    return emitError() << "offset " << offset << " into " << buffer << " must not be negative";
  }
  return success();
}

LogicalResult WeightAttr::verify(function_ref<InFlightDiagnostic()> emitError, Access access, FlatSymbolRefAttr tensor,
                                 int64_t offset, ExtentAttr extent, int64_t perRank) {
  if (offset < 0) { // span_c1
    return emitError() << "offset " << offset << " into " << tensor << " must not be negative";
  }
  if (extent && extent == ExtentAttr::get(extent.getContext(), 0)) { // span_c2
    return emitError() << "extent 0 of " << tensor << " must be positive: leave it out for the rest of the tensor";
  }
  if (perRank < 0) { // span_c7
    return emitError() << "per_rank " << perRank << " of " << tensor << " must not be negative";
  }
  return success();
}

LogicalResult TableRefAttr::verify(function_ref<InFlightDiagnostic()> emitError, FlatSymbolRefAttr table,
                                   int64_t perRank) {
  if (perRank < 0) { // table_c5
    return emitError() << "per_rank " << perRank << " of " << table << " must not be negative";
  }
  return success();
}

LogicalResult TensorMapAttr::verify(function_ref<InFlightDiagnostic()> emitError, Attribute source, int64_t rows,
                                    int64_t columns, int64_t boxRows) {
  constexpr int64_t mostRows = 256;
  assert((isa<WeightAttr, TableRefAttr>(source)) && "nothing else can be written");
  if (rows < 1 || columns < 1 || boxRows < 1 || boxRows > mostRows) { // tensor_map_c1
    return emitError() << "tensor map must have rows and columns and boxes of 1 to " << mostRows << " rows, got "
                       << rows << ", " << columns << " and " << boxRows;
  }
  return success();
}

/// `@symbol[offset, extent]`; the extent may be missing when `optionalExtent`.
static ParseResult parseSpan(AsmParser &parser, FlatSymbolRefAttr &symbol, int64_t &offset, ExtentAttr &extent,
                             bool optionalExtent) {
  StringAttr name;
  if (parser.parseSymbolName(name) || parser.parseLSquare() || parser.parseInteger(offset)) {
    return failure();
  }
  symbol = FlatSymbolRefAttr::get(name);
  if (optionalExtent && succeeded(parser.parseOptionalRSquare())) {
    return success();
  }
  return failure(parser.parseComma() || parseExtent(parser, extent) || parser.parseRSquare());
}

static ParseResult parseSlice(AsmParser &parser, Access access, Attribute &operand) {
  SMLoc location = parser.getCurrentLocation();
  FlatSymbolRefAttr symbol;
  int64_t offset = 0;
  ExtentAttr extent;
  if (parseSpan(parser, symbol, offset, extent, /*optionalExtent=*/false)) {
    return failure();
  }
  operand = SliceAttr::getChecked([&] { return parser.emitError(location); }, access, symbol, offset, extent);
  return success(static_cast<bool>(operand));
}

/// `per_rank N`, or nothing.
static ParseResult parsePerRank(AsmParser &parser, int64_t &perRank) {
  return failure(succeeded(parser.parseOptionalKeyword("per_rank")) && parser.parseInteger(perRank));
}

static ParseResult parseWeight(AsmParser &parser, Access access, Attribute &operand) {
  SMLoc location = parser.getCurrentLocation();
  FlatSymbolRefAttr symbol;
  int64_t offset = 0, perRank = 0;
  ExtentAttr extent;
  if (parseSpan(parser, symbol, offset, extent, /*optionalExtent=*/true) || parsePerRank(parser, perRank)) {
    return failure();
  }
  operand = WeightAttr::getChecked([&] { return parser.emitError(location); }, symbol, offset, extent, access, perRank);
  return success(static_cast<bool>(operand));
}

static ParseResult parseTable(AsmParser &parser, Attribute &operand) {
  SMLoc location = parser.getCurrentLocation();
  StringAttr name;
  int64_t perRank = 0;
  if (parser.parseSymbolName(name) || parsePerRank(parser, perRank)) {
    return failure();
  }
  operand = TableRefAttr::getChecked([&] { return parser.emitError(location); }, FlatSymbolRefAttr::get(name), perRank);
  return success(static_cast<bool>(operand));
}

static ParseResult parseSize(AsmParser &parser, Attribute &operand) {
  SMLoc location = parser.getCurrentLocation();
  StringRef letter;
  if (parser.parseKeyword(&letter)) {
    return failure();
  }
  std::optional<Dim> dim = symbolizeDim(letter);
  if (!dim) {
    return parser.emitError(location, "'") << letter << "' must be T, M, B, C, Tmax, ranks or rank";
  }
  operand = SizeAttr::get(parser.getContext(), *dim);
  return success();
}

/// `weight @w[0] rows R columns C box N`, or a table in place of the weight.
static ParseResult parseTensorMap(AsmParser &parser, Attribute &operand) {
  SMLoc location = parser.getCurrentLocation();
  Attribute source;
  int64_t rows, columns, boxRows;
  const bool isTable = succeeded(parser.parseOptionalKeyword("table"));
  if ((!isTable && parser.parseKeyword("weight")) ||
      (isTable ? parseTable(parser, source) : parseWeight(parser, Access::Read, source)) ||
      parser.parseKeyword("rows") || parser.parseInteger(rows) || parser.parseKeyword("columns") ||
      parser.parseInteger(columns) || parser.parseKeyword("box") || parser.parseInteger(boxRows)) {
    return failure();
  }
  operand = TensorMapAttr::getChecked([&] { return parser.emitError(location); }, source, rows, columns, boxRows);
  return success(static_cast<bool>(operand));
}

/// An operand in its bare form, as inside a command.
static ParseResult parseArg(AsmParser &parser, Attribute &operand) {
  SMLoc location = parser.getCurrentLocation();
  StringRef word;
  int64_t value = 0;
  if (parser.parseKeyword(&word)) {
    return failure();
  }
  if (std::optional<Access> access = symbolizeAccess(word)) {
    return succeeded(parser.parseOptionalKeyword("weight")) ? parseWeight(parser, *access, operand)
                                                            : parseSlice(parser, *access, operand);
  }
  if (word == "weight") {
    return parseWeight(parser, Access::Read, operand);
  }
  if (word == "table") {
    return parseTable(parser, operand);
  }
  if (word == "size") {
    return parseSize(parser, operand);
  }
  if (word == "tensor_map") {
    return parseTensorMap(parser, operand);
  }
  if (word == "constant") {
    if (parser.parseInteger(value)) {
      return failure();
    }
    operand = ScalarAttr::get(parser.getContext(), value);
    return success();
  }
  return parser.emitError(location, "'")
         << word << "' must be read, write, readwrite, weight, table, tensor_map, size or constant";
}

static void printSpan(AsmPrinter &printer, FlatSymbolRefAttr symbol, int64_t offset, ExtentAttr extent) {
  printer << symbol << "[" << offset;
  if (extent) {
    printer << ", ";
    printExtent(printer, extent);
  }
  printer << "]";
}

static void printPerRank(AsmPrinter &printer, int64_t perRank) {
  if (perRank) {
    printer << " per_rank " << perRank;
  }
}

static void printArg(AsmPrinter &printer, Attribute operand) {
  if (auto slice = dyn_cast<SliceAttr>(operand)) {
    printer << stringifyAccess(slice.getAccess()) << " ";
    printSpan(printer, slice.getBuffer(), slice.getOffset(), slice.getExtent());
  } else if (auto weight = dyn_cast<WeightAttr>(operand)) {
    if (weight.getAccess() != Access::Read) {
      printer << stringifyAccess(weight.getAccess()) << " ";
    }
    printer << "weight ";
    printSpan(printer, weight.getTensor(), weight.getOffset(), weight.getExtent());
    printPerRank(printer, weight.getPerRank());
  } else if (auto table = dyn_cast<TableRefAttr>(operand)) {
    printer << "table " << table.getTable();
    printPerRank(printer, table.getPerRank());
  } else if (auto size = dyn_cast<SizeAttr>(operand)) {
    printer << "size " << stringifyDim(size.getDim());
  } else if (auto scalar = dyn_cast<ScalarAttr>(operand)) {
    printer << "constant " << scalar.getValue();
  } else if (auto map = dyn_cast<TensorMapAttr>(operand)) {
    printer << "tensor_map ";
    printArg(printer, map.getSource());
    printer << " rows " << map.getRows() << " columns " << map.getColumns() << " box " << map.getBoxRows();
  } else {
    printer << operand; // Not an operand: the verifier of the command says so.
  }
}

ParseResult sched::parseArgs(AsmParser &parser, ArrayAttr &args) {
  SmallVector<Attribute> operands;
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren,
                                     [&] { return parseArg(parser, operands.emplace_back()); })) {
    return failure();
  }
  args = parser.getBuilder().getArrayAttr(operands);
  return success();
}

void sched::printArgs(AsmPrinter &printer, ArrayAttr args) {
  printer << "(";
  llvm::interleaveComma(args, printer, [&](Attribute operand) { printArg(printer, operand); });
  printer << ")";
}

//===----------------------------------------------------------------------===//
// The `#sched.name<...>` forms
//===----------------------------------------------------------------------===//

Attribute ExtentAttr::parse(AsmParser &parser, Type) {
  ExtentAttr extent;
  return parser.parseLess() || parseExtent(parser, extent) || parser.parseGreater() ? nullptr : extent;
}
void ExtentAttr::print(AsmPrinter &printer) const {
  printer << "<";
  printExtent(printer, *this);
  printer << ">";
}

Attribute GridAttr::parse(AsmParser &parser, Type) {
  GridAttr grid;
  return parser.parseLess() || parseGrid(parser, grid) || parser.parseGreater() ? nullptr : grid;
}
void GridAttr::print(AsmPrinter &printer) const {
  printer << "<";
  printGrid(printer, *this);
  printer << ">";
}

/// All operands share one form: `<read @a[0, 4]>`, `<size T>`, ...
template <typename AttrT> static Attribute parseOperandAttr(AsmParser &parser) {
  SMLoc location = parser.getCurrentLocation();
  Attribute operand;
  if (parser.parseLess() || parseArg(parser, operand) || parser.parseGreater()) {
    return nullptr;
  }
  if (!isa<AttrT>(operand)) {
    parser.emitError(location, "expected '#sched.") << AttrT::getMnemonic() << "', got " << operand;
    return nullptr;
  }
  return operand;
}
static void printOperandAttr(AsmPrinter &printer, Attribute operand) {
  printer << "<";
  printArg(printer, operand);
  printer << ">";
}

Attribute SliceAttr::parse(AsmParser &parser, Type) { return parseOperandAttr<SliceAttr>(parser); }
Attribute WeightAttr::parse(AsmParser &parser, Type) { return parseOperandAttr<WeightAttr>(parser); }
Attribute TableRefAttr::parse(AsmParser &parser, Type) { return parseOperandAttr<TableRefAttr>(parser); }
Attribute TensorMapAttr::parse(AsmParser &parser, Type) { return parseOperandAttr<TensorMapAttr>(parser); }
Attribute SizeAttr::parse(AsmParser &parser, Type) { return parseOperandAttr<SizeAttr>(parser); }
Attribute ScalarAttr::parse(AsmParser &parser, Type) { return parseOperandAttr<ScalarAttr>(parser); }
void SliceAttr::print(AsmPrinter &printer) const { printOperandAttr(printer, *this); }
void WeightAttr::print(AsmPrinter &printer) const { printOperandAttr(printer, *this); }
void TableRefAttr::print(AsmPrinter &printer) const { printOperandAttr(printer, *this); }
void TensorMapAttr::print(AsmPrinter &printer) const { printOperandAttr(printer, *this); }
void SizeAttr::print(AsmPrinter &printer) const { printOperandAttr(printer, *this); }
void ScalarAttr::print(AsmPrinter &printer) const { printOperandAttr(printer, *this); }
