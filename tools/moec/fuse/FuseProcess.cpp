//===- FuseProcess.cpp - Commands that moec fuse runs ------------------------===//

#include "tools/moec/fuse/FuseProcess.h"
#include "passes/Json/JsonFile.h"
#include "runtime/format/Checksum.h"
#include "tools/moec/OutputFile.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/TargetParser/Host.h"
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace moec;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
using mlir::moe::makeError;
namespace fs = llvm::sys::fs;

Expected<WorkFolder> WorkFolder::create(StringRef output, StringRef kept) {
  std::string path = kept.empty() ? temporaryName((output.rtrim('/') + ".work").str()) : kept.str();
  if (std::error_code error = fs::create_directories(path)) {
    return makeError(path + ": cannot be created: " + error.message());
  }
  return WorkFolder(std::move(path), !kept.empty());
}

WorkFolder::WorkFolder(WorkFolder &&other) : path(std::move(other.path)), isKept(other.isKept) { other.path.clear(); }

WorkFolder::~WorkFolder() {
  if (!path.empty() && !isKept) {
    fs::remove_directories(path);
  }
}

std::string WorkFolder::file(const Twine &name) const { return (path + "/" + name).str(); }

/// Starts `program`, which dies with this process, with its output going to two files; the exit code, or -1.
static int runProcess(const std::string &program, const std::vector<std::string> &arguments, const std::string &out,
                      const std::string &err) {
  std::vector<char *> argv{const_cast<char *>(program.c_str())};
  for (const std::string &argument : arguments) {
    argv.push_back(const_cast<char *>(argument.c_str()));
  }
  argv.push_back(nullptr);
  const int outFile = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const int errFile = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const pid_t parent = ::getpid(), child = outFile < 0 || errFile < 0 ? -1 : ::fork();
  if (child == 0) {
    // Only calls that are safe between fork and exec.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent || ::dup2(outFile, STDOUT_FILENO) < 0 || ::dup2(errFile, STDERR_FILENO) < 0) {
      ::_exit(127);
    }
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  if (outFile >= 0) {
    ::close(outFile);
  }
  if (errFile >= 0) {
    ::close(errFile);
  }
  int status = 0;
  while (child > 0 && ::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) {
      return -1;
    }
  }
  return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static std::string readAll(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  return buffer ? (*buffer)->getBuffer().str() : "";
}

/// "moe-run repair a b" as it could be typed.
static std::string spellCommand(StringRef tool, llvm::ArrayRef<std::string> arguments) {
  std::string text = tool.str();
  for (const std::string &argument : arguments) {
    text += " " + (argument.find_first_of(" \t\"'\\$&|;<>()*?") == std::string::npos && !argument.empty()
                       ? argument
                       : "'" + argument + "'");
  }
  return text;
}

void CommandRunner::reuseResults(StringRef inputs) {
  if (!folder.stays()) {
    return;
  }
  // Another build may compute otherwise.
  static int anchor;
  const std::string self = fs::getMainExecutable("moec", &anchor);
  identity = inputs.str() + ' ' + llvm::sys::getHostCPUName().str() + '\n';
  for (StringRef tool : {"moec", "moe-run"}) {
    llvm::SmallString<256> program(llvm::sys::path::parent_path(self));
    llvm::sys::path::append(program, tool);
    fs::file_status status;
    if (fs::status(program, status)) {
      continue; // run() will say so
    }
    identity += tool.str() + ' ' + std::to_string(status.getSize()) + ' ' +
                std::to_string(status.getLastModificationTime().time_since_epoch().count()) + '\n';
  }
}

Expected<std::string> CommandRunner::run(StringRef tool, std::vector<std::string> arguments) {
  arguments.push_back("--quiet");
  static int anchor;
  llvm::SmallString<256> program(llvm::sys::path::parent_path(fs::getMainExecutable("moec", &anchor)));
  llvm::sys::path::append(program, tool);
  const std::string text = spellCommand(tool, arguments);
  auto digest = [](StringRef of) {
    return moert::format::toHex(moert::format::sha256(of.data(), of.size())).substr(0, 32);
  };
  std::string known, key;
  if (!identity.empty()) {
    key = digest(identity + text);
    // What a command printed is kept under the name of what it wrote: when another one writes that anew, this is not
    // known any more.
    auto output = std::find(arguments.begin(), arguments.end(), "-o");
    known = folder.file((output == arguments.end() ? key : digest(*std::next(output))) + ".done");
    if (fs::exists(known)) {
      const std::string kept = readAll(known);
      StringRef printed = kept;
      if (printed.consume_front(key + "\n")) {
        printNote(options, text + " (done before)");
        return printed.str();
      }
      fs::remove(known);
    }
  }
  printNote(options, text);
  const std::string out = folder.file("stdout"), err = folder.file("stderr");
  const int code = runProcess(program.str().str(), arguments, out, err);
  if (code == 0) {
    std::string printed = readAll(out);
    if (!known.empty()) {
      if (llvm::Error error = writeOutput(known, key + "\n" + printed)) {
        return std::move(error);
      }
    }
    return printed;
  }
  // Every line is an error of this command's now, and the tool was named.
  const std::string errors = readAll(err);
  std::string said;
  for (StringRef line : llvm::split(StringRef(errors).rtrim(), '\n')) {
    line.consume_front((tool + ": error: ").str());
    said += (said.empty() ? "" : "\n") + line.str();
  }
  if (code == 127 && said.empty()) {
    said = (program + " cannot be run; install moec and moe-run side by side").str();
  }
  return makeError("'" + text + "' failed" + (code < 0 ? " (it was ended by a signal)" : "") +
                   (folder.stays() ? "" : " (what it read is gone; --work FOLDER keeps it)") + ":\n" + said);
}

Expected<llvm::json::Object> CommandRunner::runJson(StringRef tool, std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const std::string text = spellCommand(tool, arguments);
  Expected<std::string> out = run(tool, std::move(arguments));
  if (!out) {
    return out.takeError();
  }
  Expected<llvm::json::Value> value = mlir::moe::parseJson(*out, text);
  if (!value) {
    return value.takeError();
  }
  llvm::json::Object *object = value->getAsObject();
  return object ? Expected<llvm::json::Object>(std::move(*object))
                : makeError("'" + text + "' printed " + mlir::moe::describe(*value) + ", but an object was expected");
}

bool CommandRunner::knows(StringRef tool, StringRef command, StringRef text) {
  CommonOptions silent = options;
  silent.quiet = true;
  Expected<std::string> help = CommandRunner(silent, folder).run(tool, {command.str(), "--help"});
  if (!help) {
    llvm::consumeError(help.takeError());
    return false;
  }
  return StringRef(*help).contains(text);
}
