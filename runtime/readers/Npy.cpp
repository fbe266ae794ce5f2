//===- Npy.cpp - Arrays of f32 in NumPy's file format ---------------------===//
//
// The header is a Python literal: written as NumPy writes it, and read by
// looking for the three keys, since that is all it may hold.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Npy.h"

#include "runtime/readers/File.h"

#include <cstdlib>

using namespace moert;
using namespace moert::readers;

namespace {

constexpr std::string_view magic("\x93NUMPY\x01\x00", 8);
constexpr std::string_view types = "'descr': '<f4', 'fortran_order': False, 'shape': (";

} // namespace

Result<NpyWriter> NpyWriter::create(const std::string &path, const std::vector<int64_t> &shape) {
  std::string header = concat("{", types);
  int64_t elements = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    header += concat(i == 0 ? "" : " ", shape[i], i + 1 < shape.size() || i == 0 ? "," : "");
    if (shape[i] < 0 || __builtin_mul_overflow(elements, shape[i], &elements)) {
      return error(Code::InvalidArgument, path, ": an array of ", shape[i],
                   " rows and its other dimensions is too large");
    }
  }
  header += "), }";
  // Magic, two bytes of length and header together are a multiple of 64 and end with a newline.
  size_t total = (magic.size() + 2 + header.size() + 1 + 63) / 64 * 64;
  header.append(total - magic.size() - 2 - header.size() - 1, ' ').append("\n");
  MOERT_ASSIGN(file, OutputFile::create(path));
  MOERT_TRY(file.write(magic.data(), magic.size()));
  unsigned char length[2] = {static_cast<unsigned char>(header.size()), static_cast<unsigned char>(header.size() >> 8)};
  MOERT_TRY(file.write(length, 2));
  MOERT_TRY(file.write(header.data(), header.size()));
  return NpyWriter(std::move(file), elements, total);
}

Status NpyWriter::put(int64_t first, const float *values, int64_t count) {
  if (first < 0 || count < 0 || first > elements - count) {
    return error(Code::Internal, "array file: elements ", first, " to ", first + count, " of ", elements);
  }
  missing -= count;
  return file.writeAt(start + static_cast<uint64_t>(first) * sizeof(float), values,
                      static_cast<size_t>(count) * sizeof(float));
}

Status NpyWriter::finish() {
  if (missing != 0) {
    return error(Code::Internal, "array file: ", missing < 0 ? -missing : missing, " elements ",
                 missing < 0 ? "too many" : "are missing");
  }
  return file.commit();
}

Result<NpyArray> moert::readers::readNpy(const std::string &path) {
  MOERT_ASSIGN(file, InputFile::open(path));
  char prefix[10];
  if (file.size() < sizeof(prefix)) {
    return error(Code::Corrupt, path, ": ", file.size(), " bytes is too short for a .npy file");
  }
  MOERT_TRY(file.read(0, prefix, sizeof(prefix)));
  if (std::string_view(prefix, 8) != magic) {
    return error(Code::Unsupported, path, ": not a .npy file of version 1.0");
  }
  size_t length = static_cast<unsigned char>(prefix[8]) | static_cast<size_t>(static_cast<unsigned char>(prefix[9]))
                                                              << 8;
  std::string header(length, '\0');
  MOERT_TRY(file.read(sizeof(prefix), header.data(), length));
  size_t at = header.find(types);
  if (at == std::string::npos) {
    return error(Code::Unsupported, path, ": holds ", header.substr(0, header.find('\n')),
                 ", only C-ordered f32 is read");
  }
  NpyArray array;
  uint64_t elements = 1;
  const char *cursor = header.c_str() + at + types.size();
  while (*cursor >= '0' && *cursor <= '9') {
    char *end;
    uint64_t dim = std::strtoull(cursor, &end, 10);
    if (__builtin_mul_overflow(elements, dim, &elements)) {
      return error(Code::Corrupt, path, ": its shape overflows");
    }
    array.shape.push_back(static_cast<int64_t>(dim));
    for (cursor = end; *cursor == ',' || *cursor == ' '; ++cursor) {
    }
  }
  uint64_t data = file.size() - sizeof(prefix) - length;
  if (*cursor != ')' || elements > data / sizeof(float) || elements * sizeof(float) != data) {
    return error(Code::Corrupt, path, ": its shape means ", elements, " elements of 4 bytes, but the file holds ", data,
                 " bytes");
  }
  array.values.resize(elements);
  MOERT_TRY(file.read(sizeof(prefix) + length, array.values.data(), data));
  return array;
}
