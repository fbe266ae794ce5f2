//===- KernelCatalogue.h - What a lowering asks of a target's kernels -----===//
//
// The lowering to a schedule is one for all targets: it chooses kernels by what
// they compute (KernelConfigs.h) and asks the target's catalogue for the rest:
// the symbol, how the work is cut into workgroups where that is the target's
// choice, what it cannot do. A catalogue emits each configuration at its first
// use and compiles them all at the end.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_KERNELS_KERNELCATALOGUE_H
#define MOE_LOWERING_KERNELS_KERNELCATALOGUE_H

#include "lowering/Kernels/KernelConfigs.h"

namespace mlir::moe::kernels {

/// What one workgroup of a product makes.
struct MatmulTile {
  int64_t outputs, rows; ///< rows: of the dense `many` form
};

/// What attention works on: kv heads, queries of each, and the context that the model is made for (0: not known),
/// beyond which it may go; tokens of a step, from least to most (0: not known).
struct AttentionSizes {
  int64_t heads, perHead, context, leastTokens = 1, mostTokens = 0;
};

/// How attention is cut: a workgroup serves a block of `tokens` tokens, and one of `parts` parts of a kv head's
/// queries (and of the keys, if the kernel splits them).
struct AttentionCut {
  int64_t tokens, parts;
};

/// A kernel of the program: its name in the blob and, on a GPU, the threads and dynamic shared memory of a workgroup,
/// and whether it waits by itself for the kernels before it.
struct KernelSymbol {
  std::string name;
  int64_t threads = 0, sharedBytes = 0;
  bool waits = false;
};

class KernelCatalogue {
public:
  virtual ~KernelCatalogue() = default;

  /// As in the variant of a program: "x86-64-v3", "cuda:sm_80".
  virtual StringRef getTarget() const = 0;
  /// What the loader must find on the machine.
  virtual ArrayRef<StringRef> getFeatures() const = 0;

  virtual MatmulTile matmulTile(const Matmul &kernel) const = 0;
  /// Where the target's kernel takes its weights by tensor maps, the rows of their boxes; 0: by pointers.
  virtual int64_t weightBox(const Matmul &) const { return 0; }
  /// Rows of the tiles by which the `many` form lists the work of experts; 0: it goes by expert.
  virtual int64_t expertTileRows() const { return 0; }
  /// Workgroups that share the tiles of experts at most, each taking several in turn; 0: as many as there are tiles.
  virtual int64_t mostWorkgroups(const Matmul &) const { return 0; }
  /// Fills in what the kernel may assume of its sizes: one of K and N, and of every N that it was told before.
  virtual void specialise(Matmul &kernel, int64_t k, int64_t n) const = 0;
  /// Up to this T of the `many` form attention is cut in a way of its own, and steps have a table of their own; 0:
  /// none.
  virtual int64_t someTokens() const { return 0; }
  /// How many commands a step may have under way beside each other.
  virtual int64_t streams() const { return 1; }
  /// Whether a step ends with the choice of the likeliest token of every row, for callers that want no logits.
  virtual bool picks() const { return false; }
  /// How the work of `kernel` is cut; takes `many` back where there is no such form, and decides on splits.
  virtual AttentionCut cut(Attention &kernel, const AttentionSizes &sizes) const = 0;
  /// Why the target has no such kernel, as the end of a sentence about an op; empty if it has. `experts`: of kernels
  /// that choose or sort experts.
  virtual std::string whyNot(const Kernel &kernel, int64_t experts) const = 0;

  /// The symbol of `kernel`, for which `whyNot` gave no reason.
  virtual std::string use(const Kernel &kernel) = 0;
  /// In order of first use.
  virtual std::vector<KernelSymbol> getSymbols() const = 0;
  /// The blob with all kernels that were used; errors are emitted. Ends the life of the catalogue.
  virtual FailureOr<std::string> compile() = 0;
};

} // namespace mlir::moe::kernels

#endif // MOE_LOWERING_KERNELS_KERNELCATALOGUE_H
