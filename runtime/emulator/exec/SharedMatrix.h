//===- SharedMatrix.h - Matrices that descriptors describe ------*- C++ -*-===//
//
// Where the elements of an operand of wgmma lie in shared memory, and what their
// bits mean. Address arithmetic only: reading and judging is Wgmma.cpp's.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_SHAREDMATRIX_H
#define MOERT_EMULATOR_EXEC_SHAREDMATRIX_H

#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/ptx/Types.h"

#include <cstdint>

namespace moert::emulator {

/// A matrix in shared memory as its descriptor says.
struct SharedMatrix {
  uint64_t start = 0, leading = 0, stride = 0;
  unsigned swizzle = 0; ///< 0 none; 1, 2, 3: 32, 64, 128 bytes
  bool mnMajor = false;
  unsigned bytes = 2; ///< of an element

  explicit SharedMatrix(uint64_t bits) {
    start = (bits & 0x3FFF) << 4;
    leading = (bits >> 16 & 0x3FFF) << 4;
    stride = (bits >> 32 & 0x3FFF) << 4;
    static const unsigned modes[] = {0, 3, 2, 1};
    swizzle = modes[bits >> 62];
  }
  /// Shared address of the element at row `r` (of M or N) and column `k`.
  uint64_t at(unsigned r, unsigned k) const {
    const unsigned span = 16U << swizzle; // bytes of a row of the pattern
    uint64_t address;
    if (!mnMajor) {
      unsigned byte = k * bytes;
      address = swizzle ? start + r / 8 * stride + uint64_t(r % 8) * span + byte
                        : start + r / 8 * stride + byte / 16 * leading + r % 8 * 16 + byte % 16;
    } else {
      unsigned perRow = span / bytes;
      uint64_t inRow = uint64_t(r % perRow) * bytes;
      address = swizzle ? start + r / perRow * leading + k / 8 * stride + uint64_t(k % 8) * span + inRow
                        : start + r / perRow * stride + k / 8 * leading + k % 8 * 16 + inRow;
    }
    return address ^ ((address >> 7 & ((1U << swizzle) - 1)) << 4);
  }
};

/// An element of `type` as a float (exact for all types of wgmma).
inline float elementOf(uint32_t bits, ptx::Type type) {
  using ptx::Type;
  switch (type) {
  case Type::F16:
    return f16ToFloat(bits & 0xFFFF);
  case Type::BF16:
    return bf16ToFloat(bits & 0xFFFF);
  case Type::TF32:
    return floatOfBits(bits & 0xFFFFE000);
  case Type::E4M3:
    return float(decode(bits & 255, formatE4M3));
  case Type::E5M2:
    return float(decode(bits & 255, formatE5M2));
  case Type::S8:
    return float(int8_t(bits));
  default:
    return float(uint8_t(bits));
  }
}

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_SHAREDMATRIX_H
