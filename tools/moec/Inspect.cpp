//===- Inspect.cpp - moec inspect: what a directory or a package holds ------===//

#include "passes/Json/JsonFile.h"
#include "runtime/format/Checksum.h"
#include "tools/moec/Model.h"
#include "tools/moec/OutputFile.h"
#include "tools/moec/RuntimeLibrary.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace moec;
using llvm::formatv;
using mlir::moe::makeError;

namespace {

/// One line of the text form.
void row(llvm::StringRef key, const llvm::Twine &value) { llvm::outs() << formatv("  {0,-18} ", key) << value << '\n'; }

} // namespace

static ExitCode inspectDirectory(const InspectCommand &command) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  DiagnosticPrinter diagnostics(context);
  llvm::Expected<mlir::moe::CheckpointDirectory> directory = mlir::moe::openCheckpointDirectory(command.path);
  if (!directory) {
    return fail(directory.takeError());
  }
  const mlir::moe::ModelConfig config = directory->config;
  uint64_t bytes = 0;
  for (const auto &tensor : directory->checkpoint.tensors()) {
    bytes += tensor.bytes;
  }
  const size_t files = directory->checkpoint.files().size(), tensors = directory->checkpoint.tensors().size();
  llvm::Expected<Model> model = importDirectory(context, std::move(*directory), ModelOptions());
  if (!model) {
    return fail(model.takeError());
  }
  if (command.json) {
    llvm::json::Object result = describeModel(*model);
    result["kind"] = config.naming == mlir::moe::Naming::Gguf ? "gguf" : "checkpoint";
    result["class"] = config.family->className;
    result["shape"] = llvm::json::Object{
        {"layers", config.layers},    {"hidden", config.hidden},   {"ffn", config.ffn},
        {"vocab", config.vocab},      {"heads", config.heads},     {"kv_heads", config.kvHeads},
        {"head_dim", config.headDim}, {"experts", config.experts}, {"experts_per_token", config.expertsPerToken}};
    result["rope"] = stringifyRopeKind(config.rope.kind);
    result["weight_bytes"] = bytes;
    result["tensors"] = tensors;
    result["files"] = files;
    printJson(std::move(result));
    return kSuccess;
  }
  const bool isGguf = config.naming == mlir::moe::Naming::Gguf;
  llvm::outs() << command.path << (isGguf ? ": GGUF file\n" : ": Hugging Face checkpoint\n");
  row("class", config.family->className + " (" + config.family->modelType + ")");
  row("parameters", withCommas(model->parameters));
  row("weights",
      formatv("{0} bytes, {1} tensors in {2} {3}", withCommas(bytes), tensors, files, files == 1 ? "file" : "files")
          .str());
  row("layers", llvm::Twine(config.layers) + ", H " + llvm::Twine(config.hidden) + ", I " + llvm::Twine(config.ffn) +
                    ", V " + llvm::Twine(config.vocab));
  row("attention", llvm::Twine(config.heads) + " heads, " + llvm::Twine(config.kvHeads) + " kv heads, D " +
                       llvm::Twine(config.headDim) + ", RoPE " + stringifyRopeKind(config.rope.kind));
  if (config.experts != 0) {
    row("experts", llvm::Twine(config.experts) + ", " + llvm::Twine(config.expertsPerToken) + " per token");
  }
  row("context", withCommas(config.maxPositions) + (config.contextLimit ? " tokens at most" : " tokens in training"));
  row("activations", model->dtype + " by default");
  for (const std::string &note : model->notes) {
    row("note", note);
  }
  return kSuccess;
}

/// The manifest, after comparing every file that it names with its SHA-256.
static llvm::Expected<llvm::json::Value> checkManifest(const std::string &package) {
  const std::string path = package + "/" + kManifestFile.str();
  llvm::Expected<llvm::json::Value> manifest = mlir::moe::readJsonFile(path);
  if (!manifest) {
    return manifest.takeError();
  }
  const llvm::json::Object *object = manifest->getAsObject();
  const llvm::json::Array *files = object ? object->getArray("files") : nullptr;
  if (!files) {
    return makeError(path + ": has no array 'files'; it was not written by moec");
  }
  for (const llvm::json::Value &value : *files) {
    const llvm::json::Object *entry = value.getAsObject();
    auto name = entry ? entry->getString("name") : std::nullopt,
         expected = entry ? entry->getString("sha256") : std::nullopt;
    if (!name || !expected || name->contains('/')) {
      return makeError(path + ": every entry of 'files' needs a plain 'name' and a 'sha256', but one is " +
                       mlir::moe::describe(value));
    }
    std::string file = package + "/" + name->str();
    auto buffer = llvm::MemoryBuffer::getFile(file, /*IsText=*/false, /*RequiresNullTerminator=*/false);
    if (!buffer) {
      return makeError(file + ": cannot be read: " + buffer.getError().message());
    }
    llvm::StringRef contents = (*buffer)->getBuffer();
    std::string actual = moert::format::toHex(moert::format::sha256(contents.data(), contents.size()));
    if (actual != *expected) {
      return makeError(file + ": SHA-256 is " + actual + ", but the manifest says " + *expected +
                       "; the package is damaged, compile it again");
    }
  }
  return manifest;
}

static ExitCode inspectPackage(const InspectCommand &command) {
  llvm::Expected<llvm::json::Value> manifest = checkManifest(command.path);
  if (!manifest) {
    return fail(manifest.takeError());
  }
  // The runtime's own load check, when the library is there.
  std::string loaded;
  if (llvm::Expected<RuntimeLibrary> runtime = RuntimeLibrary::open()) {
    if (llvm::Error error = runtime->checkPackage(command.path)) {
      return fail(std::move(error));
    }
    loaded = "passes the load check of libmoert " + runtime->getVersion();
  } else {
    loaded = "not load-checked: " + llvm::toString(runtime.takeError());
  }
  llvm::json::Object &object = *manifest->getAsObject();
  if (command.json) {
    object["kind"] = "package";
    object["load_check"] = loaded;
    printJson(std::move(*manifest));
    return kSuccess;
  }
  auto text = [](const llvm::json::Object *from, llvm::StringRef key) {
    const llvm::json::Value *value = from ? from->get(key) : nullptr;
    if (!value) {
      return std::string("unknown");
    }
    if (auto number = value->getAsInteger()) {
      return withCommas(*number);
    }
    return value->getAsString().value_or("unknown").str();
  };
  const llvm::json::Object *model = object.getObject("model");
  llvm::outs() << command.path << ": package\n";
  row("compiler", text(&object, "compiler"));
  row("model",
      text(model, "family") + ", " + text(model, "parameters") + " parameters, activations " + text(model, "dtype"));
  if (const llvm::json::Array *variants = object.getArray("variants")) {
    for (const llvm::json::Value &variant : *variants) {
      const llvm::json::Object *facts = variant.getAsObject();
      const int64_t ranks = facts ? facts->getInteger("ranks").value_or(1) : 1;
      row("variant",
          text(facts, "target") + ", " + text(facts, "kernels") +
              (ranks > 1 ? ", " + std::to_string(ranks) + " ranks with " + text(facts, "rank_inputs") + " inputs"
                         : ""));
    }
  }
  for (const llvm::json::Value &file : *object.getArray("files")) {
    row(text(file.getAsObject(), "name"), text(file.getAsObject(), "size") + " bytes");
  }
  row("state", loaded);
  return kSuccess;
}

ExitCode moec::runInspect(const InspectCommand &command) {
  if (!llvm::sys::fs::exists(command.path)) {
    printError(command.path + ": no such file or directory");
    return kUserError;
  }
  if (isPackage(command.path)) {
    return inspectPackage(command);
  }
  if (!llvm::sys::fs::exists(command.path + "/config.json") && !moert::readers::isGguf(command.path)) {
    printError(command.path + ": is neither a package (it has no " + kProgramFile +
               "), a Hugging Face model directory (it has no config.json) nor a GGUF file");
    return kUserError;
  }
  return inspectDirectory(command);
}
