//===- StreamPlan.h - What runs beside the routed experts -------------------===//
//
// Routing and sorting take a workgroup or two, and rows that go to other ranks
// take none: meanwhile a GPU can do what neither needs the experts' results nor
// makes their input, such as a shared expert. Such commands get a stream of
// their own, which waits for the last command that makes something for them;
// the first command that needs their results waits for that stream.
//
//   stream 0   norm  route  sort  up  down  combine
//   stream 1        `-- shared up, shared down --^
//
// Plain C++: what commands touch in, who runs beside whom out.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOSCHED_STREAMPLAN_H
#define MOE_LOWERING_MOETOSCHED_STREAMPLAN_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include <cstdint>

namespace mlir::moe {

/// A command of a step, as far as its stream depends on it.
struct StreamedCommand {
  struct Access {
    int buffer;
    bool writes;
  };
  llvm::SmallVector<Access> accesses;
  bool endsExperts = false; ///< the last product of routed experts
  bool isProduct = false;   ///< of weights: what takes time
  bool isCollective = false;
};

/// Commands that run on a stream of their own while the others go on.
struct SideWork {
  llvm::SmallVector<int64_t> commands; ///< by number, ascending
  int64_t after = -1;                  ///< the last command that they need; -1: none
  int64_t before = 0;                  ///< the first that needs them; as many as there are commands: none
};

/// Products that run beside experts, and what comes of them; nothing less is worth two events. Collectives stay
/// where they are: communicators are of one stream, and neighbours among them are handed over together, so that none
/// waits between two. In the order in which it may begin; no command is in two.
llvm::SmallVector<SideWork> planSideWork(llvm::ArrayRef<StreamedCommand> commands);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOSCHED_STREAMPLAN_H
