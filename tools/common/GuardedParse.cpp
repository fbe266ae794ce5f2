//===- GuardedParse.cpp - MLIR text from a user, made safe to parse ---------===//
//
// The scan knows four things about MLIR's syntax: strings, comments, brackets and
// aliases. `<` and `>` count as brackets except in `->`, `>=` and `<=`.
//
//===----------------------------------------------------------------------===//

#include "tools/common/GuardedParse.h"
#include "mlir/Bytecode/BytecodeReader.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// An alias: what using it adds.
struct Alias {
  uint64_t depth = 0; ///< levels of nesting
  uint64_t bytes = 0; ///< characters of its definition, aliases in it written out
};

/// One pass over the text.
class Scanner {
public:
  Scanner(llvm::StringRef text, llvm::StringRef name, const ParseLimits &limits)
      : text(text), name(name), limits(limits) {}

  llvm::Error run();

private:
  char peek(size_t ahead) const { return pos + ahead < text.size() ? text[pos + ahead] : '\0'; }
  void skipString();
  void open(bool isAffine);
  void close();
  /// Counts what may be an operator of an affine expression: a sign, or the blank or bracket beside `mod` and the like.
  void countOperator();
  /// Handles `#name`, `!name` and the definition of either.
  void alias();
  /// Notes that a value nested `extra` levels deeper than here was seen.
  void reach(uint64_t extra = 0);
  llvm::Error error(const llvm::Twine &message) const;

  llvm::StringRef text, name;
  const ParseLimits &limits;
  size_t pos = 0;
  uint64_t depth = 0;         ///< brackets that are open
  uint64_t affineDepth = 0;   ///< `depth` inside of the outermost open affine map or set; 0: none is open
  uint64_t operators = 0;     ///< operators of that map so far
  uint64_t deepest = 0;       ///< the deepest level so far
  uint64_t expandedBytes = 0; ///< characters so far, aliases written out
  llvm::StringMap<Alias> aliases;
  llvm::StringRef definition; ///< the alias being defined
  Alias *defined = nullptr;   ///< its entry
  uint64_t definitionStart = 0;
};

} // namespace

llvm::Error Scanner::error(const llvm::Twine &message) const {
  size_t at = std::min(pos, text.size() - 1);
  size_t line = text.take_front(at).count('\n') + 1;
  size_t lineStart = text.take_front(at).rfind('\n');
  size_t column = lineStart == llvm::StringRef::npos ? at + 1 : at - lineStart;
  return llvm::createStringError(name + ":" + llvm::Twine(line) + ":" + llvm::Twine(column) + ": error: " + message);
}

void Scanner::skipString() {
  for (++pos; pos < text.size() && text[pos] != '"' && text[pos] != '\n'; ++pos) {
    if (text[pos] == '\\') {
      ++pos;
    }
  }
}

void Scanner::reach(uint64_t extra) {
  uint64_t here = depth + operators + extra;
  deepest = std::max(deepest, here);
  if (defined) {
    defined->depth = std::max(defined->depth, here);
  }
}

void Scanner::open(bool isAffine) {
  ++depth;
  if (isAffine && affineDepth == 0) {
    affineDepth = depth;
  }
  reach();
}

void Scanner::close() {
  if (depth == affineDepth) {
    affineDepth = operators = 0;
  }
  depth -= depth > 0;
}

void Scanner::countOperator() {
  if (affineDepth && peek(1) != '>') {
    ++operators;
    reach();
  }
}

void Scanner::alias() {
  size_t start = pos;
  while (llvm::isAlnum(peek(1)) || peek(1) == '_' || peek(1) == '$') {
    ++pos;
  }
  llvm::StringRef token = text.slice(start, pos + 1);
  llvm::StringRef rest = text.drop_front(pos + 1).ltrim(" \t\r\n");
  if (rest.starts_with("=") && !rest.starts_with("==")) {
    if (defined) {
      defined->bytes = expandedBytes - definitionStart;
    }
    defined = &aliases[token];
    *defined = {};
    definitionStart = expandedBytes;
    return;
  }
  auto it = aliases.find(token);
  if (it == aliases.end()) {
    return;
  }
  if (&it->second == defined) {
    return; // `#a = #a` is the parser's to refuse
  }
  reach(1 + it->second.depth);
  expandedBytes += it->second.bytes;
}

llvm::Error Scanner::run() {
  for (; pos < text.size(); ++pos) {
    ++expandedBytes;
    switch (text[pos]) {
    case '"':
      skipString();
      break;
    case '/':
      if (peek(1) == '/') {
        pos = std::min(text.find('\n', pos), text.size());
      }
      break;
    case '(':
    case '[':
    case '{':
      countOperator();
      open(false);
      break;
    case '<':
      if (peek(1) != '=') {
        llvm::StringRef before = text.take_front(pos);
        open(before.ends_with("affine_map") || before.ends_with("affine_set"));
      }
      break;
    case ')':
    case ']':
    case '}':
      close();
      break;
    case '>':
      if (peek(1) != '=' && !(pos > 0 && text[pos - 1] == '-')) {
        close();
      }
      break;
    case '+':
    case '-':
    case '*':
    case ' ':
    case '\t':
    case '\n':
      countOperator();
      break;
    case '#':
    case '!':
      alias();
      break;
    default:
      break;
    }
    if (deepest > limits.depth) {
      return error("nested " + llvm::Twine(deepest) + " levels deep; at most " + llvm::Twine(limits.depth) +
                   " are accepted");
    }
    if (expandedBytes > limits.expandedBytes) {
      return error("the aliases up to here stand for more than " + llvm::Twine(limits.expandedBytes) +
                   " bytes of text");
    }
  }
  return llvm::Error::success();
}

/// The error of an input of more than the accepted size.
static llvm::Error tooLarge(llvm::StringRef name, const llvm::Twine &size, const ParseLimits &limits) {
  return llvm::createStringError(name + ": error: " + size + " bytes of MLIR, but at most " +
                                 llvm::Twine(limits.bytes) +
                                 " are accepted: weights belong into the checkpoint and are declared as moe.weight");
}

llvm::Error moe::checkText(llvm::StringRef text, llvm::StringRef name, const ParseLimits &limits) {
  if (text.size() > limits.bytes) {
    return tooLarge(name, llvm::Twine(text.size()), limits);
  }
  if (isBytecode(llvm::MemoryBufferRef(text, name))) {
    if (limits.allowBytecode) {
      return llvm::Error::success();
    }
    return llvm::createStringError(name + ": error: this is MLIR bytecode, whose reader is not safe against damaged "
                                          "files; use text, or --allow-bytecode for a file that you trust");
  }
  if (text.empty()) {
    return llvm::Error::success();
  }
  return Scanner(text, name, limits).run();
}

llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> moe::readGuarded(llvm::StringRef path, const ParseLimits &limits) {
  using namespace llvm::sys;
  llvm::StringRef name = path == "-" ? "<stdin>" : path;
  llvm::Expected<fs::file_t> file = path == "-" ? fs::getStdinHandle() : fs::openNativeFileForRead(path);
  if (!file) {
    return llvm::createStringError("cannot open '" + path + "': " + llvm::toString(file.takeError()));
  }
  llvm::scope_exit closeFile([&] {
    if (path != "-") {
      fs::closeFile(*file);
    }
  });
  // Reading in pieces bounds the memory whatever the file is: a pipe, a device, a file that grows.
  llvm::SmallString<0> text;
  while (text.size() <= limits.bytes) {
    size_t old = text.size(), piece = std::min<uint64_t>(uint64_t(1) << 20, limits.bytes + 1 - old);
    text.resize_for_overwrite(old + piece);
    llvm::Expected<size_t> got = fs::readNativeFile(*file, llvm::MutableArrayRef(text.data() + old, piece));
    if (!got) {
      return llvm::createStringError("cannot read '" + path + "': " + llvm::toString(got.takeError()));
    }
    text.truncate(old + *got);
    if (*got == 0) {
      break;
    }
  }
  if (text.size() > limits.bytes) {
    return tooLarge(name, "more than " + llvm::Twine(limits.bytes), limits);
  }
  if (llvm::Error error = checkText(text, name, limits)) {
    return std::move(error);
  }
  return llvm::MemoryBuffer::getMemBufferCopy(text, name);
}

llvm::Expected<OwningOpRef<ModuleOp>> moe::parseGuarded(llvm::StringRef path, MLIRContext *context,
                                                        const ParseLimits &limits) {
  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> buffer = readGuarded(path, limits);
  if (!buffer) {
    return buffer.takeError();
  }
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(std::move(*buffer), llvm::SMLoc());
  return parseSourceFile<ModuleOp>(sources, context);
}
