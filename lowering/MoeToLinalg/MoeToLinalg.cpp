//===- MoeToLinalg.cpp - The pass moe-lower-to-linalg -----------------------===//
//
// The pass does what needs the whole function: weights and states become
// arguments, the caches are threaded through the attention ops in program
// order, what is left is diagnosed. Everything else is a pattern of its
// family, which takes whatever the verifiers of the dialect let through.
//
//===----------------------------------------------------------------------===//

#include "lowering/MoeToLinalg/MoeToLinalg.h"
#include "dialects/Moe/IR/MoeOps.h"
#include "lowering/MoeToLinalg/LinalgBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"
#include "llvm/ADT/MapVector.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELOWERTOLINALG
#define GEN_PASS_DEF_MOEVERIFYLINALG
#include "lowering/MoeToLinalg/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The two tensors of a KV cache, as they are at some point of a function.
struct CacheValues {
  Value keys, values;
};

/// Gives functions the states and weights of their module as arguments and lowers what refers to them.
class Signatures {
public:
  explicit Signatures(ModuleOp module)
      : states(llvm::to_vector(module.getOps<StateOp>())), weights(llvm::to_vector(module.getOps<WeightOp>())) {}

  bool change() const { return !states.empty() || !weights.empty(); }

  LogicalResult rewrite(func::FuncOp function) {
    if (!function.getBody().hasOneBlock()) {
      return function.emitError()
             << "function @" << function.getSymName() << " has " << function.getBody().getBlocks().size()
             << " blocks, but states can be returned from one block only; use scf ops for control flow";
    }
    llvm::MapVector<StringRef, CacheValues> caches;
    for (StateOp state : states) {
      caches[state.getSymName()] = addState(function, state);
    }
    llvm::StringMap<Value> values;
    for (WeightOp weight : weights) {
      values[weight.getSymName()] =
          addArgument(function, weight.getTensorType(), "moe.weight", weight.getTensorName(), weight.getLoc());
    }
    IRRewriter rewriter(function.getContext());
    function.walk([&](GetWeightOp op) { rewriter.replaceOp(op, values.lookup(op.getWeight())); });
    for (Operation &op : llvm::make_early_inc_range(function.front())) {
      if (auto attention = dyn_cast<AttentionOp>(op)) {
        lowerAttention(rewriter, attention, caches);
      }
    }
    returnStates(function, caches);
    return success();
  }

  void erase() {
    llvm::for_each(states, [](StateOp op) { op.erase(); });
    llvm::for_each(weights, [](WeightOp op) { op.erase(); });
  }

private:
  SmallVector<StateOp> states;
  SmallVector<WeightOp> weights;

  static Value addArgument(func::FuncOp function, Type type, StringRef kind, const Twine &name, Location loc) {
    unsigned index = function.getNumArguments();
    auto attribute = StringAttr::get(function.getContext(), name);
    DictionaryAttr attributes = DictionaryAttr::get(function.getContext(), {NamedAttribute(kind, attribute)});
    LogicalResult inserted = function.insertArgument(index, type, attributes, loc);
    assert(succeeded(inserted) && "a func.func takes any argument");
    (void)inserted;
    return function.getArgument(index);
  }

  static CacheValues addState(func::FuncOp function, StateOp state) {
    auto type = llvm::cast<KVCacheType>(state.getType());
    auto tensorType = [&](int64_t width) {
      return RankedTensorType::get({ShapedType::kDynamic, ShapedType::kDynamic, type.getHeads(), width},
                                   type.getElement());
    };
    Value keys =
        addArgument(function, tensorType(type.getKeyDim()), "moe.state", state.getSymName() + ".keys", state.getLoc());
    Value values = addArgument(function, tensorType(type.getValueDim()), "moe.state", state.getSymName() + ".values",
                               state.getLoc());
    return {keys, values};
  }

  static void lowerAttention(IRRewriter &rewriter, AttentionOp op, llvm::MapVector<StringRef, CacheValues> &caches) {
    CacheValues &cache = caches[op.getCache()];
    AttentionValues after = buildAttention(rewriter, op, cache.keys, cache.values);
    cache = {after.keys, after.values};
    rewriter.replaceOp(op, after.result);
  }

  static void returnStates(func::FuncOp function, const llvm::MapVector<StringRef, CacheValues> &caches) {
    Operation *terminator = function.front().getTerminator();
    for (const auto &[name, cache] : caches) {
      for (Value value : {cache.keys, cache.values}) {
        terminator->insertOperands(terminator->getNumOperands(), value);
      }
    }
    auto results = llvm::to_vector(terminator->getOperandTypes());
    function.setFunctionType(FunctionType::get(function.getContext(), function.getArgumentTypes(), results));
  }
};

/// Why an op is left, and what to do.
StringRef nextStep(Operation *op) {
  if (isa<AttentionOp>(op) && !isa<func::FuncOp>(op->getParentOp())) {
    return "it is inside a region, through which the cache cannot be passed; move it to the top level of the function";
  }
  if (isa<AllReduceOp, AllGatherOp, ReduceScatterOp, MaskPaddingOp, LocalizeOp, DispatchOp, CollectOp, PlaceOp,
          ShardOp>(op)) {
    return "it is of a module for several ranks, of which linalg knows nothing; lower the module before it is divided "
           "among ranks";
  }
  return "it has no lowering; run the pass that removes it first";
}

struct LowerToLinalgPass : moe::impl::MoeLowerToLinalgBase<LowerToLinalgPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    Signatures signatures(module);
    int64_t before = countMoeOps(module);
    if (signatures.change()) {
      if (failed(checkCalls(module))) {
        return signalPassFailure();
      }
      for (auto function : module.getOps<func::FuncOp>()) {
        if (!function.isDeclaration() && failed(signatures.rewrite(function))) {
          return signalPassFailure();
        }
      }
    }
    RewritePatternSet patterns(&getContext());
    populateNormPatterns(patterns);
    populateLinearPatterns(patterns);
    populateRopePatterns(patterns);
    populateFFNPatterns(patterns);
    populateRoutingPatterns(patterns);
    populateExpertPatterns(patterns);
    populateWeightPatterns(patterns);
    walkAndApplyPatterns(module, std::move(patterns));
    if (failed(diagnoseLeftovers(module))) {
      return signalPassFailure();
    }
    signatures.erase();
    numLowered += before;
  }

private:
  static bool isMoeComputation(Operation *op) {
    return isa_and_nonnull<MoeDialect>(op->getDialect()) && !isa<StateOp, WeightOp>(op);
  }

  static int64_t countMoeOps(ModuleOp module) {
    int64_t count = 0;
    module.walk([&](Operation *op) { count += isMoeComputation(op); });
    return count;
  }

  /// A call would have to pass on arguments that its caller's signature decides.
  static LogicalResult checkCalls(ModuleOp module) {
    SymbolTable symbols(module);
    WalkResult result = module.walk([&](func::CallOp call) {
      auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
      if (!callee || callee.isDeclaration()) {
        return WalkResult::advance();
      }
      call.emitOpError()
          << "calls @" << call.getCallee()
          << ", whose signature changes when weights and states become arguments; inline the call first (--inline)";
      return WalkResult::interrupt();
    });
    return failure(result.wasInterrupted());
  }

  static LogicalResult diagnoseLeftovers(ModuleOp module) {
    bool left = false;
    module.walk([&](Operation *op) {
      if (isMoeComputation(op)) {
        left = true;
        op->emitOpError("cannot be lowered to linalg: ") << nextStep(op);
      }
    });
    return failure(left);
  }
};

/// The linalg ops that other compilers have kept taking.
bool isStableLinalg(Operation *op) {
  return isa<linalg::GenericOp, linalg::MatmulOp, linalg::BatchMatmulOp, linalg::FillOp, linalg::ReduceOp,
             linalg::TransposeOp, linalg::IndexOp, linalg::YieldOp>(op);
}

struct VerifyLinalgPass : moe::impl::MoeVerifyLinalgBase<VerifyLinalgPass> {
  void runOnOperation() override {
    WalkResult result = getOperation().walk([](Operation *op) {
      if (isa_and_nonnull<BuiltinDialect, func::FuncDialect, arith::ArithDialect, math::MathDialect, scf::SCFDialect,
                          tensor::TensorDialect>(op->getDialect()) ||
          isStableLinalg(op)) {
        return WalkResult::advance();
      }
      op->emitOpError(
          "is not in the linalg hand-off (func, arith, math, scf, tensor and linalg.generic, matmul, batch_matmul, "
          "fill, reduce, transpose); run moe-lower-to-linalg first");
      return WalkResult::interrupt();
    });
    if (result.wasInterrupted()) {
      signalPassFailure();
    }
  }
};

} // namespace

void moe::buildLinalgPipeline(OpPassManager &pm) {
  pm.addPass(createMoeLowerToLinalg());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createMoeVerifyLinalg());
}

void moe::registerMoeToLinalg() {
  registerMoeToLinalgPasses();
  PassPipelineRegistration<>("moe-to-linalg", "lower moe to linalg, clean up, and check the result",
                             buildLinalgPipeline);
}
