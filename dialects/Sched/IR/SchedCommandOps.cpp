//===- SchedCommandOps.cpp - Builders and local verifiers of commands -------===//

#include "dialects/Sched/IR/SchedOps.h"
#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::sched;

void LaunchOp::build(OpBuilder &builder, OperationState &state, StringRef kernel, GridAttr grid,
                     ArrayRef<Attribute> args, StringRef label, int64_t stream) {
  build(builder, state, FlatSymbolRefAttr::get(builder.getContext(), kernel), grid, builder.getArrayAttr(args),
        builder.getStringAttr(label), builder.getI64IntegerAttr(stream));
}

void CopyOp::build(OpBuilder &builder, OperationState &state, Attribute destination, Attribute source, StringRef label,
                   int64_t stream) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.args = builder.getArrayAttr({destination, source});
  properties.label = builder.getStringAttr(label);
  properties.stream = builder.getI64IntegerAttr(stream);
}

void FillOp::build(OpBuilder &builder, OperationState &state, Attribute destination, int64_t value, StringRef label,
                   int64_t stream) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.args = builder.getArrayAttr({destination});
  properties.value = builder.getI64IntegerAttr(value);
  properties.label = builder.getStringAttr(label);
  properties.stream = builder.getI64IntegerAttr(stream);
}

void CollectiveOp::build(OpBuilder &builder, OperationState &state, CollectiveKind kind, Type element, int64_t rowBytes,
                         ArrayRef<Attribute> args, StringRef label, int64_t stream) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.kind = CollectiveKindAttr::get(builder.getContext(), kind);
  properties.element = element ? TypeAttr::get(element) : TypeAttr();
  properties.row_bytes = rowBytes ? builder.getI64IntegerAttr(rowBytes) : IntegerAttr();
  properties.args = builder.getArrayAttr(args);
  properties.label = builder.getStringAttr(label);
  properties.stream = builder.getI64IntegerAttr(stream);
}

/// Access and extent of an operand that is a range of bytes; no extent if it is none or runs to a tensor's end.
static std::pair<std::optional<Access>, ExtentAttr> getRange(Attribute operand) {
  if (auto slice = dyn_cast<SliceAttr>(operand)) {
    return {slice.getAccess(), slice.getExtent()};
  }
  if (auto weight = dyn_cast<WeightAttr>(operand)) {
    return {weight.getAccess(), weight.getExtent()};
  }
  return {std::nullopt, nullptr};
}

/// Whether `whole` is `ranks` times `part`, at all sizes.
static bool isTimes(ExtentAttr whole, int64_t ranks, ExtentAttr part) {
  const std::pair<int64_t, int64_t> coefficients[] = {{whole.getFixed(), part.getFixed()},
                                                      {whole.getPerToken(), part.getPerToken()},
                                                      {whole.getPerRow(), part.getPerRow()},
                                                      {whole.getPerSequence(), part.getPerSequence()},
                                                      {whole.getPerCacheRow(), part.getPerCacheRow()}};
  return llvm::all_of(coefficients,
                      [&](auto pair) { return pair.first == static_cast<__int128>(pair.second) * ranks; });
}

/// Every kind has its own relation between the extents, at the number of ranks that the variant is for.
LogicalResult CollectiveOp::verifyRanks(int64_t ranks) {
  ArrayRef<Attribute> args = getOperandAttrs();
  if (args.size() == 1) {
    return success();
  }
  auto check = [&](unsigned whole, int64_t factor, unsigned part) -> LogicalResult {
    ExtentAttr large = getRange(args[whole]).second, small = getRange(args[part]).second;
    if (isTimes(large, factor, small)) {
      return success();
    }
    return emitOpError(stringifyCollectiveKind(getKind()))
           << " among " << ranks << " ranks must have an extent of operand " << whole << " (" << large << ") that is "
           << factor << " times that of operand " << part << " (" << small << ")";
  };
  switch (getKind()) { // collective_c7
  case CollectiveKind::AllReduceSum:
    return check(0, 1, 1);
  case CollectiveKind::AllGather:
    return check(0, ranks, 1);
  case CollectiveKind::ReduceScatterSum:
    return check(1, ranks, 0);
  case CollectiveKind::AllToAll:
    return check(0, 1, 1);
  case CollectiveKind::Exchange:
    for (unsigned counts : {2, 3}) {
      ExtentAttr extent = getRange(args[counts]).second;
      if (extent != ExtentAttr::get(getContext(), 4 * ranks)) {
        return emitOpError("operand ") << counts << " of an exchange among " << ranks << " ranks must hold " << ranks
                                       << " counts of 4 bytes, but has " << extent << " bytes";
      }
    }
    return success();
  }
  return success();
}

/// Operand `index` must be a range of bytes with an extent, accessed in exactly this way.
static LogicalResult verifyRange(Operation *op, ArrayRef<Attribute> args, unsigned index, Access expected) {
  auto [access, extent] = getRange(args[index]);
  if (access != expected || !extent) {
    return op->emitOpError("operand ") << index << " must " << stringifyAccess(expected)
                                       << " a range of bytes with an extent, got " << args[index];
  }
  return success();
}

LogicalResult CopyOp::verify() {
  ArrayRef<Attribute> args = getOperandAttrs();
  if (args.size() != 2) { // copy_c1
    return emitOpError("must have 2 operands, destination and source, got ") << args.size();
  }
  if (failed(verifyRange(*this, args, 0, Access::Write)) ||
      failed(verifyRange(*this, args, 1, Access::Read))) { // copy_c2
    return failure();
  }
  ExtentAttr destination = getRange(args[0]).second, source = getRange(args[1]).second;
  if (destination != source) { // copy_c3
    return emitOpError("extent of the destination ") << destination << " must equal that of the source " << source;
  }
  return success();
}

LogicalResult FillOp::verify() {
  ArrayRef<Attribute> args = getOperandAttrs();
  if (args.size() != 1) { // fill_c1
    return emitOpError("must have 1 operand, the destination, got ") << args.size();
  }
  return verifyRange(*this, args, 0, Access::Write); // fill_c2
}

LogicalResult CollectiveOp::verify() {
  ArrayRef<Attribute> args = getOperandAttrs();
  const bool isExchange = getKind() == CollectiveKind::Exchange;
  const bool isSum = getKind() == CollectiveKind::AllReduceSum || getKind() == CollectiveKind::ReduceScatterSum;
  StringRef name = stringifyCollectiveKind(getKind());
  if (isSum != getElement().has_value()) { // collective_c5
    return emitOpError(name) << (isSum ? " must say the element type that it sums, such as 'of f32'"
                                       : " must have no element type: it copies bytes");
  }
  if (isExchange != getRowBytes().has_value()) { // collective_c6
    return emitOpError(name) << (isExchange ? " must say the bytes of a row: 'row_bytes 512'"
                                            : " must have no row_bytes: only an exchange counts rows");
  }
  if (args.size() == 1 && !isExchange) {
    if (getKind() != CollectiveKind::AllReduceSum) { // collective_c4
      return emitOpError(name) << " must have a destination and a source: only all_reduce_sum works in place";
    }
    return verifyRange(*this, args, 0, Access::ReadWrite); // collective_c1
  }
  if (args.size() != (isExchange ? 4 : 2)) { // collective_c2
    return emitOpError(isExchange ? "must have 4 operands, received rows, rows to send and their counts, got "
                                  : "must have 2 operands, destination and source, or 1 in place, got ")
           << args.size();
  }
  for (unsigned i = 0; i < args.size(); i += 2) {
    if (failed(verifyRange(*this, args, i, Access::Write)) ||
        failed(verifyRange(*this, args, i + 1, Access::Read))) { // collective_c3
      return failure();
    }
  }
  return success();
}
