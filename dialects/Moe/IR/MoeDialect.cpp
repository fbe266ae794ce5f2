//===- MoeDialect.cpp - Registration of types, attributes and ops -----------===//

#include "dialects/Moe/IR/MoeOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

#include "dialects/Moe/IR/MoeDialect.cpp.inc"
#include "dialects/Moe/IR/MoeEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Moe/IR/MoeAttrs.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Moe/IR/MoeTypes.cpp.inc"
/// `, gate_bias TYPE , up_bias TYPE , down_bias TYPE`, each part optional: an optional group cannot begin with a comma
/// that the next group begins with too.
static ParseResult parseBiasTypes(OpAsmParser &parser, Type &gate, Type &up, Type &down) {
  while (succeeded(parser.parseOptionalComma())) {
    StringRef name;
    SMLoc loc = parser.getCurrentLocation();
    if (failed(parser.parseKeyword(&name))) {
      return failure();
    }
    Type *type = name == "gate_bias" ? &gate : name == "up_bias" ? &up : name == "down_bias" ? &down : nullptr;
    if (!type || *type) {
      return parser.emitError(loc) << "expected gate_bias, up_bias or down_bias, each at most once, but got '" << name
                                   << "'";
    }
    if (failed(parser.parseType(*type))) {
      return failure();
    }
  }
  return success();
}

static void printBiasTypes(OpAsmPrinter &printer, Operation *, Type gate, Type up, Type down) {
  for (auto [name, type] : {std::pair("gate_bias", gate), std::pair("up_bias", up), std::pair("down_bias", down)}) {
    if (type) {
      printer << ", " << name << ' ' << type;
    }
  }
}

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
  // kv_cache_c1
  if (heads <= 0 || keyDim <= 0 || valueDim <= 0) {
    return emitError() << "kv_cache heads (" << heads << "), key_dim (" << keyDim << ") and value_dim (" << valueDim
                       << ") must be positive";
  }
  // kv_cache_c2
  if (!element.isF32() && !element.isBF16() && !element.isF64()) {
    return emitError() << "kv_cache element (" << element << ") must be f32, bf16 or f64";
  }
  return success();
}
