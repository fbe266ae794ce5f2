//===- WeightComputation.cpp - One computed weight as commands ---------------===//

#include "lowering/MoeToSched/WeightComputation.h"
#include "lowering/MoeToSched/Weights.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;
using sched::Access;

static int64_t widthOf(RankedTensorType type) { return byteWidth(type.getElementType()); }
static int64_t bytesOf(RankedTensorType type) { return type.getNumElements() * widthOf(type); }

WeightComputation::WeightComputation(sched::InitializerOp initializer, kernels::KernelCatalogue &kernels,
                                     llvm::function_ref<FlatSymbolRefAttr(Value)> tensorOf,
                                     llvm::function_ref<sched::WeightAttr(Value)> expertOf)
    : initializer(initializer), kernels(kernels), tensorOf(tensorOf), expertOf(expertOf),
      builder(OpBuilder::atBlockEnd(&initializer.getBody().front())) {}

bool WeightComputation::isOfExperts(Value value) {
  return expertOf && cast<RankedTensorType>(value.getType()).getRank() > 2;
}

RankedTensorType WeightComputation::typeOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  return isOfExperts(value) ? RankedTensorType::get(type.getShape().drop_front(), type.getElementType()) : type;
}

//===----------------------------------------------------------------------===//
// Places
//===----------------------------------------------------------------------===//

/// Whether something in the nest of joined parts leaves bytes of its place unwritten.
static bool hasPadding(Value value) {
  Operation *op = value.getDefiningOp(); // Weights takes none without
  return isa<PadOp>(op) || (isa<ConcatOp>(op) && llvm::any_of(op->getOperands(), hasPadding));
}

void WeightComputation::fill(Value value, StringRef scratch) {
  RankedTensorType type = typeOf(value);
  Place place{scratch.str(), 0, SmallVector<int64_t>(type.getRank())};
  int64_t stride = widthOf(type);
  for (int64_t d = type.getRank() - 1; d >= 0; --d) {
    place.strides[d] = stride;
    stride *= type.getDimSize(d);
  }
  if (hasPadding(value)) {
    sched::FillOp::create(builder, initializer.getLoc(), writeOperand(place, bytesOf(type)), 0, "pad");
  }
  write(value, place);
}

void WeightComputation::compute(Value value) { fill(value, ""); }

Attribute WeightComputation::read(Value value) {
  if (isOfExperts(value)) {
    return expertOf(value);
  }
  if (FlatSymbolRefAttr tensor = tensorOf(value)) {
    return sched::WeightAttr::get(tensor);
  }
  if (auto shard = value.getDefiningOp<ShardOp>(); shard && isRowsOfRank(shard)) {
    if (FlatSymbolRefAttr whole = tensorOf(shard.getWeight())) {
      return rowsOfRank(shard, whole);
    }
  }
  std::string name = "scratch." + std::to_string(scratchCount++);
  const int64_t bytes = bytesOf(typeOf(value));
  sched::BufferOp::create(builder, initializer.getLoc(), name, sched::BufferKind::Arena, extent(bytes), int64_t(64));
  fill(value, name);
  return sched::SliceAttr::get(Access::Read, name, 0, extent(bytes));
}

Attribute WeightComputation::writeOperand(const Place &place, int64_t bytes) {
  if (place.scratch.empty()) {
    return sched::WeightAttr::get(initializer.getResultAttr(), place.offset, extent(bytes), Access::Write);
  }
  return sched::SliceAttr::get(Access::Write, place.scratch, place.offset, extent(bytes));
}

std::optional<WeightComputation::Rows> WeightComputation::rowsOf(RankedTensorType type, const Place &place,
                                                                 int64_t outer) {
  const int64_t width = widthOf(type);
  ArrayRef<int64_t> shape = type.getShape(), strides = place.strides;
  Rows rows{1, 1, 0};
  for (int64_t d = type.getRank() - 1; d >= outer; --d) {
    if (strides[d] != rows.length * width && shape[d] != 1) {
      return std::nullopt;
    }
    rows.length *= shape[d];
  }
  rows.stride = rows.length;
  for (int64_t d = outer - 1; d >= 0; --d) {
    if (shape[d] == 1) {
      continue;
    }
    if (rows.count == 1) {
      rows.stride = strides[d] / width;
    } else if (strides[d] != rows.stride * rows.count * width) {
      return std::nullopt;
    }
    rows.count *= shape[d];
  }
  return rows;
}

//===----------------------------------------------------------------------===//
// Commands
//===----------------------------------------------------------------------===//

void WeightComputation::launch(Operation *op, const kernels::Kernel &kernel, int64_t grid,
                               ArrayRef<Attribute> operands) {
  sched::LaunchOp::create(builder, initializer.getLoc(), kernels.use(kernel), sched::GridAttr::get(extent(grid)),
                          operands, op->getName().stripDialect());
}

void WeightComputation::copy(FlatSymbolRefAttr tensor, RankedTensorType type, int64_t offset, const Place &place) {
  const int64_t width = widthOf(type);
  for (int64_t outer = 0; outer < type.getRank(); ++outer) {
    std::optional<Rows> rows = rowsOf(type, place, outer);
    if (!rows) {
      continue;
    }
    const int64_t bytes = ((rows->count - 1) * rows->stride + rows->length) * width;
    Attribute to = writeOperand(place, bytes);
    if (rows->count == 1) {
      auto from = sched::WeightAttr::get(tensor, offset, extent(bytes));
      sched::CopyOp::create(builder, initializer.getLoc(), to, from, tensor.getValue());
      return;
    }
    SmallVector<Attribute> operands{sched::WeightAttr::get(tensor, offset), to, number(rows->length * width),
                                    number(rows->stride * width)};
    sched::LaunchOp::create(builder, initializer.getLoc(), kernels.use(kernels::CopyRows{}),
                            sched::GridAttr::get(extent(rows->count)), operands, tensor.getValue());
    return;
  }
  // No common stride: piece by piece along the first dim.
  auto piece = RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
  for (int64_t i = 0; i < type.getDimSize(0); ++i) {
    Place part{place.scratch, place.offset + i * place.strides.front(),
               SmallVector<int64_t>(ArrayRef<int64_t>(place.strides).drop_front())};
    copy(tensor, piece, offset + i * bytesOf(piece), part);
  }
}

void WeightComputation::write(Value value, const Place &place) {
  RankedTensorType type = typeOf(value);
  if (FlatSymbolRefAttr tensor = tensorOf(value)) {
    copy(tensor, type, 0, place);
    return;
  }
  Operation *op = value.getDefiningOp();
  if (auto concat = dyn_cast<ConcatOp>(op)) {
    Place part = place;
    for (Value input : concat.getInputs()) {
      write(input, part);
      part.offset += typeOf(input).getDimSize(concat.getDim()) * place.strides[concat.getDim()];
    }
    return;
  }
  if (auto pad = dyn_cast<PadOp>(op)) {
    write(pad.getWeight(), place);
    return;
  }
  // Kernels write rows. Those of a scale end where its factor changes; those of a part begin where it begins.
  auto scale = dyn_cast<ScaleOp>(op);
  auto shard = dyn_cast<ShardOp>(op);
  const int64_t last = type.getRank() - 1, experts = isOfExperts(value) ? 1 : 0;
  const int64_t scaled = scale ? static_cast<int64_t>(scale.getDim()) - experts : last;
  const int64_t outer = shard ? shard.getDim() : scaled < last ? scaled + 1 : last;
  std::optional<Rows> rows = rowsOf(type, place, outer);
  assert(rows && "Weights refuses what has no rows");
  Attribute to = writeOperand(place, ((rows->count - 1) * rows->stride + rows->length) * widthOf(type));
  Type out = type.getElementType();
  auto element = [](Value operand) { return getElementTypeOrSelf(operand.getType()); };
  if (shard) {
    RankedTensorType whole = typeOf(shard.getWeight());
    int64_t wholeRow = widthOf(whole);
    for (int64_t d = outer; d <= last; ++d) {
      wholeRow *= whole.getDimSize(d);
    }
    launch(op, kernels::CopyPart{}, rows->count,
           {read(shard.getWeight()), to, number(rows->length * widthOf(type)), number(wholeRow),
            number(rows->stride * widthOf(type)), number(shard.getCopies()),
            sched::SizeAttr::get(builder.getContext(), sched::Dim::Rank)});
    return;
  }
  if (scale) {
    kernels::ScaleRows kernel{element(scale.getWeight()), element(scale.getBy()),
                              scale.getOver() ? element(scale.getOver()) : Type(), out, scaled == last};
    SmallVector<Attribute> operands{read(scale.getWeight()), read(scale.getBy())};
    if (scale.getOver()) {
      operands.push_back(read(scale.getOver()));
    }
    operands.append({to, number(rows->length), number(type.getDimSize(scaled)), number(rows->stride)});
    launch(op, kernel, rows->count, operands);
    return;
  }
  if (auto sum = dyn_cast<SumOp>(op)) {
    kernels::SumRows kernel{llvm::map_to_vector(sum.getInputs(), element), out};
    SmallVector<Attribute> operands;
    for (Value input : sum.getInputs()) {
      operands.push_back(read(input));
    }
    operands.append({to, number(rows->length), number(rows->stride)});
    launch(op, kernel, rows->count, operands);
    return;
  }
  if (auto floor = dyn_cast<FloorMagnitudeOp>(op)) {
    kernels::FloorRows kernel{element(floor.getWeight()), out};
    Attribute bound =
        sched::ScalarAttr::get(builder.getContext(), static_cast<float>(floor.getFloor().convertToDouble()));
    launch(op, kernel, rows->count, {read(floor.getWeight()), to, number(rows->length), number(rows->stride), bound});
    return;
  }
  auto product = cast<ProductOp>(op);
  kernels::Product kernel{element(product.getLhs()), element(product.getRhs()), out};
  const int64_t m = type.getDimSize(0), block = kernels::Product::blockRows;
  launch(op, kernel, (m + block - 1) / block,
         {read(product.getLhs()), read(product.getRhs()), to, number(m), number(typeOf(product.getLhs()).getDimSize(1)),
          number(type.getDimSize(1)), number(rows->stride)});
}
