//===- KernelLibrary.h - The kernels of one CPU variant, to shared object ---===//
//
// Collects the kernels that a schedule uses, each configuration once, and
// compiles them to a self-contained shared object: math as inlined polynomials,
// no undefined symbol, no constructor (the loader checks that).
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_CPU_KERNELLIBRARY_H
#define MOE_LOWERING_CPU_KERNELLIBRARY_H

#include "lowering/CPU/KernelBuilder.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/StringSet.h"
#include <string>

namespace mlir::moe::cpu {

/// The dialects that kernels are written in; a context must have them before a library is made in a pass.
void registerKernelDialects(DialectRegistry &registry);

class KernelLibrary {
public:
  /// Loads the dialects that kernels are written in.
  KernelLibrary(MLIRContext *context, const CpuTarget &target);

  /// The symbol of `kernel`, which is emitted at its first use.
  template <typename Kernel> std::string use(const Kernel &kernel) {
    std::string name = kernel.name();
    if (known.insert(name).second) {
      symbols.push_back(name);
      KernelBuilder builder(*module, name, target);
      kernel.emit(builder);
      builder.finish();
    }
    return name;
  }

  /// Symbols in order of first use.
  ArrayRef<std::string> getSymbols() const { return symbols; }
  const CpuTarget &getTarget() const { return target; }
  /// The kernels as vector/scf/arith IR.
  ModuleOp getModule() { return *module; }

  /// Lowers, optimises and links. The module is consumed. Errors are emitted at
  /// the module.
  FailureOr<std::string> compile();

private:
  const CpuTarget &target;
  OwningOpRef<ModuleOp> module;
  llvm::StringSet<> known;
  SmallVector<std::string> symbols;
};

} // namespace mlir::moe::cpu

#endif // MOE_LOWERING_CPU_KERNELLIBRARY_H
