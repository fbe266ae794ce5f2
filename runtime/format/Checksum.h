// SHA-256 and the seal of the program file.
//
// A sealed program file is the FlatBuffer, the 8 bytes "MOEPSHA2" and the SHA-256 of everything before that digest
// (FlatBuffer and magic). The loader checks the seal before it looks at anything else, so that a flipped or missing
// byte is reported as such and never interpreted. A checksum finds accidents; it is not a signature.
//
// Used by the serializer (sealProgram), the runtime (unsealProgram, Sha256) and tests. No LLVM, no allocation but
// the strings that are returned.
#ifndef MOERT_FORMAT_CHECKSUM_H
#define MOERT_FORMAT_CHECKSUM_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace moert::format {

/// Version of the program file that this code writes and reads. A reader refuses every other major version and
/// reads every minor one: a minor version only adds fields that an older reader may ignore.
constexpr uint16_t kFormatMajor = 1;
constexpr uint16_t kFormatMinor = 6;

using Digest = std::array<uint8_t, 32>;

/// Incremental SHA-256 (FIPS 180-4); uses the CPU's SHA instructions where present.
class Sha256 {
public:
  Sha256();
  void update(const void *data, size_t size);
  Digest finish();

private:
  uint32_t state[8];
  uint8_t pending[64];
  uint64_t total = 0;
};

Digest sha256(const void *data, size_t size);

/// 64 lower-case hexadecimal digits.
std::string toHex(const Digest &digest);
std::string toHex(const uint8_t *bytes, size_t size);

constexpr size_t kSealSize = 8 + 32;

/// The bytes to write after a program's FlatBuffer: magic and digest.
std::string sealProgram(const void *flatbuffer, size_t size);

/// What a check of the seal found.
enum class Seal { Intact, Missing, Broken };

/// Checks a whole program file. `payload` receives the size of the FlatBuffer, `expected` and `actual` the digests
/// (both set unless the seal is missing).
Seal unsealProgram(const void *file, size_t size, size_t &payload, Digest &expected, Digest &actual);

} // namespace moert::format

#endif // MOERT_FORMAT_CHECKSUM_H
