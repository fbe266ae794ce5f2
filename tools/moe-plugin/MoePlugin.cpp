//===- MoePlugin.cpp - Our dialects and passes for an unmodified mlir-opt ---===//
//
//   mlir-opt-22 --load-dialect-plugin=MoePlugin.so --load-pass-plugin=MoePlugin.so
//               --pass-pipeline='builtin.module(moe-verify-moe-level)' model.mlir
//
// The library links nothing of MLIR: its symbols stay open and become those of the
// program that loads it, so that there is one MLIR in the process and one TypeID per
// type. The price is that nothing but us notices a program of another LLVM release:
// mlir-opt compares an API number that has been 1 for years, and a plugin that fails
// to load is a message and exit status 0. Hence the check below, before anything of
// MLIR is called, and a hard exit: a silent mix of two releases corrupts memory.
//
// Not here: `--moe-...` flags. mlir-opt reads its flags before it loads plugins;
// only --pass-pipeline= finds our passes.
//
//===----------------------------------------------------------------------===//

#include "mlir/Tools/Plugins/DialectPlugin.h"
#include "mlir/Tools/Plugins/PassPlugin.h"
#include "tools/common/RegisterAll.h"
#include "llvm/Config/llvm-config.h"
#include <cstdio>
#include <cstdlib>

/// The release of the LLVM in this process; absent from a program without a shared LLVM.
extern "C" __attribute__((weak)) void LLVMGetVersion(unsigned *major, unsigned *minor, unsigned *patch);

#ifndef MOE_PLUGIN_LLVM_MAJOR // a test builds the plugin as if for another release
#define MOE_PLUGIN_LLVM_MAJOR LLVM_VERSION_MAJOR
#endif

#define MOE_PLUGIN_EXPORT extern "C" __attribute__((visibility("default")))

/// Ends the process unless it runs the LLVM release that this plugin was built with.
static void requireHostVersion() {
  unsigned major = 0, minor = 0, patch = 0;
  if (LLVMGetVersion) {
    LLVMGetVersion(&major, &minor, &patch);
  }
  // Within a release series (22.1) the distribution keeps the ABI; the series is what must agree.
  if (major == MOE_PLUGIN_LLVM_MAJOR && minor == LLVM_VERSION_MINOR) {
    return;
  }
  std::fprintf(stderr, "MoePlugin: error: built for LLVM %d.%d, but this program runs ", MOE_PLUGIN_LLVM_MAJOR,
               LLVM_VERSION_MINOR);
  if (major) {
    std::fprintf(stderr, "LLVM %u.%u.%u", major, minor, patch);
  } else {
    std::fprintf(stderr, "an LLVM that does not tell its version (linked statically?)");
  }
  std::fprintf(stderr, "; use mlir-opt-%d, or build the plugin with this program's LLVM\n", MOE_PLUGIN_LLVM_MAJOR);
  std::fflush(stderr);
  std::_Exit(1);
}

MOE_PLUGIN_EXPORT mlir::DialectPluginLibraryInfo mlirGetDialectPluginInfo() {
  requireHostVersion();
  return {MLIR_PLUGIN_API_VERSION, "moe", MOE_VERSION,
          [](mlir::DialectRegistry *registry) { mlir::moe::registerMoeDialects(*registry); }};
}

MOE_PLUGIN_EXPORT mlir::PassPluginLibraryInfo mlirGetPassPluginInfo() {
  requireHostVersion();
  return {MLIR_PLUGIN_API_VERSION, "moe", MOE_VERSION, [] { mlir::moe::registerAllMoePasses(); }};
}
