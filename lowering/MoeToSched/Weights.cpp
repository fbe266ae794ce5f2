//===- Weights.cpp - Declared weights as tensors, tables and initializers ----===//

#include "lowering/MoeToSched/Weights.h"
#include "lowering/CPU/Kernels.h"

using namespace mlir;
using namespace mlir::moe;

int64_t mlir::moe::byteWidth(Type element) { return element.getIntOrFloatBitWidth() / 8; }

Weights::Weights(ModuleOp module, sched::ProgramOp program)
    : module(module), program(program), builder(OpBuilder::atBlockEnd(&program.getBody().front())) {}

FlatSymbolRefAttr Weights::declare(StringRef name, RankedTensorType type, bool isComputed) {
  FlatSymbolRefAttr &symbol = tensors[name];
  if (!symbol) {
    sched::TensorOp::create(builder, module.getLoc(), name, type, isComputed);
    symbol = FlatSymbolRefAttr::get(builder.getContext(), name);
  }
  return symbol;
}

FailureOr<FlatSymbolRefAttr> Weights::resolve(Operation *user, Value weight) {
  auto type = cast<RankedTensorType>(weight.getType());
  if (auto get = weight.getDefiningOp<GetWeightOp>()) {
    auto declared = module.lookupSymbol<WeightOp>(get.getWeightAttr());
    if (declared.getStacked()) {
      return user->emitOpError("takes weight '")
             << declared.getSymName() << "' as one tensor, but it is stacked from " << type.getDimSize(0)
             << " checkpoint tensors; only moe.experts takes those";
    }
    return declare(declared.getTensorName(), type, /*isComputed=*/false);
  }
  auto concat = weight.getDefiningOp<ConcatOp>();
  if (!concat) {
    return user->emitOpError("needs weights that moe.get_weight or moe.concat give; this one comes from ")
           << (weight.getDefiningOp() ? weight.getDefiningOp()->getName().getStringRef() : "an argument");
  }
  if (FlatSymbolRefAttr known = computedOf.lookup(concat)) {
    return known;
  }
  Computed result{{}, {}, type, static_cast<int64_t>(concat.getDim())};
  for (Value input : concat.getInputs()) {
    FailureOr<FlatSymbolRefAttr> symbol = resolve(concat, input);
    if (failed(symbol)) {
      return failure();
    }
    result.inputs.push_back({*symbol, cast<RankedTensorType>(input.getType())});
  }
  std::string name = "concat." + std::to_string(computed.size());
  result.result = declare(name, type, /*isComputed=*/true);
  computedOf[concat] = result.result;
  computed.push_back(std::move(result));
  return computed.back().result;
}

FailureOr<Attribute> Weights::getTensor(Operation *user, Value weight) {
  FailureOr<FlatSymbolRefAttr> symbol = resolve(user, weight);
  if (failed(symbol)) {
    return failure();
  }
  return Attribute(sched::WeightAttr::get(*symbol));
}

FailureOr<Attribute> Weights::getTable(Operation *user, Value weight) {
  auto type = cast<RankedTensorType>(weight.getType());
  auto get = weight.getDefiningOp<GetWeightOp>();
  auto declared = get ? module.lookupSymbol<WeightOp>(get.getWeightAttr()) : WeightOp();
  std::string name = "table." + (declared ? declared.getSymName().str() : "");
  SmallVector<Attribute> entries;
  const int64_t experts = type.getDimSize(0);
  if (declared && declared.getStacked()) {
    auto rowType = RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
    auto [before, after] = declared.getTensorName().split("{}");
    for (int64_t e = 0; e < experts; ++e) {
      entries.push_back(sched::WeightAttr::get(declare((before + Twine(e) + after).str(), rowType, false)));
    }
  } else {
    FailureOr<FlatSymbolRefAttr> symbol = resolve(user, weight);
    if (failed(symbol)) {
      return failure();
    }
    name = ("table." + symbol->getValue()).str();
    const int64_t rowBytes = type.getNumElements() / experts * byteWidth(type.getElementType());
    for (int64_t e = 0; e < experts; ++e) {
      entries.push_back(sched::WeightAttr::get(*symbol, e * rowBytes));
    }
  }
  Attribute &table = tables[name];
  if (!table) {
    sched::TableOp::create(builder, module.getLoc(), builder.getStringAttr(name), builder.getArrayAttr(entries));
    table = sched::TableRefAttr::get(FlatSymbolRefAttr::get(builder.getContext(), name));
  }
  return table;
}

void Weights::emitInitializers(sched::VariantOp variant, cpu::KernelLibrary &kernels) {
  OpBuilder commands = OpBuilder::atBlockEnd(&variant.getBody().front());
  MLIRContext *context = commands.getContext();
  for (const Computed &weight : computed) {
    auto initializer = sched::InitializerOp::create(commands, variant.getLoc(), weight.result.getValue());
    OpBuilder::InsertionGuard guard(commands);
    commands.setInsertionPointToEnd(&initializer.getBody().front());
    // Each input is a number of equal runs of bytes: those of the dims before `dim`.
    const int64_t width = byteWidth(weight.type.getElementType());
    auto runBytes = [&](RankedTensorType type) {
      int64_t bytes = width;
      for (int64_t size : type.getShape().drop_front(weight.dim)) {
        bytes *= size;
      }
      return bytes;
    };
    const int64_t outRun = runBytes(weight.type), outBytes = weight.type.getNumElements() * width;
    const int64_t runs = outBytes / outRun;
    int64_t offset = 0;
    for (auto [symbol, type] : weight.inputs) {
      const int64_t inRun = runBytes(type);
      auto extent = [&](int64_t bytes) { return sched::ExtentAttr::get(context, bytes); };
      if (runs == 1) {
        auto to = sched::WeightAttr::get(weight.result, offset, extent(inRun), sched::Access::Write);
        auto from = sched::WeightAttr::get(symbol, 0, extent(inRun));
        sched::CopyOp::create(commands, variant.getLoc(), to, from, symbol.getValue());
      } else {
        auto to = sched::WeightAttr::get(weight.result, offset, extent(outBytes - offset), sched::Access::Write);
        SmallVector<Attribute> arguments{sched::WeightAttr::get(symbol), to, sched::ScalarAttr::get(context, inRun),
                                         sched::ScalarAttr::get(context, outRun)};
        sched::LaunchOp::create(commands, variant.getLoc(), kernels.use(cpu::CopyRowsKernel{}),
                                sched::GridAttr::get(extent(runs)), arguments, symbol.getValue());
      }
      offset += inRun;
    }
  }
}
