//===- moe-translate.cpp - sched IR to a program file, and back -------------===//
//
//   moe-translate --sched-to-program step.mlir -o program.moep
//   moe-translate --program-to-sched PKG/program.moep
//
//===----------------------------------------------------------------------===//

#include "lowering/SchedToProgram/SchedToProgram.h"
#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"
#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;

int main(int argc, char **argv) {
  TranslateFromMLIRRegistration toProgram(
      "sched-to-program", "write the program file of a sched.program that is complete (located, with kernels and keys)",
      [](ModuleOp module, raw_ostream &output) -> LogicalResult {
        FailureOr<sched::ProgramOp> program = sched::getProgram(module);
        if (failed(program)) {
          return failure();
        }
        FailureOr<std::string> bytes = sched::serializeProgram(*program);
        if (failed(bytes)) {
          return failure();
        }
        output << *bytes;
        return success();
      },
      [](DialectRegistry &registry) { registry.insert<sched::SchedDialect>(); });
  TranslateToMLIRRegistration toSched(
      "program-to-sched", "read a program file as sched IR",
      [](llvm::SourceMgr &sources, MLIRContext *context) -> OwningOpRef<Operation *> {
        const llvm::MemoryBuffer *buffer = sources.getMemoryBuffer(sources.getMainFileID());
        Location location = FileLineColLoc::get(context, buffer->getBufferIdentifier(), 0, 0);
        return sched::deserializeProgram(buffer->getBuffer(), location);
      },
      [](DialectRegistry &registry) { registry.insert<sched::SchedDialect>(); });
  return failed(mlirTranslateMain(argc, argv, "moe-translate: sched IR to program files and back\n"));
}
