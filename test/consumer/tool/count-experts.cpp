// count-experts: an outside tool on the moe dialect. Parses a model, checks it with a pass, says what is in it.
//
//   count-experts model.mlir

#include "dialects/Moe/IR/MoeOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

int main(int argc, char **argv) {
  if (argc != 2) {
    llvm::errs() << "usage: count-experts model.mlir\n";
    return 1;
  }
  DialectRegistry registry;
  registry.insert<moe::MoeDialect, func::FuncDialect>();
  MLIRContext context(registry);
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(argv[1], &context);
  if (!module) {
    return 1; // The parser has said why.
  }
  PassManager passes(&context);
  passes.addPass(moe::createVerifyMoeLevel());
  if (failed(passes.run(*module))) {
    return 1;
  }

  int64_t parameters = 0, layers = 0, experts = 0;
  module->walk([&](moe::WeightOp weight) { parameters += weight.getTensorType().getNumElements(); });
  module->walk([&](moe::RouteOp route) {
    ++layers;
    experts += cast<RankedTensorType>(route.getLogits().getType()).getDimSize(1);
  });
  llvm::outs() << parameters << " parameters, " << layers << " MoE layers, " << experts << " experts\n";
  return 0;
}
