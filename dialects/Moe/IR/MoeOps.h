//===- MoeOps.h - The moe dialect, its attributes, types and ops ------------===//

#ifndef MOE_OPS_H
#define MOE_OPS_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/Moe/IR/MoeDialect.h.inc"
#include "dialects/Moe/IR/MoeEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Moe/IR/MoeAttrs.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Moe/IR/MoeTypes.h.inc"
#define GET_OP_CLASSES
#include "dialects/Moe/IR/MoeOps.h.inc"

#endif // MOE_OPS_H
