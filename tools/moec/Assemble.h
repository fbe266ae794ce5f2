//===- Assemble.h - PTX to machine code with NVIDIA's ptxas -----*- C++ -*-===//
//
// Where a CUDA toolkit is, a package gets a cubin beside the PTX of each target,
// so that the card's driver has nothing to assemble when it is loaded.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_ASSEMBLE_H
#define MOE_TOOLS_MOEC_ASSEMBLE_H

#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace moec {

/// The file of a package that is the machine code of the PTX file `ptx`; the runtime looks for it by this name.
std::string getMachineCodeName(llvm::StringRef ptx);

/// Which ptxas `--ptxas` means: a path, "none", or "" for the one on PATH. Empty: none.
llvm::Expected<std::string> findAssembler(llvm::StringRef option);

struct MachineCode {
  std::string bytes;
  /// What ptxas warns of, and kernels that spill registers.
  std::vector<std::string> notes;
};
/// Assembles `text` for `architecture` ("sm_90a").
llvm::Expected<MachineCode> assemble(llvm::StringRef ptxas, llvm::StringRef architecture, llvm::StringRef text);

} // namespace moec

#endif // MOE_TOOLS_MOEC_ASSEMBLE_H
