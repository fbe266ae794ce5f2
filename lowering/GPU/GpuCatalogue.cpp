//===- GpuCatalogue.cpp - The kernels of one GPU target, to PTX -----------===//

#include "lowering/GPU/GpuCatalogue.h"
#include "lowering/GPU/Kernels.h"
#include "lowering/GPU/TiledAttention.h"
#include "lowering/Kernels/Optimize.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"
#include <mutex>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::gpu;

/// What a block may have without asking for more.
static constexpr int64_t sharedBytes = 48 << 10;

void mlir::moe::gpu::registerKernelDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, LLVM::LLVMDialect, math::MathDialect, NVVM::NVVMDialect, scf::SCFDialect>();
}

GpuCatalogue::GpuCatalogue(MLIRContext *context, const GpuTarget &target) : target(target) {
  DialectRegistry registry;
  registerKernelDialects(registry);
  context->appendDialectRegistry(registry);
  for (StringRef dialect : registry.getDialectNames()) {
    context->getOrLoadDialect(dialect);
  }
  module = ModuleOp::create(UnknownLoc::get(context));
}

//===----------------------------------------------------------------------===//
// Choices
//===----------------------------------------------------------------------===//

kernels::MatmulTile GpuCatalogue::matmulTile(const kernels::Matmul &kernel) const {
  return gpu::matmulTile(target, kernel);
}

int64_t GpuCatalogue::weightBox(const kernels::Matmul &kernel) const {
  return usesWarpgroups(target, kernel) ? warpgroupTile().outputs : 0;
}

int64_t GpuCatalogue::expertTileRows() const { return gpu::expertTileRows(target); }

// A workgroup on warpgroups has a multiprocessor to itself, and goes ahead with copies of its next tile while it stores
// the results of the last: it should have several. But workgroups are also what evens out multiprocessors, which are
// not all as fast, and on some cards fewer (114 of an H100 on PCIe): eight for each. Where workgroups are small, some
// on a multiprocessor, each tile has one of its own.
int64_t GpuCatalogue::mostWorkgroups(const kernels::Matmul &kernel) const {
  return usesWarpgroups(target, kernel) ? 8 * target.multiprocessors : 0;
}

// A row begins at a multiple of its length, so that loads of a row are aligned if its length is. The end of N is
// checked wherever it matters; on warpgroups outputs are stored by pairs.
void GpuCatalogue::specialise(kernels::Matmul &kernel, int64_t k, int64_t n) const {
  kernel.kDivisible = k % matmulVector == 0;
  if (usesWarpgroups(target, kernel)) {
    kernel.nDivisible &= n % 2 == 0;
  }
}

kernels::AttentionCut GpuCatalogue::cut(kernels::Attention &kernel, const kernels::AttentionSizes &sizes) const {
  if (isTiled(kernel)) {
    return cutTiled(kernel, sizes);
  }
  kernel.many = false;
  return {1, sizes.perHead};
}

std::string GpuCatalogue::whyNot(const kernels::Kernel &kernel, int64_t experts) const {
  if (experts > maxExperts) {
    return "but the kernels of GPUs have room for " + std::to_string(maxExperts) +
           " (those of CPUs, --target cpu, for more)";
  }
  if (auto *attention = std::get_if<kernels::Attention>(&kernel); attention && !isTiled(*attention)) {
    const int64_t warps = getThreads(target, kernel) / KernelBuilder::warpSize;
    const int64_t bytes = 4 * (attention->keyDim + warps * (attention->valueDim + 2));
    if (bytes > sharedBytes) {
      return "has heads of key_dim " + std::to_string(attention->keyDim) + " and value_dim " +
             std::to_string(attention->valueDim) + ", for which the GPU kernel needs " + std::to_string(bytes) +
             " bytes of shared memory, but has " + std::to_string(sharedBytes) + ": compile with --target cpu";
    }
  }
  return "";
}

int64_t mlir::moe::gpu::getThreads(const GpuTarget &target, const kernels::Kernel &kernel) {
  if (auto *matmul = std::get_if<kernels::Matmul>(&kernel); matmul && usesWarpgroups(target, *matmul)) {
    return warpgroupThreads();
  }
  if (std::holds_alternative<kernels::Route>(kernel) || std::holds_alternative<kernels::RoutingStatistics>(kernel) ||
      std::holds_alternative<kernels::MaskPadding>(kernel)) {
    return KernelBuilder::warpSize;
  }
  if (std::holds_alternative<kernels::RMSNorm>(kernel) || std::holds_alternative<kernels::Localize>(kernel) ||
      std::holds_alternative<kernels::Dispatch>(kernel)) {
    return 256;
  }
  if (std::holds_alternative<kernels::SortByExpert>(kernel)) {
    return sortThreads;
  }
  if (std::holds_alternative<kernels::Pick>(kernel)) {
    return pickThreads;
  }
  return matmulThreads;
}

int64_t mlir::moe::gpu::getSharedBytes(const GpuTarget &target, const kernels::Kernel &kernel) {
  if (auto *matmul = std::get_if<kernels::Matmul>(&kernel)) {
    return usesWarpgroups(target, *matmul) ? warpgroupSharedBytes(*matmul) : 0;
  }
  auto *attention = std::get_if<kernels::Attention>(&kernel);
  return attention && isTiled(*attention) ? tiledAttentionSharedBytes(*attention) : 0;
}

std::string GpuCatalogue::use(const kernels::Kernel &kernel) {
  return std::visit(
      [&](const auto &config) {
        std::string name = config.name();
        if (known.insert(name).second) {
          symbols.push_back({name, getThreads(target, kernel), getSharedBytes(target, kernel), target.launchesEarly});
          KernelBuilder builder(*module, target, name, getThreads(target, kernel));
          emit(config, builder);
          builder.finish();
          if constexpr (std::is_same_v<std::decay_t<decltype(config)>, kernels::Matmul>) {
            usesMaps |= weightBox(config) > 0;
          }
        }
        return name;
      },
      kernel);
}

//===----------------------------------------------------------------------===//
// Translation
//===----------------------------------------------------------------------===//

static LogicalResult lowerToLLVMDialect(ModuleOp module) {
  RewritePatternSet patterns(module.getContext());
  populatePolynomialApproximateErfPattern(patterns);
  if (failed(applyPatternsGreedily(module, std::move(patterns)))) {
    return module.emitError("internal error: math approximation did not converge");
  }
  PassManager passes(module.getContext());
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
  passes.addPass(createLoopInvariantCodeMotionPass());
  passes.addPass(createSCFToControlFlowPass());
  passes.addPass(createConvertMathToLLVMPass());
  passes.addPass(createArithToLLVMConversionPass());
  passes.addPass(createConvertControlFlowToLLVMPass());
  passes.addPass(createReconcileUnrealizedCastsPass());
  return passes.run(module);
}

static std::unique_ptr<llvm::TargetMachine> createTargetMachine(const GpuTarget &target, StringRef features,
                                                                std::string &error) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  llvm::Triple triple("nvptx64-nvidia-cuda");
  const llvm::Target *backend = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backend) {
    return nullptr;
  }
  return std::unique_ptr<llvm::TargetMachine>(
      backend->createTargetMachine(triple, target.llvmCpu, features, llvm::TargetOptions(), std::nullopt, std::nullopt,
                                   llvm::CodeGenOptLevel::Default));
}

FailureOr<std::string> GpuCatalogue::compile() {
  DialectRegistry translations;
  registerAllToLLVMIRTranslations(translations);
  module->getContext()->appendDialectRegistry(translations);
  if (failed(lowerToLLVMDialect(*module))) {
    return failure();
  }
  std::string error;
  std::unique_ptr<llvm::TargetMachine> machine =
      createTargetMachine(target, usesMaps ? target.mapFeatures : target.llvmFeatures, error);
  if (!machine) {
    return module->emitError("this LLVM has no NVPTX back end: ") << error;
  }
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> code = translateModuleToLLVMIR(*module, context, "kernels");
  if (!code) {
    return module->emitError("internal error: translation of kernels to LLVM IR failed");
  }
  code->setTargetTriple(machine->getTargetTriple());
  code->setDataLayout(machine->createDataLayout());
  // It takes loads of vectors apart; the back end puts them together again, but has lost by then that nothing writes
  // what they read (ld.global.nc).
  kernels::optimizeKernels(*code, *machine, /*without=*/"VectorCombinePass");

  llvm::SmallString<0> text;
  llvm::raw_svector_ostream stream(text);
  llvm::legacy::PassManager emission;
  if (machine->addPassesToEmitFile(emission, stream, nullptr, llvm::CodeGenFileType::AssemblyFile)) {
    return module->emitError("internal error: the NVPTX back end cannot write PTX");
  }
  emission.run(*code);
  return text.str().str();
}
