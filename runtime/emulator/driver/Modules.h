//===- Modules.h - Libraries, modules, kernels and functions ----*- C++ -*-===//
//
// A library is a parsed PTX text; a module is the library loaded on the device
// of one context (variables with addresses). A kernel belongs to a library, a
// function to a module. cuModuleLoadData makes a library of its own.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_MODULES_H
#define MOERT_EMULATOR_DRIVER_MODULES_H

#include "runtime/emulator/driver/Driver.h"

#include <map>
#include <memory>

struct CUfunc_st {
  CUmod_st *module = nullptr;
  const moert::emulator::Kernel *kernel = nullptr;
  std::string name;
  CUkern_st *source = nullptr; ///< of the library, when it came from one
  int maxDynamicShared = 0;    ///< cuFuncSetAttribute; up to 48 KiB with static memory need no opt-in
  int carveout = -1;
  bool nonPortableCluster = false;
  int clusterPreference = 0;
};

struct CUmod_st {
  CUctx_st *context = nullptr;
  CUlib_st *library = nullptr;
  bool ownsLibrary = false;
  std::unique_ptr<moert::emulator::Program> program;
  std::vector<std::unique_ptr<CUfunc_st>> functions;
};

struct CUkern_st {
  CUlib_st *library = nullptr;
  std::string name;
  uint32_t index = 0; ///< into the module's functions
};

struct CUlib_st {
  std::unique_ptr<moert::emulator::ptx::Module> source;
  std::vector<std::unique_ptr<CUkern_st>> kernels;
  std::map<CUctx_st *, CUmod_st *> modules; ///< by context, made when first asked for
};

namespace moert::emulator {

/// The function that `handle` means: a CUfunction, or a CUkernel cast to one, as the driver accepts; null after
/// refusing.
CUfunc_st *functionOf(const Call &call, CUfunction handle);
/// The module of `library` in `context`, loaded now if need be.
CUresult moduleOf(CUlib_st *library, CUctx_st *context, CUmod_st *&module);
/// Blocks of `function` that fit one multiprocessor; 0 when one does not.
int residentBlocks(const CUfunc_st &function, uint64_t threads, uint64_t dynamicShared);
/// Static and dynamic shared memory that one block may have, in all.
uint64_t sharedLimit(const CUfunc_st &function);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_MODULES_H
