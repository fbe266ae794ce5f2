//===- Model.cpp - The module that a command works on, where it came from ---===//

#include "tools/moec/Model.h"
#include "dialects/Moe/IR/MoeLayers.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Analysis/ExchangeCost.h"
#include "passes/Analysis/FusionMaps.h"
#include "passes/Analysis/Placement/Facts.h"
#include "passes/Analysis/PlacementFile.h"
#include "passes/Json/JsonFile.h"
#include "passes/Passes.h"
#include "tools/common/GuardedParse.h"
#include "tools/common/RegisterAll.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"

using namespace moec;
using llvm::Expected;
using llvm::StringRef;
using mlir::moe::makeError;

static void loadDialects(mlir::MLIRContext &context) {
  mlir::DialectRegistry registry;
  mlir::moe::registerAllDialects(registry);
  context.appendDialectRegistry(registry);
  context.loadDialect<mlir::func::FuncDialect, mlir::moe::MoeDialect>();
}

/// The contract of the moe level.
static mlir::LogicalResult verifyLevel(mlir::ModuleOp module) {
  mlir::PassManager manager(module.getContext());
  manager.addPass(mlir::moe::createVerifyMoeLevel());
  return manager.run(module);
}

/// What `moe.model` of the module says; keys that are absent leave the fields as they are.
static void readModelAttr(Model &model) {
  auto facts = model.module.get()->getAttrOfType<mlir::DictionaryAttr>(mlir::moe::kModelAttr);
  if (!facts) {
    return;
  }
  auto text = [&](StringRef key, std::string &out) {
    if (auto value = facts.getAs<mlir::StringAttr>(key)) {
      out = value.getValue().str();
    }
  };
  auto number = [&](StringRef key, int64_t &out) {
    if (auto value = facts.getAs<mlir::IntegerAttr>(key); value && value.getType().isInteger(64)) {
      out = value.getInt();
    }
  };
  text("family", model.family);
  text("dtype", model.dtype);
  text("checkpoint", model.directory);
  number("parameters", model.parameters);
  number("trained_context", model.trainedContext);
}

/// IR that no importer wrote says nothing of itself; its weights can be counted.
static void countParameters(Model &model) {
  for (mlir::moe::WeightOp weight : model.module->getOps<mlir::moe::WeightOp>()) {
    model.parameters += weight.getTensorType().getNumElements();
  }
}

/// The maps of a plan, before anything is made of them.
static llvm::Error checkMaps(const Model &model, StringRef file) {
  Expected<mlir::moe::FusionPlan> plan = mlir::moe::readFusionPlan(file);
  if (!plan) {
    return plan.takeError();
  }
  int64_t hidden = 0;
  model.module.get()->walk([&](mlir::moe::EmbeddingOp op) { hidden = op.getType().getDimSize(1); });
  return mlir::moe::checkFusionMaps(*plan, file, hidden);
}

llvm::Error moec::applyPlan(Model &model, StringRef plan) {
  if (llvm::Error error = checkMaps(model, plan)) {
    return error;
  }
  mlir::MLIRContext *context = model.module->getContext();
  // Remarks of the pass are what the user wants to know.
  mlir::ScopedDiagnosticHandler remarks(context, [&](mlir::Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() != mlir::DiagnosticSeverity::Remark) {
      return mlir::failure();
    }
    model.notes.push_back((plan + ": " + diagnostic.str()).str());
    return mlir::success();
  });
  mlir::PassManager manager(context);
  mlir::moe::FuseFFNOptions options;
  options.plan = plan.str();
  manager.addPass(mlir::moe::createFuseFFN(options));
  manager.addPass(mlir::moe::createVerifyMoeLevel());
  if (mlir::failed(manager.run(*model.module))) {
    return makeError("the plan " + plan + " was not carried out");
  }
  readModelAttr(model);
  return llvm::Error::success();
}

/// What --exchange auto reckons with: the machines of a topology file, or those of this runtime.
static Expected<mlir::moe::ExchangeMachine> readMachine(const RankOptions &options) {
  mlir::moe::ExchangeMachine machine =
      options.areGpus ? mlir::moe::ExchangeMachine::gpus() : mlir::moe::ExchangeMachine();
  if (options.topology.empty()) {
    return machine;
  }
  moert::Result<moe::placement::Topology> topology = moe::placement::readTopology(options.topology);
  if (!topology.ok()) {
    return makeError(topology.status().message());
  }
  // Of the other ranks some are on the same node; what comes from the rest comes over the network.
  const double others = std::max<double>(1, static_cast<double>(options.ranks - 1));
  const double far = std::max<double>(0, static_cast<double>(options.ranks - topology->ranksPerNode)) / others;
  machine.latency = topology->roundSeconds;
  // What the host of a GPU reads are the counts of all ranks, which a round of their own brings together.
  machine.hostRead = topology->readSeconds + (options.areGpus ? topology->roundSeconds : 0);
  machine.linkRate = 1 / ((1 - far) / topology->nodeRate + far / topology->networkRate);
  machine.memoryRate = topology->memoryRate;
  return machine;
}

/// Both strategies' costs, and which is used from which T on.
static llvm::json::Object describeExchange(const mlir::moe::ExchangeCosts &costs, const RankOptions &options) {
  auto describe = [](const mlir::moe::ExchangeCost &cost) {
    return llvm::json::Object{{"rounds", cost.rounds},         {"host_reads", cost.reads},
                              {"bytes_per_token", cost.bytes}, {"result_rows_per_token", cost.rows},
                              {"seconds", cost.seconds},       {"seconds_per_token", cost.secondsPerToken}};
  };
  const mlir::moe::ExchangePlan plan = options.exchange == "auto"
                                           ? costs.choose(options.maxTokens)
                                           : mlir::moe::ExchangePlan{options.exchange == "exact"};
  return llvm::json::Object{
      {"strategy", options.exchange},
      {"layers", costs.layers},
      {"gather", describe(costs.gather)},
      {"exact", describe(costs.exact)},
      {"few_tokens", plan.isExact ? "exact" : "gather"},
      {"changes_at", plan.changesAt ? llvm::json::Value(plan.changesAt) : llvm::json::Value(nullptr)}};
}

llvm::Error moec::divideAmongRanks(Model &model, RankOptions &options) {
  mlir::MLIRContext *context = model.module->getContext();
  const bool routes =
      model.module->walk([](mlir::moe::ExpertsOp) { return mlir::WalkResult::interrupt(); }).wasInterrupted();
  if (!options.map.empty()) {
    Expected<mlir::moe::PlacementFile> map = mlir::moe::readPlacementFile(options.map);
    if (!map) {
      return map.takeError();
    }
    if (options.ranks == 0) {
      options.ranks = map->ranks;
    }
  }
  options.ranks = std::max<int64_t>(options.ranks, 1);
  if (options.parallel.empty()) {
    options.parallel = routes ? "expert" : "tensor";
  }
  const bool isExchanged = options.parallel == "expert" && options.ranks > 1;
  if (!isExchanged && (!options.exchange.empty() || !options.topology.empty())) {
    return makeError("--exchange and --topology say how tokens travel, but here none do: they are for --ranks above 1 "
                     "and --parallel expert");
  }
  if (options.exchange.empty()) {
    options.exchange = "auto";
  }
  Expected<mlir::moe::ExchangeMachine> machine = readMachine(options);
  if (!machine) {
    return machine.takeError();
  }
  // The same is said of many layers: once, with their number.
  llvm::MapVector<std::string, int64_t, std::map<std::string, unsigned>> said;
  mlir::ScopedDiagnosticHandler remarks(context, [&](mlir::Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() != mlir::DiagnosticSeverity::Remark) {
      return mlir::failure();
    }
    ++said[diagnostic.str()];
    return mlir::success();
  });
  auto failure = [&] { return makeError("the model was not divided among " + llvm::Twine(options.ranks) + " ranks"); };
  if (!options.map.empty()) {
    mlir::PassManager placing(context);
    placing.addPass(mlir::moe::createPlaceExperts({options.map, options.ranks}));
    if (mlir::failed(placing.run(*model.module))) {
      return failure();
    }
  }
  mlir::PassManager manager(context);
  if (options.parallel == "expert") {
    if (auto step = model.module->lookupSymbol<mlir::func::FuncOp>("step"); step && isExchanged && routes) {
      mlir::FailureOr<mlir::moe::ExchangeCosts> costs = mlir::moe::priceExchanges(step, options.ranks, *machine);
      if (mlir::failed(costs)) {
        return failure();
      }
      model.exchange = describeExchange(*costs, options);
    }
    mlir::moe::ExpertParallelOptions divide;
    divide.ranks = options.ranks;
    divide.exchange = options.exchange;
    divide.maxTokens = options.maxTokens;
    divide.latency = machine->latency * 1e6;
    divide.hostRead = machine->hostRead * 1e6;
    divide.link = machine->linkRate * 1e-9;
    divide.memory = machine->memoryRate * 1e-9;
    manager.addPass(mlir::moe::createExpertParallel(divide));
  } else {
    manager.addPass(mlir::moe::createTensorParallel({options.ranks, options.attention}));
  }
  manager.addPass(mlir::moe::createVerifyMoeLevel());
  if (mlir::failed(manager.run(*model.module))) {
    return failure();
  }
  for (const auto &[text, count] : said) {
    model.notes.push_back(count == 1 ? text : std::to_string(count) + " layers: " + text);
  }
  return llvm::Error::success();
}

Expected<std::vector<moert::readers::Checkpoint>> moec::openWeightFiles(const Model &model) {
  std::vector<moert::readers::Checkpoint> files;
  mlir::Attribute named = model.module.get()->getAttr(mlir::moe::kWeightFilesAttr);
  auto paths = llvm::dyn_cast_or_null<mlir::ArrayAttr>(named);
  if (named && !paths) {
    return makeError("'" + mlir::moe::kWeightFilesAttr + "' of the module must be an array of paths");
  }
  for (mlir::Attribute entry : paths ? paths.getValue() : llvm::ArrayRef<mlir::Attribute>()) {
    auto path = llvm::dyn_cast<mlir::StringAttr>(entry);
    if (!path || !llvm::sys::fs::is_regular_file(path.getValue())) {
      return makeError("'" + mlir::moe::kWeightFilesAttr + "' of the module must name files, but " +
                       (path ? path.getValue() + " is none" : "an entry is no string") +
                       "; run moec where the plan's path can be seen from");
    }
    Expected<moert::readers::Checkpoint> file = mlir::moe::openWeights(path.getValue());
    if (!file) {
      return file.takeError();
    }
    files.push_back(std::move(*file));
  }
  return files;
}

Expected<Model> moec::importDirectory(mlir::MLIRContext &context, mlir::moe::CheckpointDirectory directory,
                                      const ModelOptions &options) {
  loadDialects(context);
  mlir::moe::ImportOptions importOptions{options.dtype, options.allowUnusedTensors, directory.path};
  Expected<mlir::moe::ImportedModel> imported = mlir::moe::importModel(
      context, directory.config, mlir::moe::getTensorHeaders(directory.checkpoint), importOptions);
  if (!imported) {
    std::string text = llvm::toString(imported.takeError()), message;
    for (StringRef line : llvm::split(text, '\n')) {
      message += (message.empty() ? "" : "\n") + directory.path + ": " + line.str();
    }
    return makeError(message);
  }
  Model model;
  model.module = std::move(imported->module);
  model.checkpoint = std::move(directory.checkpoint);
  model.tokenizer = std::move(directory.tokenizer);
  model.notes = std::move(imported->notes);
  readModelAttr(model);
  if (mlir::failed(verifyLevel(*model.module))) {
    return makeError(
        directory.path +
        ": the imported model breaks the rules of the moe level (above); this is a bug in moec, please report it");
  }
  return model;
}

Expected<Model> moec::parseModel(mlir::MLIRContext &context, StringRef path) {
  loadDialects(context);
  llvm::sys::fs::file_status status;
  if (std::error_code error = llvm::sys::fs::status(path, status)) {
    return makeError(path + ": cannot be read: " + error.message());
  }
  if (!llvm::sys::fs::is_regular_file(status)) {
    return makeError(path + ": is neither a Hugging Face model directory, a GGUF file nor a file of moe IR");
  }
  Expected<mlir::OwningOpRef<mlir::ModuleOp>> module = mlir::moe::parseGuarded(path, &context);
  if (!module) {
    return module.takeError();
  }
  if (!*module || mlir::failed(verifyLevel(**module))) {
    return makeError(path + ": is not a valid module of moe IR");
  }
  Model model;
  model.module = std::move(*module);
  readModelAttr(model);
  if (model.family.empty()) {
    model.family = "moe IR";
    countParameters(model);
  }
  return model;
}

std::string moec::printModule(mlir::ModuleOp module, bool locations) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  mlir::OpPrintingFlags flags;
  if (locations) {
    flags.enableDebugInfo();
  }
  module->print(stream, flags);
  stream << '\n';
  return text;
}

std::string moec::summarize(const Model &model) {
  std::string activations = model.dtype.empty() ? "" : ", activations " + model.dtype;
  return model.family + ", " + withCommas(model.parameters) + " parameters" + activations;
}

llvm::json::Object moec::describeModel(const Model &model) {
  return llvm::json::Object{{"family", model.family},         {"dtype", model.dtype},
                            {"parameters", model.parameters}, {"trained_context", model.trainedContext},
                            {"checkpoint", model.directory},  {"notes", llvm::json::Array(model.notes)}};
}
