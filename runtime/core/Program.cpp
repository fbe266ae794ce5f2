// Loading of a package; see Program.h.
#include "runtime/core/Program.h"

#include "runtime/backends/cpu/ElfCheck.h"
#include "runtime/core/Backend.h"
#include "runtime/core/Checks.h"
#include "runtime/format/Checksum.h"

#include <algorithm>
#include <cstring>

namespace moert {
namespace {

const char kCompileAgain[] = "; compile the package again";

/// Compares the digest of `size` bytes with the 32 bytes that were recorded.
Status checkDigest(const std::string &path, const void *data, uint64_t size,
                   const flatbuffers::Vector<uint8_t> &expected) {
  format::Digest actual = format::sha256(data, size);
  if (memcmp(actual.data(), expected.data(), actual.size()) != 0) {
    return error(Code::Corrupt, path, ": has SHA-256 ", format::toHex(actual), ", the program recorded ",
                 format::toHex(expected.data(), expected.size()), ": the file was changed or damaged", kCompileAgain);
  }
  return {};
}

Status withPath(const std::string &path, Status status) {
  return status.ok() ? status : error(status.code(), path, ": ", status.message());
}

/// Every file of the package that the program names: its digest, without keeping the contents.
Status checkPackageFile(const std::string &folder, const format::PackageFile &expected) {
  MOERT_ASSIGN(file, File::open(joinPath(folder, expected.name()->str())));
  if (file.size() != expected.size()) {
    return error(Code::Corrupt, file.path(), ": has ", file.size(), " bytes, the program recorded ", expected.size(),
                 ": the file was changed or damaged", kCompileAgain);
  }
  MOERT_ASSIGN(contents, file.readAll(kMaxProgramBytes));
  return checkDigest(file.path(), contents.data(), file.size(), *expected.sha256());
}

/// Commands that its backend does not run make a variant unusable: better said now than in a step.
Status checkLedger(const format::Program &program, const format::Variant &variant) {
  for (uint32_t c = 0; variant.commands() && c < variant.commands()->size(); ++c) {
    const format::Command &command = *variant.commands()->Get(c);
    const bool isCpu = isForCpu(variant);
    if (const char *reason = isCpu ? cpuBackendLacks(variant, command) : cudaBackendLacks(variant, command)) {
      return error(Code::Unsupported, "variant '", variant.target()->str(), "': ", describeCommand(program, variant, c),
                   " cannot run on the ", isCpu ? "cpu" : "cuda", " backend: ", reason);
    }
  }
  return {};
}

/// The FlatBuffers verifier checks the alignment of a vector's length, not that of its elements.
template <typename T> bool isAligned(const flatbuffers::Vector<T> *vector, size_t alignment) {
  return !vector || vector->size() == 0 || reinterpret_cast<uintptr_t>(vector->Data()) % alignment == 0;
}

Status checkAlignment(const format::Program &program) {
  bool aligned = isAligned(program.tensors(), alignof(format::Tensor)) &&
                 isAligned(program.tables(), alignof(format::WeightTable)) &&
                 isAligned(program.table_entries(), alignof(format::TableEntry)) && isAligned(program.constants(), 64);
  for (uint32_t v = 0; program.variants() && v < program.variants()->size(); ++v) {
    const format::Variant &variant = *program.variants()->Get(v);
    aligned = aligned && isAligned(variant.buffers(), alignof(format::Buffer)) &&
              isAligned(variant.operands(), alignof(format::Operand)) &&
              isAligned(variant.commands(), alignof(format::Command));
    for (uint32_t e = 0; e < entryCount(variant); ++e) {
      aligned = aligned && isAligned(entryOf(variant, e).steps, alignof(format::StepVariant));
    }
    for (uint32_t i = 0; variant.initializers() && i < variant.initializers()->size(); ++i) {
      aligned = aligned && isAligned(variant.initializers()->Get(i)->scratch(), alignof(format::Buffer));
    }
  }
  return aligned ? Status() : error(Code::Corrupt, "has records that are not aligned", kCompileAgain);
}

} // namespace

uint32_t entryCount(const format::Variant &variant) { return 1 + (variant.entries() ? variant.entries()->size() : 0); }

EntryView entryOf(const format::Variant &variant, uint32_t index) {
  if (index == 0) {
    return {"step", variant.steps(), nullptr, nullptr};
  }
  const format::Entry &entry = *variant.entries()->Get(index - 1);
  return {entry.name()->c_str(), entry.steps(), entry.inputs(), entry.outputs()};
}

bool isForCpu(const format::Variant &variant) { return strncmp(variant.target()->c_str(), "cuda", 4) != 0; }

uint32_t gpuCapability(const format::Variant &variant, bool &exact) {
  const char prefix[] = "cuda:sm_";
  const std::string target = variant.target()->str();
  if (target.compare(0, sizeof(prefix) - 1, prefix) != 0) {
    return 0;
  }
  const size_t digits = target.find_first_not_of("0123456789", sizeof(prefix) - 1);
  exact = digits != std::string::npos;
  const std::string number = target.substr(sizeof(prefix) - 1, digits - (sizeof(prefix) - 1));
  const bool isNumber = number.size() == 2 || number.size() == 3;
  const bool endsWell = !exact || (digits + 1 == target.size() && (target[digits] == 'a' || target[digits] == 'f'));
  return isNumber && endsWell && number[0] != '0' ? uint32_t(std::stoul(number)) : 0;
}

uint32_t picksBuffer(const format::Program &program, const format::Variant &variant) {
  for (uint32_t b = 0; variant.buffers() && b < variant.buffers()->size(); ++b) {
    const format::Buffer &buffer = *variant.buffers()->Get(b);
    if (buffer.kind() == format::BufferKind::State &&
        strcmp(program.strings()->Get(buffer.name())->c_str(), "picks") == 0) {
      return b;
    }
  }
  return kNoBuffer;
}

std::vector<format::CollectiveKind> collectiveKinds(const format::Variant &variant) {
  std::vector<format::CollectiveKind> kinds;
  for (uint32_t c = 0; variant.commands() && c < variant.commands()->size(); ++c) {
    const format::Command &command = *variant.commands()->Get(c);
    const auto kind = format::CollectiveKind(command.target());
    if (command.kind() == format::CommandKind::Collective && !std::count(kinds.begin(), kinds.end(), kind)) {
      kinds.push_back(kind);
    }
  }
  return kinds;
}

bool runsMachineCode(uint32_t made, bool exact, uint32_t card) {
  return exact ? made == card : made / 10 == card / 10 && made <= card;
}

std::string Program::machineCodePath(size_t index) const {
  const std::string blob = variant(index).blob()->str();
  const std::string name = blob.substr(0, blob.rfind('.')) + ".cubin";
  for (uint32_t f = 0; !isForCpu(variant(index)) && program->package_files() && f < program->package_files()->size();
       ++f) {
    if (program->package_files()->Get(f)->name()->str() == name) {
      return joinPath(folder, name);
    }
  }
  return "";
}

Status checkProgramBytes(const uint8_t *bytes, size_t size, const format::Program *&program) {
  if (size < 8 || !format::ProgramBufferHasIdentifier(bytes)) {
    return error(Code::Corrupt, "is no moe-opt program: bytes 4 to 7 are not '", format::ProgramIdentifier(), "'");
  }
  flatbuffers::Verifier verifier(bytes, size, /*max_depth=*/16, /*max_tables=*/1u << 22);
  if (!format::VerifyProgramBuffer(verifier)) {
    return error(Code::Corrupt, "is not a well-formed FlatBuffer", kCompileAgain);
  }
  program = format::GetProgram(bytes);
  if (program->format_major() != format::kFormatMajor) {
    return error(Code::Unsupported, "has format version ", program->format_major(), ".", program->format_minor(),
                 ", this runtime reads ", format::kFormatMajor, ".x: ",
                 program->format_major() < format::kFormatMajor ? "compile the package again with this version"
                                                                : "run it with a newer runtime",
                 " (it was written by ", program->compiler()->str(), ")");
  }
  MOERT_TRY(checkAlignment(*program));
  MOERT_TRY(checkProgram(*program));
  for (uint32_t v = 0; program->variants() && v < program->variants()->size(); ++v) {
    const format::Variant &variant = *program->variants()->Get(v);
    if (Status status = checkVariant(*program, variant); !status.ok()) {
      return error(status.code(), "variant '", variant.target()->str(), "': ", status.message());
    }
  }
  return {};
}

Result<std::shared_ptr<Program>> Program::load(const std::string &package) {
  auto result = std::make_shared<Program>();
  result->folder = package;
  const std::string path = joinPath(package, kProgramFileName);
  auto file = File::open(path);
  if (!file.ok()) {
    const Status &status = file.status();
    return error(status.code(), status.message(),
                 status.code() == Code::NotFound ? ": is this a package that 'moec compile' wrote?" : "");
  }
  MOERT_ASSIGN(memory, file->readAll(kMaxProgramBytes));
  result->memory = std::move(memory);
  const uint8_t *bytes = result->memory.data();

  size_t payload = 0;
  format::Digest expected, actual;
  switch (format::unsealProgram(bytes, file->size(), payload, expected, actual)) {
  case format::Seal::Missing:
    return error(Code::Corrupt, path, ": its ", file->size(),
                 " bytes do not end with a seal: it was cut short, or is "
                 "no moe-opt program",
                 kCompileAgain);
  case format::Seal::Broken:
    return error(Code::Corrupt, path, ": has SHA-256 ", format::toHex(actual), ", its seal says ",
                 format::toHex(expected), ": the file was changed or damaged", kCompileAgain);
  case format::Seal::Intact:
    break;
  }
  result->seal = actual;
  MOERT_TRY(withPath(path, checkProgramBytes(bytes, payload, result->program)));

  for (uint32_t f = 0; result->program->package_files() && f < result->program->package_files()->size(); ++f) {
    MOERT_TRY(checkPackageFile(package, *result->program->package_files()->Get(f)));
  }
  result->blobs.resize(result->variantCount());
  for (size_t v = 0; v < result->variantCount(); ++v) {
    const format::Variant &variant = result->variant(v);
    MOERT_ASSIGN(blobFile, File::open(result->blobPath(v)));
    MOERT_ASSIGN(blob, blobFile.readAll(kMaxProgramBytes));
    MOERT_TRY(checkDigest(blobFile.path(), blob.data(), blobFile.size(), *variant.blob_sha256()));
    MOERT_TRY(withPath(path, checkLedger(*result->program, variant)));
    result->blobs[v].size = blobFile.size();
    if (!isForCpu(variant)) {
      result->blobs[v].memory = std::move(blob);
      continue;
    }
    std::vector<std::string> kernels;
    for (uint32_t k = 0; variant.kernels() && k < variant.kernels()->size(); ++k) {
      kernels.push_back(variant.kernels()->Get(k)->symbol()->str());
    }
    MOERT_TRY(cpu::checkKernelElf(blobFile.path(), blob.data(), blobFile.size(), kernels));
    result->blobs[v].memory = std::move(blob);
  }
  return result;
}

} // namespace moert
