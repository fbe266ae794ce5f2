//===- Weights.cpp - Declared weights as tensors, tables and initializers ----===//

#include "lowering/MoeToSched/Weights.h"
#include "lowering/MoeToSched/WeightComputation.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

int64_t mlir::moe::byteWidth(Type element) { return element.getIntOrFloatBitWidth() / 8; }

/// In place of an expert's number: the weight as one tensor.
static constexpr int64_t kWhole = -1;

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
    return user->emitOpError("takes a part of a weight, which only moe.experts does in kernels");
  }
  if (!isa_and_nonnull<ConcatOp, PadOp, ScaleOp, ShardOp, SumOp, FloorMagnitudeOp, ProductOp>(op)) {
    return user->emitOpError("needs weights that moe.get_weight or a computation on weights give; this one comes from ")
           << (op ? op->getName().getStringRef() : "an argument");
  }
  if (type.getRank() > 2 && !isa<ConcatOp, PadOp>(op)) {
    return op->emitOpError("gives a weight of rank ")
           << type.getRank() << ", but kernels compute those of rank 1 and 2";
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

FlatSymbolRefAttr Weights::addComputed(Value weight, int64_t expert, RankedTensorType type, StringRef wish) {
  auto [entry, isNew] = computed.insert({{weight, expert}, {}});
  if (isNew) {
    StringRef op = weight.getDefiningOp()->getName().stripDialect();
    std::string name = freshName(wish.empty() ? (op + "." + Twine(computed.size() - 1)).str() : wish.str());
    sched::TensorOp::create(builder, module.getLoc(), name, type, /*computed=*/true);
    entry->second = FlatSymbolRefAttr::get(builder.getContext(), name);
  }
  return entry->second;
}

FailureOr<FlatSymbolRefAttr> Weights::resolve(Operation *user, Value weight, StringRef wish) {
  if (FlatSymbolRefAttr known = computed.lookup({weight, kWhole})) {
    return known;
  }
  if (failed(declareSources(user, weight))) {
    return failure();
  }
  auto type = cast<RankedTensorType>(weight.getType());
  if (auto get = weight.getDefiningOp<GetWeightOp>()) {
    return declare(user, module.lookupSymbol<WeightOp>(get.getWeightAttr()).getTensorName(), type);
  }
  return addComputed(weight, kWhole, type, wish);
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

static RankedTensorType dropExperts(RankedTensorType type) {
  return RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
}

LogicalResult Weights::computeExperts(Operation *op, SmallVectorImpl<sched::WeightAttr> &entries) {
  Value weight = op->getResult(0);
  auto type = cast<RankedTensorType>(weight.getType());
  if (auto scale = dyn_cast<ScaleOp>(op); scale && scale.getDim() == 0) {
    return op->emitOpError("scales every expert by a factor of its own, but kernels scale dims 1 and 2 of experts' "
                           "weights only");
  }
  for (Value operand : op->getOperands()) {
    const bool ofExperts = cast<RankedTensorType>(operand.getType()).getRank() > 2;
    if (ofExperts ? failed(getEntries(op, operand)) : failed(declareSources(op, operand))) {
      return failure();
    }
  }
  for (int64_t e = 0; e < type.getDimSize(0); ++e) {
    entries.push_back(sched::WeightAttr::get(addComputed(weight, e, dropExperts(type))));
  }
  return success();
}

FailureOr<ArrayRef<sched::WeightAttr>> Weights::getEntries(Operation *user, Value weight) {
  if (auto known = entriesOf.find(weight.getAsOpaquePointer()); known != entriesOf.end()) {
    return ArrayRef<sched::WeightAttr>(known->second);
  }
  auto type = cast<RankedTensorType>(weight.getType());
  const int64_t experts = type.getDimSize(0);
  SmallVector<sched::WeightAttr> entries;
  Operation *op = weight.getDefiningOp();
  auto get = dyn_cast_or_null<GetWeightOp>(op);
  auto declared = get ? module.lookupSymbol<WeightOp>(get.getWeightAttr()) : WeightOp();
  auto concat = dyn_cast_or_null<ConcatOp>(op);
  if (auto part = dyn_cast_or_null<PartOp>(op)) {
    // Of a part along the rows of every expert, only the beginnings differ from those of the whole.
    if (part.getDim() != 1) {
      return part.emitOpError("cuts dim ")
             << part.getDim() << " of experts' weights, but kernels read parts along dim 1 only";
    }
    auto whole = cast<RankedTensorType>(part.getWeight().getType());
    const int64_t begin =
        static_cast<int64_t>(part.getFrom()) * (bytesOf(whole) / (whole.getDimSize(0) * whole.getDimSize(1)));
    FailureOr<ArrayRef<sched::WeightAttr>> wholes = getEntries(user, part.getWeight());
    if (failed(wholes)) {
      return failure();
    }
    for (sched::WeightAttr entry : *wholes) {
      entries.push_back(sched::WeightAttr::get(entry.getTensor(), entry.getOffset() + begin));
    }
  } else if (concat && concat.getDim() == 0) {
    // Experts side by side stay where they are.
    for (Value input : concat.getInputs()) {
      FailureOr<ArrayRef<sched::WeightAttr>> inputs = getEntries(op, input);
      if (failed(inputs)) {
        return failure();
      }
      llvm::append_range(entries, *inputs);
    }
  } else if (isa_and_nonnull<ScaleOp, ProductOp>(op) && type.getRank() > 2) {
    if (failed(computeExperts(op, entries))) {
      return failure();
    }
  } else if (declared && declared.getStacked()) {
    auto [before, after] = declared.getTensorName().split("{}");
    for (int64_t e = 0; e < experts; ++e) {
      FailureOr<FlatSymbolRefAttr> symbol = declare(user, (before + Twine(e) + after).str(), dropExperts(type));
      if (failed(symbol)) {
        return failure();
      }
      entries.push_back(sched::WeightAttr::get(*symbol));
    }
  } else {
    FailureOr<FlatSymbolRefAttr> symbol = resolve(user, weight);
    if (failed(symbol)) {
      return failure();
    }
    const int64_t rowBytes = bytesOf(type) / experts;
    for (int64_t e = 0; e < experts; ++e) {
      entries.push_back(sched::WeightAttr::get(*symbol, e * rowBytes));
    }
  }
  return ArrayRef<sched::WeightAttr>(entriesOf[weight.getAsOpaquePointer()] = std::move(entries));
}

/// What people would call the weights of a table: the name in the module, or that of the first of several.
static std::string nameOf(Value weight) {
  if (auto get = weight.getDefiningOp<GetWeightOp>()) {
    return get.getWeight().str();
  }
  Operation *op = weight.getDefiningOp();
  return op && op->getNumOperands() > 0 ? nameOf(op->getOperand(0)) : "weights";
}

FailureOr<Attribute> Weights::getTable(Operation *user, Value weight) {
  // Of placed experts, the table has one entry per slot of every rank.
  PlacementAttr placement;
  if (auto place = weight.getDefiningOp<PlaceOp>()) {
    placement = place.getPlacement();
    weight = place.getWeight();
  }
  FailureOr<ArrayRef<sched::WeightAttr>> ofExperts = getEntries(user, weight);
  if (failed(ofExperts)) {
    return failure();
  }
  SmallVector<Attribute> entries(ofExperts->begin(), ofExperts->end());
  std::string name = nameOf(weight);
  if (isa_and_nonnull<ConcatOp, ScaleOp, ProductOp>(weight.getDefiningOp())) {
    name += ".joined";
  } else if (ofExperts->front().getOffset() != 0) {
    name += ".from." + std::to_string(ofExperts->front().getOffset());
  }
  int64_t perRank = 0;
  if (placement) {
    perRank = placement.getSlotsPerRank();
    entries = llvm::map_to_vector(placement.getSlots().asArrayRef(),
                                  [&](int64_t expert) -> Attribute { return (*ofExperts)[expert]; });
    name += ".placed";
  }
  ArrayAttr list = builder.getArrayAttr(entries);
  Attribute &table = tables[{list, perRank}];
  if (!table) {
    auto symbol = builder.getStringAttr(freshName("table." + name));
    sched::TableOp::create(builder, module.getLoc(), symbol, list);
    table = sched::TableRefAttr::get(FlatSymbolRefAttr::get(symbol), perRank);
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
    return ready.contains(weight) ? computed.lookup({weight, kWhole}) : FlatSymbolRefAttr();
  };
  for (const auto &[key, tensor] : computed) {
    auto [weight, expert] = key;
    auto initializer = sched::InitializerOp::create(commands, variant.getLoc(), tensor.getValue());
    if (expert == kWhole) {
      WeightComputation(initializer, kernels, tensorOf).compute(weight);
      ready.insert(weight);
      continue;
    }
    auto expertOf = [&, e = expert](Value operand) { return entriesOf.at(operand.getAsOpaquePointer())[e]; };
    WeightComputation(initializer, kernels, tensorOf, expertOf).compute(weight);
  }
}
