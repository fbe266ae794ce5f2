//===- SchedOps.h - The sched dialect, its attributes and ops ---------------===//

#ifndef SCHED_OPS_H
#define SCHED_OPS_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/RegionKindInterface.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/bit.h"

#include "dialects/Sched/IR/SchedDialect.h.inc"
#include "dialects/Sched/IR/SchedEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Sched/IR/SchedAttrs.h.inc"
#include "dialects/Sched/IR/SchedInterfaces.h.inc"
#define GET_OP_CLASSES
#include "dialects/Sched/IR/SchedOps.h.inc"

namespace mlir::sched {

/// Whether bytes are read, or written, by an access.
inline bool reads(Access access) { return static_cast<uint32_t>(access) & static_cast<uint32_t>(Access::Read); }
inline bool writes(Access access) { return static_cast<uint32_t>(access) & static_cast<uint32_t>(Access::Write); }

/// Storage bits of one tensor element in a checkpoint, or 0 if no checkpoint holds such elements.
unsigned getStorageBits(Type element);

/// True when `text` is a SHA-256 in lower-case hexadecimal digits.
bool isSha256(llvm::StringRef text);

} // namespace mlir::sched

#endif // SCHED_OPS_H
