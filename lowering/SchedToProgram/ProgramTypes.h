//===- ProgramTypes.h - Element types and extents in both worlds ------------===//

#ifndef MOE_PROGRAM_TYPES_H
#define MOE_PROGRAM_TYPES_H

#include "dialects/Sched/IR/SchedOps.h"
#include "runtime/format/program_generated.h"
#include "runtime/readers/Safetensors.h"

namespace mlir::sched {

/// The program file's name of an element type; nothing for types that no checkpoint stores.
std::optional<moert::format::DType> toDType(Type type);

/// The element type of a program file's name; null for values that are none.
Type fromDType(moert::format::DType dtype, MLIRContext *context);

/// The element type of a tensor in a checkpoint; null for those that the program file cannot name.
Type fromElementType(moert::readers::ElementType type, MLIRContext *context);

moert::format::Extent toExtent(ExtentAttr extent);

} // namespace mlir::sched

#endif // MOE_PROGRAM_TYPES_H
