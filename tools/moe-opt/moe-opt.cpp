//===- moe-opt.cpp - Every pass and pipeline on the command line ------------===//
//
// mlir-opt with our dialects and passes, and with the guard of GuardedParse.h in
// front of the parser. Options, reproducers, timing and remarks are MLIR's own.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "tools/common/GuardedParse.h"
#include "tools/common/RegisterAll.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ToolOutputFile.h"
#include "llvm/Support/WithColor.h"

using namespace mlir;

/// Reports a user error.
static int fail(const llvm::Twine &message) {
  llvm::errs() << "moe-opt: " << message << "\n";
  return 1;
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  DialectRegistry registry;
  moe::registerAllDialects(registry);
  moe::registerAllPasses();

  llvm::cl::opt<bool> allowBytecode("allow-bytecode",
                                    llvm::cl::desc("Accept MLIR bytecode (only from a source that you trust)"));
  auto [input, output] = registerAndParseCLIOptions(argc, argv,
                                                    "moe-opt: passes and pipelines of the MoE graph compiler\n\n"
                                                    "Example: moe-opt --moe-verify-moe-level model.mlir\n",
                                                    registry);
  MlirOptMainConfig config = MlirOptMainConfig::createFromCLOptions();
  if (config.shouldShowDialects() || config.shouldListPasses()) {
    return asMainReturnCode(MlirOptMain(argc, argv, input, output, registry));
  }

  moe::ParseLimits limits;
  limits.allowBytecode = allowBytecode;
  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> buffer = moe::readGuarded(input, limits);
  if (!buffer) {
    return fail(llvm::toString(buffer.takeError()));
  }
  std::string error;
  std::unique_ptr<llvm::ToolOutputFile> file = openOutputFile(output, &error);
  if (!file) {
    return fail(error);
  }
  if (failed(MlirOptMain(file->os(), std::move(*buffer), registry, config))) {
    return 1;
  }
  file->keep();
  return 0;
}
