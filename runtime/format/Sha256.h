//===- Sha256.h - SHA-256 ---------------------------------------*- C++ -*-===//
//
// SHA-256 (FIPS 180-4) of bytes given in pieces: identities of checkpoint files
// and checksums of packages. Uses the CPU's SHA instructions where there are
// any. Not for secrets: nothing here is constant-time.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_FORMAT_SHA256_H
#define MOERT_FORMAT_SHA256_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace moert {

/// The 32 bytes of a SHA-256.
using Digest = std::array<uint8_t, 32>;

/// A SHA-256 in progress.
class Sha256 {
public:
  Sha256();
  /// Appends `size` bytes to the message.
  void update(const void *data, size_t size);
  /// Ends the message; the object must not be used afterwards.
  Digest finish();

  /// The digest of one piece.
  static Digest of(const void *data, size_t size);

private:
  std::array<uint32_t, 8> state;
  std::array<uint8_t, 64> pending;
  uint64_t length = 0;
};

/// 64 lower-case hexadecimal digits.
std::string toHex(const Digest &digest);

} // namespace moert

#endif // MOERT_FORMAT_SHA256_H
