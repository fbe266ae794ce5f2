//===- KernelLibrary.cpp - The kernels of one CPU variant, to shared object ---===//

#include "lowering/CPU/KernelLibrary.h"
#include "lowering/Kernels/Optimize.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "mlir/Transforms/Passes.h"
#include "runtime/include/moert/kernel_abi.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"
#include <mutex>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::cpu;

void mlir::moe::cpu::registerKernelDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, func::FuncDialect, LLVM::LLVMDialect, math::MathDialect, scf::SCFDialect,
                  vector::VectorDialect, x86vector::X86VectorDialect>();
}

KernelLibrary::KernelLibrary(MLIRContext *context, const CpuTarget &target) : target(target) {
  DialectRegistry registry;
  registerKernelDialects(registry);
  context->appendDialectRegistry(registry);
  for (StringRef dialect : registry.getDialectNames()) {
    context->getOrLoadDialect(dialect);
  }
  module = ModuleOp::create(UnknownLoc::get(context));
}

/// Down to the LLVM dialect. Math comes first: exp and erf on vectors would
/// become one call per lane.
static LogicalResult lowerToLLVMDialect(ModuleOp module) {
  RewritePatternSet patterns(module.getContext());
  populateMathPolynomialApproximationPatterns(patterns);
  if (failed(applyPatternsGreedily(module, std::move(patterns)))) {
    return module.emitError("internal error: math approximation did not converge");
  }
  PassManager passes(module.getContext());
  passes.addPass(createCanonicalizerPass());
  passes.addPass(createCSEPass());
  passes.addPass(createLoopInvariantCodeMotionPass());
  passes.addPass(createSCFToControlFlowPass());
  ConvertVectorToLLVMPassOptions vectorOptions;
  vectorOptions.x86Vector = true;
  passes.addPass(createConvertVectorToLLVMPass(vectorOptions));
  passes.addPass(createConvertMathToLLVMPass());
  passes.addPass(createArithToLLVMConversionPass());
  passes.addPass(createConvertFuncToLLVMPass());
  passes.addPass(createConvertControlFlowToLLVMPass());
  passes.addPass(createConvertIndexToLLVMPass());
  passes.addPass(createReconcileUnrealizedCastsPass());
  return passes.run(module);
}

static std::unique_ptr<llvm::TargetMachine> createTargetMachine(const CpuTarget &target, std::string &error) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  llvm::Triple triple("x86_64-unknown-linux-gnu");
  const llvm::Target *backend = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backend) {
    return nullptr;
  }
  return std::unique_ptr<llvm::TargetMachine>(
      backend->createTargetMachine(triple, target.llvmCpu, target.llvmFeatures, llvm::TargetOptions(),
                                   llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Default));
}

/// A file that goes away with its scope.
namespace {
struct TemporaryFile {
  llvm::SmallString<128> path;
  std::error_code create(llvm::StringRef suffix) {
    return llvm::sys::fs::createTemporaryFile("moe-kernels", suffix, path);
  }
  ~TemporaryFile() {
    if (!path.empty()) {
      llvm::sys::fs::remove(path);
    }
  }
};
} // namespace

static std::string findLinker() {
  for (llvm::StringRef name : {"ld.lld-22", "ld.lld"}) {
    llvm::StringRef packaged[] = {"/usr/lib/llvm-22/bin"};
    for (llvm::ArrayRef<llvm::StringRef> where : {llvm::ArrayRef<llvm::StringRef>(), llvm::ArrayRef(packaged)}) {
      if (auto path = llvm::sys::findProgramByName(name, where)) {
        return *path;
      }
    }
  }
  return "";
}

static FailureOr<std::string> link(ModuleOp module, llvm::StringRef object) {
  std::string linker = findLinker();
  if (linker.empty()) {
    return module.emitError("linking kernels needs ld.lld, which is not on the "
                            "PATH: install lld-22");
  }
  TemporaryFile in, out, messages;
  for (auto [file, suffix] : {std::pair(&in, "o"), std::pair(&out, "so"), std::pair(&messages, "txt")}) {
    if (std::error_code error = file->create(suffix)) {
      return module.emitError("cannot create a temporary file: ") << error.message();
    }
  }
  {
    std::error_code error;
    llvm::raw_fd_ostream stream(in.path, error);
    stream << object;
    stream.close();
    if (stream.has_error()) {
      // An error that is not cleared ends the process when the stream dies.
      std::error_code failure = stream.error();
      stream.clear_error();
      return module.emitError("cannot write ") << in.path << ": " << failure.message();
    }
  }
  llvm::StringRef arguments[] = {linker,   "-shared",     "--no-undefined",   "--build-id=none",
                                 "-z",     "noexecstack", "--hash-style=gnu", "-o",
                                 out.path, in.path};
  std::optional<llvm::StringRef> redirects[] = {std::nullopt, llvm::StringRef(messages.path),
                                                llvm::StringRef(messages.path)};
  std::string error;
  if (llvm::sys::ExecuteAndWait(linker, arguments, std::nullopt, redirects, 0, 0, &error) != 0) {
    auto text = llvm::MemoryBuffer::getFile(messages.path);
    return module.emitError("internal error: ") << linker << " failed: " << error << (text ? (*text)->getBuffer() : "");
  }
  auto blob = llvm::MemoryBuffer::getFile(out.path);
  if (!blob) {
    return module.emitError("cannot read the linked kernels: ") << blob.getError().message();
  }
  return (*blob)->getBuffer().str();
}

FailureOr<std::string> KernelLibrary::compile() {
  DialectRegistry translations;
  registerAllToLLVMIRTranslations(translations);
  module->getContext()->appendDialectRegistry(translations);
  if (failed(lowerToLLVMDialect(*module))) {
    return failure();
  }
  std::string error;
  std::unique_ptr<llvm::TargetMachine> machine = createTargetMachine(target, error);
  if (!machine) {
    return module->emitError("this LLVM has no x86-64 back end: ") << error;
  }
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> code = translateModuleToLLVMIR(*module, context, "kernels");
  if (!code) {
    return module->emitError("internal error: translation of kernels to LLVM IR failed");
  }
  code->setTargetTriple(machine->getTargetTriple());
  code->setDataLayout(machine->createDataLayout());
  for (llvm::Function &function : *code) {
    if (!function.isDeclaration()) {
      function.addFnAttr("target-cpu", target.llvmCpu);
      function.addFnAttr("target-features", target.llvmFeatures);
      function.addFnAttr("no-builtins");
      function.addFnAttr(llvm::Attribute::NoUnwind);
    }
  }
  llvm::Type *word = llvm::Type::getInt32Ty(context);
  new llvm::GlobalVariable(*code, word, /*isConstant=*/true, llvm::GlobalValue::ExternalLinkage,
                           llvm::ConstantInt::get(word, MOERT_KERNEL_ABI_VERSION), "moert_kernel_abi");
  kernels::optimizeKernels(*code, *machine);

  llvm::SmallString<0> object;
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager emission;
  if (machine->addPassesToEmitFile(emission, stream, nullptr, llvm::CodeGenFileType::ObjectFile)) {
    return module->emitError("internal error: the x86-64 back end cannot write objects");
  }
  emission.run(*code);
  return link(*module, object);
}
