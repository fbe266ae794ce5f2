//===- MoeToSched.cpp - From moe IR to a schedule and its kernels -----------===//

#include "lowering/MoeToSched/MoeToSched.h"
#include "dialects/Moe/IR/MoeRanks.h"
#include "lowering/CPU/CpuCatalogue.h"
#include "lowering/GPU/GpuCatalogue.h"
#include "lowering/MoeToSched/StepLowering.h"
#include "passes/Passes.h"
#include "llvm/Support/JSON.h"
#include <set>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// A public function as one table per range of T.
struct LoweredEntry {
  func::FuncOp function;
  SmallVector<std::unique_ptr<StepLowering>> steps;
};

} // namespace

/// Declares the buffers of a variant: interface, arena, states, constants.
static void declareBuffers(OpBuilder &builder, ModuleOp module, const VariantContext &context,
                           ArrayRef<LoweredEntry> entries, int64_t arenaBytes, int64_t vocab) {
  MLIRContext *mlir = builder.getContext();
  Location loc = module.getLoc();
  auto buffer = [&](StringRef name, sched::BufferKind kind, sched::ExtentAttr size) {
    sched::BufferOp::create(builder, loc, name, kind, size, int64_t(64));
  };
  auto extent = [&](auto... amounts) { return sched::ExtentAttr::get(mlir, amounts...); };
  for (StringRef name : {"tokens", "seq", "pos"}) {
    buffer(name, sched::BufferKind::Input, extent(0, 4));
  }
  buffer("runs", sched::BufferKind::Input, extent(4, 0, 0, 4));
  buffer("rows", sched::BufferKind::Input, extent(0, 0, 4));
  buffer("logits", sched::BufferKind::Output, extent(0, 0, 4 * vocab));
  buffer("arena", sched::BufferKind::Arena, extent(arenaBytes));
  for (StateOp state : module.getOps<StateOp>()) {
    auto type = cast<KVCacheType>(state.getType());
    const int64_t width = byteWidth(type.getElement());
    auto cache = [&](StringRef part, int64_t rowDim) {
      buffer((state.getSymName() + "." + part).str(), sched::BufferKind::State,
             extent(0, 0, 0, 0, type.getHeads() * rowDim * width));
    };
    cache("keys", type.getKeyDim());
    cache("values", type.getValueDim());
  }
  for (const auto &[name, bytes] : context.counters) {
    buffer(name, sched::BufferKind::State, extent(bytes));
  }
  for (const LoweredEntry &entry : entries.drop_front()) { // the step's result is the logits
    for (const StepLowering::Argument &argument : entry.steps.front()->getArguments()) {
      if (argument.buffer != "logits") {
        buffer(argument.buffer, argument.isInput ? sched::BufferKind::Input : sched::BufferKind::Output, argument.size);
      }
    }
  }
  for (const auto &[bytes, name] : context.constants) {
    sched::ConstantOp::create(builder, loc, name, ArrayRef<char>(bytes.data(), bytes.size()));
  }
}

/// The ranges of T that have a table of their own: few tokens and many, cut behind `some` tokens if that is more, and
/// where another function becomes the step.
static SmallVector<std::pair<int64_t, int64_t>> cutRange(const std::map<int64_t, func::FuncOp> &steps, int64_t few,
                                                         int64_t some, int64_t maxTokens) {
  std::set<int64_t> starts{1, few + 1, std::max(few, some) + 1};
  for (const auto &step : steps) {
    starts.insert(step.first);
  }
  SmallVector<std::pair<int64_t, int64_t>> ranges;
  for (int64_t start : starts) {
    if (start > maxTokens) {
      break;
    }
    if (!ranges.empty()) {
      ranges.back().second = start - 1;
    }
    ranges.push_back({start, maxTokens});
  }
  return ranges;
}

/// `steps`: the functions that are the step, by the T from which on they are.
static LogicalResult lowerVariant(ModuleOp module, ArrayRef<func::FuncOp> functions,
                                  const std::map<int64_t, func::FuncOp> &steps, sched::ProgramOp program,
                                  Weights &weights, kernels::KernelCatalogue &kernels, const SchedOptions &options,
                                  int64_t vocab) {
  VariantContext context{weights, kernels, {}, {}, options.recordRouting, std::min(options.streams, kernels.streams())};
  const int64_t few = std::min(options.fewTokens, options.maxTokens);
  const SmallVector<std::pair<int64_t, int64_t>> ranges = cutRange(steps, few, kernels.someTokens(), options.maxTokens);
  int64_t arenaBytes = 1, streams = 1, events = 0;
  func::FuncOp step = functions.front();
  const Type logits = step.getResultTypes().front();
  SmallVector<LoweredEntry> entries;
  for (func::FuncOp function : functions) {
    LoweredEntry &entry = entries.emplace_back(LoweredEntry{function, {}});
    for (auto [first, last] : ranges) {
      func::FuncOp now = function == step ? std::prev(steps.upper_bound(first))->second : function;
      entry.steps.push_back(
          std::make_unique<StepLowering>(now, context, logits, StepLowering::TokenRange{first, last, first > few}));
      if (failed(entry.steps.back()->run())) {
        return failure();
      }
      const StepLowering &lowered = *entry.steps.back();
      arenaBytes = std::max(arenaBytes, lowered.getArenaBytes());
      streams = std::max(streams, lowered.getStreams());
      events = std::max(events, lowered.getEvents());
    }
  }
  OpBuilder builder = OpBuilder::atBlockEnd(&program.getBody().front());
  auto variant =
      sched::VariantOp::create(builder, module.getLoc(), kernels.getTarget(), kernels.getFeatures(), streams, events);
  variant.setRanks(getRanks(module));
  variant.setDistributed(module->hasAttr(kDistributedAttr));
  weights.emitInitializers(variant, kernels);
  builder.setInsertionPointToStart(&variant.getBody().front());
  for (const kernels::KernelSymbol &symbol : kernels.getSymbols()) {
    sched::KernelOp::create(builder, module.getLoc(), symbol.name, /*description=*/"", symbol.threads,
                            symbol.sharedBytes, symbol.waits);
  }
  declareBuffers(builder, module, context, entries, arenaBytes, vocab);
  for (LoweredEntry &entry : entries) {
    builder.setInsertionPointToEnd(&variant.getBody().front());
    if (entry.function != step) {
      SmallVector<StringRef> inputs, outputs;
      for (const StepLowering::Argument &argument : entry.steps.front()->getArguments()) {
        (argument.isInput ? inputs : outputs).push_back(argument.buffer);
      }
      auto op = sched::EntryOp::create(builder, module.getLoc(), entry.function.getSymName(), inputs, outputs);
      builder.setInsertionPointToEnd(&op.getBody().front());
    }
    for (auto [range, lowering] : llvm::zip_equal(ranges, entry.steps)) {
      auto op = sched::StepOp::create(builder, module.getLoc(), range.first, range.second);
      OpBuilder commands = OpBuilder::atBlockEnd(&op.getBody().front());
      lowering->emit(commands);
    }
  }
  return success();
}

/// The module's `moe.model` facts as the JSON that tools show.
static std::string modelJson(DictionaryAttr facts) {
  llvm::json::Object object;
  for (NamedAttribute fact : facts ? facts.getValue() : ArrayRef<NamedAttribute>()) {
    if (auto text = dyn_cast<StringAttr>(fact.getValue())) {
      object[fact.getName().strref()] = text.getValue();
    } else if (auto number = dyn_cast<IntegerAttr>(fact.getValue())) {
      object[fact.getName().strref()] = number.getInt();
    }
  }
  object.erase("checkpoint"); // a field of its own
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(std::move(object));
  return text;
}

FailureOr<LoweredProgram> mlir::moe::lowerMoeToSched(ModuleOp module, const SchedOptions &options,
                                                     bool compileKernels) {
  MLIRContext *context = module.getContext();
  context->loadDialect<sched::SchedDialect>();
  if (failed(verifyMoeLevel(module))) {
    return failure();
  }
  auto step = module.lookupSymbol<func::FuncOp>("step");
  SmallVector<func::FuncOp> functions{step};
  std::map<int64_t, func::FuncOp> steps{{1, step}};
  for (auto function : module.getOps<func::FuncOp>()) {
    if (auto from = function->getAttrOfType<IntegerAttr>(kStepFromAttr)) {
      steps[from.getInt()] = function;
    }
    if (function != step && function.isPublic()) {
      functions.push_back(function); // an entry
    }
  }
  auto facts = module->getAttrOfType<DictionaryAttr>("moe.model");
  auto fact = [&](StringRef name) { return facts ? facts.get(name) : Attribute(); };
  const int64_t vocab = cast<RankedTensorType>(step.getResultTypes().front()).getDimSize(1);
  auto maxContext = dyn_cast_or_null<IntegerAttr>(fact("max_context"));
  auto dtypeName = dyn_cast_or_null<StringAttr>(fact("dtype"));
  Type dtype =
      dtypeName && dtypeName.getValue() == "bf16" ? Type(BFloat16Type::get(context)) : Type(Float32Type::get(context));

  LoweredProgram result;
  result.module = ModuleOp::create(module.getLoc());
  OpBuilder builder = OpBuilder::atBlockEnd(result.module->getBody());
  auto program = sched::ProgramOp::create(builder, module.getLoc(), vocab, options.maxTokens,
                                          maxContext ? maxContext.getInt() : 0, dtype);
  program.setModelAttr(builder.getStringAttr(modelJson(facts)));
  if (auto checkpoint = dyn_cast_or_null<StringAttr>(fact("checkpoint"))) {
    program.setCheckpointAttr(checkpoint);
  }
  Weights weights(module, program);
  for (const NamedWeight &wanted : options.weights) {
    FailureOr<FlatSymbolRefAttr> tensor = weights.getNamed(wanted.value, wanted.name);
    if (failed(tensor)) {
      return failure();
    }
    result.weightNames.push_back(tensor->getValue().str());
  }
  SmallVector<std::unique_ptr<kernels::KernelCatalogue>> catalogues;
  for (const cpu::CpuTarget *target : options.targets) {
    catalogues.push_back(std::make_unique<cpu::CpuCatalogue>(context, *target));
  }
  if (options.gpu) {
    for (const gpu::GpuTarget *target : gpu::targetsOfPackage(*options.gpu)) {
      catalogues.push_back(std::make_unique<gpu::GpuCatalogue>(context, *target));
    }
  }
  for (std::unique_ptr<kernels::KernelCatalogue> &catalogue : catalogues) {
    if (failed(lowerVariant(module, functions, steps, program, weights, *catalogue, options, vocab))) {
      return failure();
    }
  }
  if (compileKernels) {
    for (std::unique_ptr<kernels::KernelCatalogue> &catalogue : catalogues) {
      FailureOr<std::string> bytes = catalogue->compile();
      if (failed(bytes)) {
        return failure();
      }
      result.kernels.push_back({catalogue->getTarget().str(), std::move(*bytes)});
    }
  }
  return result;
}
