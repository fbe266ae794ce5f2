//===- BufferPlan.cpp - Where the values of a step lie in the arena ---------===//

#include "lowering/MoeToSched/BufferPlan.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"
#include <algorithm>

using namespace mlir::moe;

BufferPlan mlir::moe::planBuffers(llvm::ArrayRef<PlannedValue> values, int64_t alignment) {
  BufferPlan plan;
  plan.offsets.assign(values.size(), 0);
  auto sizeOf = [&](size_t i) { return static_cast<int64_t>(llvm::alignTo(values[i].bytes, alignment)); };

  llvm::SmallVector<size_t> order;
  for (size_t i = 0; i < values.size(); ++i) {
    plan.totalBytes += sizeOf(i);
    if (values[i].bytes > 0) {
      order.push_back(i);
    }
  }
  // Largest first, equal sizes in order of number.
  llvm::sort(order, [&](size_t a, size_t b) { return std::pair(-sizeOf(a), a) < std::pair(-sizeOf(b), b); });

  llvm::SmallVector<size_t> placed; // by ascending offset
  for (size_t i : order) {
    int64_t offset = 0;
    for (size_t other : placed) {
      bool meet =
          values[other].firstCommand <= values[i].lastCommand && values[i].firstCommand <= values[other].lastCommand;
      if (!meet) {
        continue;
      }
      if (offset + sizeOf(i) <= plan.offsets[other]) {
        break; // the gap below `other` is wide enough
      }
      offset = std::max(offset, plan.offsets[other] + sizeOf(other));
    }
    plan.offsets[i] = offset;
    plan.arenaBytes = std::max(plan.arenaBytes, offset + sizeOf(i));
    auto after = llvm::upper_bound(placed, offset, [&](int64_t value, size_t p) { return value < plan.offsets[p]; });
    placed.insert(after, i);
  }
  return plan;
}
