//===- MoeDialect.cpp - Registration of types, attributes and ops -----------===//

#include "dialects/Moe/IR/MoeOps.h"
#include "llvm/ADT/TypeSwitch.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
using namespace mlir::moe;

#include "dialects/Moe/IR/MoeDialect.cpp.inc"
#include "dialects/Moe/IR/MoeEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Moe/IR/MoeAttrs.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Moe/IR/MoeTypes.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/Moe/IR/MoeOps.cpp.inc"

void MoeDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Moe/IR/MoeAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/Moe/IR/MoeTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Moe/IR/MoeOps.cpp.inc"
      >();
}

LogicalResult KVCacheType::verify(llvm::function_ref<InFlightDiagnostic()> emitError, int64_t heads, int64_t keyDim,
                                  int64_t valueDim, Type element) {
  return success();
}
