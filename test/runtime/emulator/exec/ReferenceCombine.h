//===- ReferenceCombine.h - Read-modify-writes, once more -------*- C++ -*-===//
//
// The operations of atom, red and the reductions of bulk copies on one element, in
// integers. See Reference.h for the rest.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_TEST_EMULATOR_EXEC_REFERENCECOMBINE_H
#define MOERT_TEST_EMULATOR_EXEC_REFERENCECOMBINE_H

#include "runtime/emulator/ptx/Module.h"
#include "test/runtime/emulator/exec/SoftFloat.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <vector>

namespace moert::emulator::testing {

/// What a read-modify-write leaves of one element.
inline uint64_t combined(const ptx::Instruction &i, uint64_t old, uint64_t a, uint64_t b) {
  const ptx::Type type = i.types[0];
  const ptx::Reduce op = i.mods.reduce;
  const unsigned width = ptx::bitsOf(type);
  const uint64_t mask = width >= 64 ? ~uint64_t(0) : (uint64_t(1) << width) - 1;
  if (op == ptx::Reduce::Exch) {
    return a;
  }
  if (op == ptx::Reduce::Cas) {
    return old == a ? b : old;
  }
  if (ptx::isFloat(type)) {
    const Layout layout = layoutOf(type);
    const uint64_t sign = uint64_t(1) << (layout.width() - 1), least = uint64_t(1) << layout.mantissa;
    // In global memory f32 flushes subnormals, in shared memory not.
    const bool flushes =
        type == ptx::Type::F32 && i.mods.space != ptx::Space::Shared && i.mods.space != ptx::Space::SharedCluster;
    auto flushed = [&](uint64_t v) { return flushes && (v & ~sign) < least ? v & sign : v; };
    const Number x = decoded(flushed(old), layout), y = decoded(flushed(a), layout);
    if (op == ptx::Reduce::Add) {
      return flushed(rounded(sum(x, y, ptx::Round::RN), layout, ptx::Round::RN));
    }
    if (x.kind == Number::NaN || y.kind == Number::NaN) {
      return x.kind == Number::NaN ? (y.kind == Number::NaN ? sign - 1 : a) : old;
    }
    int order = compared(x, y);
    order = order ? order : int(y.negative) - int(x.negative);
    return (op == ptx::Reduce::Min ? order <= 0 : order >= 0) ? old : a;
  }
  const bool isSigned = ptx::isSigned(type);
  auto value = [&](uint64_t v) {
    return isSigned ? __int128(int64_t(v << (64 - width)) >> (64 - width)) : __int128(v & mask);
  };
  switch (op) {
  case ptx::Reduce::Add:
    return (old + a) & mask;
  case ptx::Reduce::Min:
    return value(old) < value(a) ? old : a;
  case ptx::Reduce::Max:
    return value(old) > value(a) ? old : a;
  case ptx::Reduce::And:
    return old & a;
  case ptx::Reduce::Or:
    return old | a;
  case ptx::Reduce::Xor:
    return old ^ a;
  case ptx::Reduce::Inc:
    return old >= a ? 0 : (old + 1) & mask;
  case ptx::Reduce::Dec:
    return old == 0 || old > a ? a : old - 1;
  default:
    ADD_FAILURE() << "no reference for this operation";
    return 0;
  }
}

/// Values of the type that it should have met.
inline std::vector<uint64_t> edgesOf(ptx::Type type) {
  if (ptx::isFloat(type)) {
    const Layout layout = layoutOf(type);
    const uint64_t sign = uint64_t(1) << (layout.width() - 1), least = uint64_t(1) << layout.mantissa;
    const uint64_t one = uint64_t(layout.bias()) << layout.mantissa, infinity = ((uint64_t(1) << layout.exponent) - 1)
                                                                                << layout.mantissa;
    return {0,
            sign,
            one,
            one | sign,
            one + 3,
            1,
            least - 1,
            sign | (least - 1),
            least,
            infinity,
            infinity | sign,
            infinity - 1,
            sign - 1};
  }
  const uint64_t top = uint64_t(1) << (std::min(64U, ptx::bitsOf(type)) - 1);
  return {0, 1, 2, 5, 31, top - 1, top, top + 1, 2 * top - 1, 0x55, 2 * top - 2};
}

} // namespace moert::emulator::testing

#endif // MOERT_TEST_EMULATOR_EXEC_REFERENCECOMBINE_H
