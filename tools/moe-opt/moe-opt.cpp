//===- moe-opt.cpp - Every pass and pipeline on the command line ------------===//

#include "dialects/Moe/IR/MoeOps.h"
#include "dialects/Sched/IR/SchedOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<mlir::moe::MoeDialect, mlir::sched::SchedDialect, mlir::func::FuncDialect>();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "moe-opt: the MoE graph compiler's optimizer driver\n", registry));
}
