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
  if (args.size() == 1) {
    return verifyRange(*this, args, 0, Access::ReadWrite); // collective_c1
  }
  if (args.size() != 2) { // collective_c2
    return emitOpError("must have 2 operands, destination and source, or 1 in place, got ") << args.size();
  }
  return success(succeeded(verifyRange(*this, args, 0, Access::Write)) &&
                 succeeded(verifyRange(*this, args, 1, Access::Read))); // collective_c3
}
