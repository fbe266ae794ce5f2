//===- Weights.cpp - Declared weights as tensors, tables and initializers ----===//

#include "lowering/MoeToSched/Weights.h"
#include "lowering/MoeToSched/WeightComputation.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

int64_t mlir::moe::byteWidth(Type element) { return element.getIntOrFloatBitWidth() / 8; }

static int64_t bytesOf(RankedTensorType type) { return type.getNumElements() * byteWidth(type.getElementType()); }

bool mlir::moe::isRowsOfRank(ShardOp shard) { return shard.getDim() == 0 && shard.getCopies() == 1; }

sched::WeightAttr mlir::moe::rowsOfRank(ShardOp shard, FlatSymbolRefAttr whole) {
  const int64_t bytes = bytesOf(cast<RankedTensorType>(shard.getType()));
  return sched::WeightAttr::get(whole, 0, sched::ExtentAttr::get(shard.getContext(), bytes), sched::Access::Read,
                                bytes);
}

Weights::Weights(ModuleOp module, sched::ProgramOp program)
    : module(module), program(program), builder(OpBuilder::atBlockEnd(&program.getBody().front())) {}

FailureOr<FlatSymbolRefAttr> Weights::declare(Operation *user, StringRef name, RankedTensorType type) {
  auto [entry, isNew] = tensors.insert({name, type});
  if (isNew) {
    sched::TensorOp::create(builder, module.getLoc(), name, type, /*computed=*/false);
  } else if (entry->second != type) {
    return user->emitOpError("takes the tensor '")
           << name << "' of the checkpoint as " << type << ", which another weight declares as " << entry->second
           << "; a tensor has one type";
  }
  return FlatSymbolRefAttr::get(builder.getContext(), name);
}

std::string Weights::freshName(std::string name) {
  auto isOfCheckpoint = [&](WeightOp weight) {
    StringRef tensor = weight.getTensorName(), rest = name;
    if (!weight.getStacked()) {
      return tensor == name;
    }
    auto [before, after] = tensor.split("{}");
    return rest.consume_front(before) && rest.consume_back(after);
  };
  while (llvm::any_of(module.getOps<WeightOp>(), isOfCheckpoint) || !ownNames.insert(name).second) {
    name += "_";
  }
  return name;
}

LogicalResult Weights::declareSources(Operation *user, Value weight) {
  auto type = cast<RankedTensorType>(weight.getType());
  if (auto get = weight.getDefiningOp<GetWeightOp>()) {
    auto declared = module.lookupSymbol<WeightOp>(get.getWeightAttr());
    if (declared.getStacked()) {
      return user->emitOpError("takes weight '")
             << declared.getSymName() << "' as one tensor, but it is stacked from " << type.getDimSize(0)
             << " checkpoint tensors; only moe.experts takes those";
    }
    return declare(user, declared.getTensorName(), type);
  }
  Operation *op = weight.getDefiningOp();
  if (isa_and_nonnull<PartOp>(op)) {
    return user->emitOpError("takes a part of a weight, which on CPUs only moe.experts does");
  }
  if (!isa_and_nonnull<ConcatOp, PadOp, ScaleOp, ShardOp, SumOp, FloorMagnitudeOp, ProductOp>(op)) {
    return user->emitOpError("needs weights that moe.get_weight or a computation on weights give; this one comes from ")
           << (op ? op->getName().getStringRef() : "an argument");
  }
  if (type.getRank() > 2 && !isa<ConcatOp, PadOp>(op)) {
    return op->emitOpError("gives a weight of rank ")
           << type.getRank() << ", but CPU kernels compute those of rank 1 and 2";
  }
  int64_t bits = type.getElementTypeBitWidth();
  for (int64_t dim : type.getShape()) {
    if (llvm::MulOverflow(bits, dim, bits)) {
      return op->emitOpError("gives ") << type << ", whose size must be below 2^63 bits";
    }
  }
  for (Value operand : op->getOperands()) {
    if (failed(declareSources(op, operand))) {
      return failure();
    }
  }
  return success();
}

FailureOr<FlatSymbolRefAttr> Weights::resolve(Operation *user, Value weight, StringRef wish) {
  if (FlatSymbolRefAttr known = computed.lookup(weight)) {
    return known;
  }
  if (failed(declareSources(user, weight))) {
    return failure();
  }
  auto type = cast<RankedTensorType>(weight.getType());
  if (auto get = weight.getDefiningOp<GetWeightOp>()) {
    return declare(user, module.lookupSymbol<WeightOp>(get.getWeightAttr()).getTensorName(), type);
  }
  std::string name =
      freshName(wish.empty() ? (weight.getDefiningOp()->getName().stripDialect() + "." + Twine(computed.size())).str()
                             : wish.str());
  sched::TensorOp::create(builder, module.getLoc(), name, type, /*computed=*/true);
  return computed[weight] = FlatSymbolRefAttr::get(builder.getContext(), name);
}

FailureOr<Attribute> Weights::getTensor(Operation *user, Value weight) {
  if (auto shard = weight.getDefiningOp<ShardOp>(); shard && isRowsOfRank(shard)) {
    FailureOr<FlatSymbolRefAttr> whole = resolve(user, shard.getWeight());
    if (failed(whole)) {
      return failure();
    }
    return Attribute(rowsOfRank(shard, *whole));
  }
  FailureOr<FlatSymbolRefAttr> symbol = resolve(user, weight);
  if (failed(symbol)) {
    return failure();
  }
  return Attribute(sched::WeightAttr::get(*symbol));
}

FailureOr<FlatSymbolRefAttr> Weights::getNamed(Value weight, StringRef name) {
  return resolve(weight.getDefiningOp(), weight, name);
}

FailureOr<Attribute> Weights::getTable(Operation *user, Value weight) {
  // Of placed experts, the table has one entry per slot of every rank.
  PlacementAttr placement;
  if (auto place = weight.getDefiningOp<PlaceOp>()) {
    placement = place.getPlacement();
    weight = place.getWeight();
  }
  // Of a part along the rows of every expert, only the beginnings differ from those of the whole.
  int64_t begin = 0;
  while (auto part = weight.getDefiningOp<PartOp>()) {
    auto whole = cast<RankedTensorType>(part.getWeight().getType());
    if (part.getDim() != 1) {
      return part.emitOpError("cuts dim ")
             << part.getDim() << " of experts' weights, but CPU kernels read parts along dim 1 only";
    }
    begin += static_cast<int64_t>(part.getFrom()) * (bytesOf(whole) / (whole.getDimSize(0) * whole.getDimSize(1)));
    weight = part.getWeight();
  }
  auto type = cast<RankedTensorType>(weight.getType());
  auto get = weight.getDefiningOp<GetWeightOp>();
  auto declared = get ? module.lookupSymbol<WeightOp>(get.getWeightAttr()) : WeightOp();
  const bool stacked = declared && declared.getStacked();
  const int64_t experts = type.getDimSize(0);
  SmallVector<Attribute> entries;
  std::string name, source;
  if (stacked) {
    name = declared.getSymName();
    source = declared.getTensorName();
    auto rowType = RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
    auto [before, after] = declared.getTensorName().split("{}");
    for (int64_t e = 0; e < experts; ++e) {
      FailureOr<FlatSymbolRefAttr> symbol = declare(user, (before + Twine(e) + after).str(), rowType);
      if (failed(symbol)) {
        return failure();
      }
      entries.push_back(sched::WeightAttr::get(*symbol, begin));
    }
  } else {
    FailureOr<FlatSymbolRefAttr> symbol = resolve(user, weight);
    if (failed(symbol)) {
      return failure();
    }
    name = source = symbol->getValue();
    const int64_t rowBytes = bytesOf(type) / experts;
    for (int64_t e = 0; e < experts; ++e) {
      entries.push_back(sched::WeightAttr::get(*symbol, e * rowBytes + begin));
    }
  }
  if (begin != 0) {
    name += ".from." + std::to_string(begin);
  }
  std::vector<int64_t> slots;
  if (placement) {
    slots = placement.getSlots().asArrayRef().vec();
    SmallVector<Attribute> ofExperts = std::move(entries);
    entries = llvm::map_to_vector(slots, [&](int64_t expert) { return ofExperts[expert]; });
    name += ".placed";
  }
  Attribute &table = tables[{source, stacked, begin, slots}];
  if (!table) {
    auto symbol = builder.getStringAttr(freshName("table." + name));
    sched::TableOp::create(builder, module.getLoc(), symbol, builder.getArrayAttr(entries));
    table = sched::TableRefAttr::get(FlatSymbolRefAttr::get(symbol), placement ? placement.getSlotsPerRank() : 0);
  }
  return table;
}

void Weights::emitInitializers(sched::VariantOp variant, kernels::KernelCatalogue &kernels) {
  OpBuilder commands = OpBuilder::atBlockEnd(&variant.getBody().front());
  llvm::DenseSet<Value> ready;
  // A tensor of the checkpoint, or what an earlier initializer made.
  auto tensorOf = [&](Value weight) -> FlatSymbolRefAttr {
    if (auto get = weight.getDefiningOp<GetWeightOp>()) {
      auto declared = module.lookupSymbol<WeightOp>(get.getWeightAttr());
      return FlatSymbolRefAttr::get(builder.getContext(), declared.getTensorName());
    }
    return ready.contains(weight) ? computed.lookup(weight) : FlatSymbolRefAttr();
  };
  for (const auto &[weight, tensor] : computed) {
    auto initializer = sched::InitializerOp::create(commands, variant.getLoc(), tensor.getValue());
    WeightComputation(initializer, kernels, tensorOf).compute(weight);
    ready.insert(weight);
  }
}
