//===- Assemble.cpp - PTX to machine code with NVIDIA's ptxas -------------===//

#include "tools/moec/Assemble.h"
#include "passes/Json/JsonFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
using mlir::moe::makeError;

std::string moec::getMachineCodeName(StringRef ptx) { return (llvm::sys::path::stem(ptx) + ".cubin").str(); }

Expected<std::string> moec::findAssembler(StringRef option) {
  if (option == "none") {
    return "";
  }
  if (option.empty()) {
    llvm::ErrorOr<std::string> found = llvm::sys::findProgramByName("ptxas");
    return found ? *found : "";
  }
  if (!llvm::sys::fs::can_execute(option)) {
    return makeError("--ptxas " + option +
                     ": is no program that can be run; give the path of ptxas, or none for PTX alone");
  }
  return option.str();
}

/// A temporary file that goes with it.
namespace {
struct TemporaryFile {
  llvm::SmallString<128> path;
  std::optional<llvm::FileRemover> remover;

  Error create(StringRef suffix) {
    if (std::error_code code = llvm::sys::fs::createTemporaryFile("moec", suffix, path)) {
      return makeError("cannot make a temporary file for ptxas: " + code.message());
    }
    remover.emplace(path);
    return Error::success();
  }
  Expected<std::string> read() const {
    auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
    if (!buffer) {
      return makeError(path + ": cannot be read: " + buffer.getError().message());
    }
    return (*buffer)->getBuffer().str();
  }
};
} // namespace

/// What is worth saying of what ptxas says (-v): warnings, and which kernels spill.
static std::vector<std::string> readNotes(StringRef architecture, StringRef said) {
  std::vector<std::string> notes;
  StringRef kernel;
  for (StringRef line : llvm::split(said, '\n')) {
    line = line.trim();
    if (line.contains("Compiling entry function '")) {
      kernel = line.split('\'').second.split('\'').first;
    } else if (line.contains("bytes spill stores") && !line.contains(" 0 bytes spill stores")) {
      notes.push_back((architecture + ": kernel '" + kernel + "' spills registers: " + line).str());
    } else if (line.contains("warning")) {
      notes.push_back((architecture + ": ptxas: " + line).str());
    }
  }
  return notes;
}

Expected<MachineCode> moec::assemble(StringRef ptxas, StringRef architecture, StringRef text) {
  TemporaryFile source, object, said;
  for (auto [file, suffix] : {std::pair(&source, "ptx"), {&object, "cubin"}, {&said, "log"}}) {
    if (Error error = file->create(suffix)) {
      return error;
    }
  }
  std::error_code code;
  llvm::raw_fd_ostream stream(source.path, code);
  stream << text;
  stream.close();
  if (code || stream.has_error()) {
    return makeError(source.path + ": cannot be written: " + (code ? code : stream.error()).message());
  }
  const std::string arch = ("-arch=" + architecture).str();
  std::string reason;
  const int status = llvm::sys::ExecuteAndWait(ptxas, {ptxas, arch, "-v", source.path, "-o", object.path}, std::nullopt,
                                               {StringRef(""), said.path.str(), said.path.str()}, /*SecondsToWait=*/0,
                                               /*MemoryLimit=*/0, &reason);
  Expected<std::string> output = said.read();
  if (!output) {
    return output.takeError();
  }
  if (status != 0) {
    StringRef first = StringRef(*output).trim().split('\n').first;
    return makeError(ptxas + ": " + (reason.empty() ? "ended with status " + Twine(status) : Twine(reason)) +
                     (first.empty() ? "" : ": " + first) +
                     "; give --ptxas none for a package of PTX alone, or another ptxas");
  }
  Expected<std::string> bytes = object.read();
  if (!bytes) {
    return bytes.takeError();
  }
  if (!StringRef(*bytes).starts_with("\177ELF")) {
    return makeError(ptxas + ": what it wrote for " + architecture + " is no cubin (ELF file)");
  }
  return MachineCode{std::move(*bytes), readNotes(architecture, *output)};
}
