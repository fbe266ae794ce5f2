//===- Version.cpp - What this moec is --------------------------------------===//

#include "llvm/Config/llvm-config.h"
#include "tools/moec/Commands.h"

std::string moec::getVersionString() { return "moec " MOE_VERSION " (LLVM " LLVM_VERSION_STRING ")"; }
