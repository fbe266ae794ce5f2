// Checks of what all variants share: limits, files, tensors and weight tables. A variant's own: VariantChecks.cpp.
#include "runtime/core/CheckTexts.h"
#include "runtime/core/Checks.h"

namespace moert {

bool isSafeRelativePath(const std::string &path) {
  if (path.find('\0') != std::string::npos) {
    return false;
  }
  // An empty path and an absolute one have an empty first part.
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = path.find('/', begin);
    end = end == std::string::npos ? path.size() : end;
    std::string part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") {
      return false;
    }
    begin = end + 1;
  }
  return true;
}

Status checkProgram(const format::Program &program) {
  if (program.vocab() < 1 || program.vocab() > kMaxSize || program.max_tokens() < 1 ||
      program.max_tokens() > kMaxSize || program.max_context() < 0) {
    return corrupt("vocabulary ", program.vocab(), ", largest step ", program.max_tokens(), ", context ",
                   program.max_context(), ": must be 1 to 2^31, 1 to 2^31 and at least 0");
  }
  for (uint32_t f = 0; f < sizeOf(program.files()); ++f) {
    const format::File &file = *program.files()->Get(f);
    if (!isSafeRelativePath(file.name()->str())) {
      return corrupt("checkpoint file ", f, " '", file.name()->str(), "' must be a path inside the checkpoint");
    }
    if (file.header_sha256()->size() != 32 || (file.sha256() && file.sha256()->size() != 32)) {
      return corrupt("checkpoint file '", file.name()->str(), "': a SHA-256 must have 32 bytes");
    }
    if (file.in_package() && !file.sha256()) {
      return corrupt("file '", file.name()->str(), "' with weights in the package must have a SHA-256");
    }
    if (file.header_bytes() > file.size()) {
      return corrupt("checkpoint file '", file.name()->str(), "' has a header of ", file.header_bytes(), " bytes in ",
                     file.size());
    }
  }
  for (uint32_t f = 0; f < sizeOf(program.package_files()); ++f) {
    const format::PackageFile &file = *program.package_files()->Get(f);
    if (!isSafeRelativePath(file.name()->str()) || file.sha256()->size() != 32) {
      return corrupt("package file ", f, " '", file.name()->str(),
                     "' must be a path inside the package with a SHA-256 of 32 bytes");
    }
  }
  for (uint32_t t = 0; t < sizeOf(program.tensors()); ++t) {
    const format::Tensor &tensor = *program.tensors()->Get(t);
    if (tensor.name() >= sizeOf(program.strings()) || uint8_t(tensor.dtype()) > uint8_t(format::DType::MAX) ||
        tensor.rank() > 3) {
      return corrupt("tensor ", t, " has name index ", tensor.name(), ", dtype ", int(tensor.dtype()), ", rank ",
                     int(tensor.rank()), ": must be below ", sizeOf(program.strings()), ", at most ",
                     int(format::DType::MAX), " and at most 3");
    }
    if (tensor.file() == kNoFile) {
      if (tensor.bytes() > uint64_t(INT64_MAX)) {
        return corrupt("tensor ", t, " '", nameOrDash(program, tensor.name()), "' has ", tensor.bytes(), " bytes");
      }
      continue;
    }
    if (tensor.file() >= sizeOf(program.files())) {
      return corrupt("tensor ", t, " is in file ", tensor.file(), " of ", sizeOf(program.files()));
    }
    uint64_t size = program.files()->Get(tensor.file())->size();
    if (tensor.offset() > size || tensor.bytes() > size - tensor.offset()) {
      return corrupt("tensor ", t, " '", nameOrDash(program, tensor.name()), "' is bytes ", tensor.offset(), " .. + ",
                     tensor.bytes(), " of '", program.files()->Get(tensor.file())->name()->str(), "', which has ",
                     size);
    }
  }
  for (uint32_t e = 0; e < sizeOf(program.table_entries()); ++e) {
    const format::TableEntry &entry = *program.table_entries()->Get(e);
    if (entry.tensor() >= sizeOf(program.tensors()) ||
        entry.offset() > program.tensors()->Get(entry.tensor())->bytes()) {
      return corrupt("weight table entry ", e, " is offset ", entry.offset(), " of tensor ", entry.tensor(), " of ",
                     sizeOf(program.tensors()));
    }
  }
  for (uint32_t t = 0; t < sizeOf(program.tables()); ++t) {
    const format::WeightTable &table = *program.tables()->Get(t);
    uint64_t entries = sizeOf(program.table_entries());
    if (table.first() > entries || table.count() > entries - table.first()) {
      return corrupt("weight table ", t, " has entries ", table.first(), " .. + ", table.count(), " of ", entries);
    }
  }
  return {};
}

} // namespace moert
