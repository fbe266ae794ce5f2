//===- SchedAttrs.h - Reading and printing operands in their bare form ------===//
//
// For the ops of the dialect; others use the attributes' own C++ builders.
//
//===----------------------------------------------------------------------===//

#ifndef SCHED_ATTRS_H
#define SCHED_ATTRS_H

#include "dialects/Sched/IR/SchedOps.h"

namespace mlir::sched {

/// `4096 + 256*T + 128*B*C`
ParseResult parseExtent(AsmParser &parser, ExtentAttr &extent);
void printExtent(AsmPrinter &printer, ExtentAttr extent);

/// `(T ceildiv 4 cap 16 times 3)`
ParseResult parseGrid(AsmParser &parser, GridAttr &grid);
void printGrid(AsmPrinter &printer, GridAttr grid);

/// `(read @arena[0, 256*T], weight @w[0], size T)`
ParseResult parseArgs(AsmParser &parser, ArrayAttr &args);
void printArgs(AsmPrinter &printer, ArrayAttr args);

} // namespace mlir::sched

#endif // SCHED_ATTRS_H
