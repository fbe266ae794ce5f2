//===- GuardedParse.h - MLIR text from a user, made safe to parse -----------===//
//
// MLIR's parser recurses once per level of nesting and is not hardened: a few
// thousand nested brackets, signs of an affine expression or chained aliases end
// in a stack overflow, and damaged bytecode in worse. Every file a user gives us
// therefore passes a linear scan first, with limits far above what real IR needs:
//
//   size     at most 64 MiB of text; 256 MiB once aliases are written out
//            (`#b = [#a, #a]`, `#c = [#b, #b]`, ... doubles at every line)
//   depth    at most 1000 levels: brackets, plus the operators of the enclosing
//            affine_map/affine_set, plus the depth of an alias where it is used
//   bytecode refused unless the user asks for it
//
// What the scan does not do: parse. It cannot say that a file is valid, only that
// reading it is cheap and safe.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_GUARDEDPARSE_H
#define MOE_TOOLS_GUARDEDPARSE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"
#include <memory>

namespace mlir::moe {

/// What is accepted from a user.
struct ParseLimits {
  /// Bytes of text.
  uint64_t bytes = uint64_t(64) << 20;
  /// Bytes of text once every alias is replaced by its definition.
  uint64_t expandedBytes = uint64_t(256) << 20;
  /// Levels of nesting.
  uint64_t depth = 1000;
  /// Whether bytecode is accepted (then none of the limits but `bytes` applies).
  bool allowBytecode = false;
};

/// Checks `text` against `limits`; the error starts with `name:line:column: `.
llvm::Error checkText(llvm::StringRef text, llvm::StringRef name, const ParseLimits &limits = {});

/// Reads the file `path` (`-`: standard input) into memory and checks it. Reading stops at the size limit.
llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> readGuarded(llvm::StringRef path, const ParseLimits &limits = {});

/// Reads, checks and parses a module. Parse errors go to the context's diagnostic handler, what the guard refuses to
/// the returned error; a null module means that diagnostics were emitted.
llvm::Expected<OwningOpRef<ModuleOp>> parseGuarded(llvm::StringRef path, MLIRContext *context,
                                                   const ParseLimits &limits = {});

} // namespace mlir::moe

#endif // MOE_TOOLS_GUARDEDPARSE_H
