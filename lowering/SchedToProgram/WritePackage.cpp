//===- WritePackage.cpp - The files of a package ----------------------------===//
//
// program.moep for the runtime, one shared object per variant, and
// manifest.json for tools that want to know what is in a package without
// reading FlatBuffers.
//
//===----------------------------------------------------------------------===//

#include "lowering/SchedToProgram/SchedToProgram.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Verifier.h"
#include "runtime/format/Checksum.h"
#include "runtime/readers/Safetensors.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <map>

using namespace mlir;
using namespace mlir::sched;
namespace format = moert::format;

namespace {

/// What manifest.json says of a file.
struct FileFacts {
  uint64_t size;
  std::string sha256;
};

/// By name, so that the manifest is deterministic.
using FileList = std::map<std::string, FileFacts>;

constexpr llvm::StringLiteral kProgramName = "program.moep";
constexpr llvm::StringLiteral kManifestName = "manifest.json";

} // namespace

static FileFacts describe(StringRef bytes) {
  return {bytes.size(), format::toHex(format::sha256(bytes.data(), bytes.size()))};
}

/// Writes a whole file; a full disk is an error here, not a crash.
static LogicalResult writeFile(Operation *op, StringRef directory, StringRef name, StringRef bytes) {
  SmallString<256> path(directory);
  llvm::sys::path::append(path, name);
  std::error_code code;
  llvm::raw_fd_ostream stream(path, code);
  if (!code) {
    stream << bytes;
    stream.close();
    code = stream.error();
    stream.clear_error();
  }
  return code ? op->emitError("cannot write ") << path << " (" << bytes.size() << " bytes): " << code.message()
                                               << ": check the path and the free space"
              : success();
}

/// Hashes what is in the package already: tokenizer, configs.
static LogicalResult addPackageFiles(ProgramOp program, StringRef directory, FileList &files) {
  FileList found;
  std::error_code code;
  for (llvm::sys::fs::directory_iterator it(directory, code), end; it != end && !code; it.increment(code)) {
    if (it->type() != llvm::sys::fs::file_type::regular_file) {
      continue;
    }
    auto buffer = llvm::MemoryBuffer::getFile(it->path(), /*IsText=*/false, /*RequiresNullTerminator=*/false);
    if (!buffer) {
      return program.emitError("cannot read ") << it->path() << ": " << buffer.getError().message();
    }
    found[llvm::sys::path::filename(it->path()).str()] = describe((*buffer)->getBuffer());
  }
  if (code) {
    return program.emitError("cannot list the package directory ") << directory << ": " << code.message();
  }
  for (auto file : llvm::make_early_inc_range(program.getBody().getOps<PackageFileOp>())) {
    file.erase();
  }
  files.insert(found.begin(), found.end());
  for (auto weights : program.getBody().getOps<FileOp>()) {
    if (weights.getInPackage()) {
      found.erase(weights.getSymName().str());
    }
  }
  OpBuilder builder(program.getContext());
  auto afterFiles = llvm::find_if(program.getBody().front(), [](Operation &op) { return !isa<FileOp>(op); });
  builder.setInsertionPoint(&program.getBody().front(), afterFiles);
  for (const auto &[name, facts] : found) {
    PackageFileOp::create(builder, program.getLoc(), builder.getStringAttr(name), builder.getI64IntegerAttr(facts.size),
                          builder.getStringAttr(facts.sha256));
  }
  return success();
}

static std::string writeManifest(ProgramOp program, const FileList &files) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream json(stream, /*IndentSize=*/2);
  json.object([&] {
    json.attribute("format", llvm::formatv("{0}.{1}", format::kFormatMajor, format::kFormatMinor).str());
    json.attribute("compiler", program.getCompiler().value_or(""));
    if (program.getModel()) {
      if (llvm::Expected<llvm::json::Value> model = llvm::json::parse(*program.getModel())) {
        json.attribute("model", *model);
      } else {
        llvm::consumeError(model.takeError()); // The program file has the text; the manifest has no use for it.
      }
    }
    json.attributeArray("variants", [&] {
      for (auto variant : program.getBody().getOps<VariantOp>()) {
        json.object([&] {
          json.attribute("target", variant.getTarget());
          json.attribute("kernels", *variant.getBlob());
          json.attribute("ranks", static_cast<int64_t>(variant.getRanks()));
          json.attribute("rank_inputs", variant.getDistributed() ? "distributed" : "replicated");
          json.attributeArray("features", [&] {
            for (StringRef feature : variant.getFeatures().getAsValueRange<StringAttr>()) {
              json.value(feature);
            }
          });
        });
      }
    });
    json.attributeArray("files", [&] {
      for (const auto &file : files) {
        json.object([&] {
          json.attribute("name", file.first);
          json.attribute("size", file.second.size);
          json.attribute("sha256", file.second.sha256);
        });
      }
    });
  });
  stream << "\n";
  return text;
}

LogicalResult sched::writePackage(ModuleOp module, ArrayRef<KernelBlob> blobs,
                                  const moert::readers::Checkpoint &checkpoint, StringRef directory,
                                  ArrayRef<PackagedWeights> packaged) {
  FailureOr<ProgramOp> program = getProgram(module);
  FileList files;
  if (failed(program) || failed(locateTensors(*program, checkpoint, packaged)) ||
      failed(attachKernels(*program, blobs)) || failed(computeInitializerKeys(*program)) ||
      failed(addPackageFiles(*program, directory, files)) || failed(verify(module))) {
    return failure();
  }
  FailureOr<std::string> bytes = serializeProgram(*program);
  if (failed(bytes)) {
    return failure();
  }
  for (const KernelBlob &blob : blobs) {
    files[getBlobName(blob.target)] = describe(blob.bytes);
    if (failed(writeFile(*program, directory, getBlobName(blob.target), blob.bytes))) {
      return failure();
    }
  }
  files[kProgramName.str()] = describe(*bytes);
  return success(succeeded(writeFile(*program, directory, kProgramName, *bytes)) &&
                 succeeded(writeFile(*program, directory, kManifestName, writeManifest(*program, files))));
}
