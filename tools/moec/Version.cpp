//===- Version.cpp - What this moec is --------------------------------------===//

#include "tools/moec/Commands.h"
#include "llvm/Config/llvm-config.h"

std::string moec::getVersionString() { return "moec " MOE_VERSION " (LLVM " LLVM_VERSION_STRING ")"; }
