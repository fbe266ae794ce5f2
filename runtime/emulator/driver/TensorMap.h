//===- TensorMap.h - The bytes of a tensor map ------------------*- C++ -*-===//
//
// A CUtensorMap is 128 opaque bytes. Ours hold the fields below, which whoever
// executes cp.async.bulk.tensor reads and tensormap.replace writes. Every field
// is plain: a map that a kernel builds from zero bytes means interleave none,
// swizzle none and fill zero, as PTX says of tensormap.replace.
//
// The encoding is ours, not the card's; programs that look into the bytes of a
// real map do not work here.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_DRIVER_TENSORMAP_H
#define MOERT_EMULATOR_DRIVER_TENSORMAP_H

#include <cstdint>
#include <cstring>

namespace moert::emulator {

/// Fields of a tiled map, with the driver API's enumerations. Those of PTX tensormap.replace are the same but for the
/// element type (exec/Tensormap.cpp).
struct TensorMapFields {
  uint64_t globalAddress = 0;
  uint64_t globalStride[4] = {}; ///< bytes; of dimensions 1 to 4
  uint64_t globalDim[5] = {};    ///< elements
  uint16_t boxDim[5] = {};       ///< elements
  uint8_t elementStride[5] = {};
  uint8_t rank = 0; ///< dimensions minus one, as tensormap.replace.rank has it
  uint8_t elementType = 0;
  uint8_t interleave = 0;
  uint8_t swizzle = 0; ///< 0 none, 1 to 3: 32, 64, 128 bytes
  uint8_t swizzleAtomicity = 0;
  uint8_t fill = 0; ///< 0 zeros, 1 NaN
  uint8_t l2Promotion = 0;
  uint8_t padding[26] = {};
};
static_assert(sizeof(TensorMapFields) == 128, "a tensor map has 128 bytes");

/// Bytes of one element of that type (a number of CUtensorMapDataType), 0 when unknown.
inline unsigned tensorElementBytes(unsigned type) {
  constexpr uint8_t bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  return type < sizeof(bytes) ? bytes[type] : 0;
}

/// Whether fill with NaN is allowed for that type.
inline bool tensorElementIsFloat(unsigned type) { return type >= 6 && type <= 12; }

} // namespace moert::emulator

#endif // MOERT_EMULATOR_DRIVER_TENSORMAP_H
