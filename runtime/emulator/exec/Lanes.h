//===- Lanes.h - Applying a function to 32 lanes ----------------*- C++ -*-===//
//
// Handlers of arithmetic are a function of values and a type; `unary`, `binary`
// and `ternary` make the loop over lanes around it, which the compiler
// vectorises. Full masks store plainly, others blend. Narrow values live
// zero-extended in 32-bit lanes.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_LANES_H
#define MOERT_EMULATOR_EXEC_LANES_H

#include "runtime/emulator/exec/Warp.h"

#include <cstring>
#include <type_traits>

namespace moert::emulator {

/// How lanes of T are stored.
template <typename T> using Stored = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <typename T> inline T fromStored(Stored<T> bits) {
  if constexpr (std::is_integral_v<T>) {
    return T(bits);
  } else {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
}

template <typename T> inline Stored<T> toStored(T value) {
  if constexpr (std::is_integral_v<T>) {
    return Stored<T>(std::make_unsigned_t<T>(value));
  } else {
    Stored<T> bits;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
  }
}

/// Stores `value(l)` to the lanes of `mask`.
template <typename S, typename F> inline void storeLanes(S *to, uint32_t mask, F value) {
  if (mask == ~0U) {
    alignas(64) S out[32];
    for (unsigned l = 0; l < 32; ++l) {
      out[l] = value(l);
    }
    std::memcpy(to, out, sizeof out);
  } else {
    for (unsigned l = 0; l < 32; ++l) {
      S result = value(l);
      to[l] = (mask >> l & 1) ? result : to[l];
    }
  }
}

template <typename R, typename A, typename F> inline Step unary(Warp &w, const Op &op, uint32_t mask, F f) {
  const auto *a = w.at<Stored<A>>(op.a);
  storeLanes(w.at<Stored<R>>(op.d), mask, [&](unsigned l) { return toStored<R>(f(fromStored<A>(a[l]))); });
  return Step::Next;
}

template <typename R, typename A, typename B, typename F>
inline Step binary(Warp &w, const Op &op, uint32_t mask, F f) {
  const auto *a = w.at<Stored<A>>(op.a);
  const auto *b = w.at<Stored<B>>(op.b);
  storeLanes(w.at<Stored<R>>(op.d), mask,
             [&](unsigned l) { return toStored<R>(f(fromStored<A>(a[l]), fromStored<B>(b[l]))); });
  return Step::Next;
}

template <typename R, typename A, typename B, typename C, typename F>
inline Step ternary(Warp &w, const Op &op, uint32_t mask, F f) {
  const auto *a = w.at<Stored<A>>(op.a);
  const auto *b = w.at<Stored<B>>(op.b);
  const auto *c = w.at<Stored<C>>(op.c);
  storeLanes(w.at<Stored<R>>(op.d), mask,
             [&](unsigned l) { return toStored<R>(f(fromStored<A>(a[l]), fromStored<B>(b[l]), fromStored<C>(c[l]))); });
  return Step::Next;
}

/// Bits per lane of a type as stored: 1, 32 or 64.
inline unsigned storedBits(ptx::Type type) {
  unsigned bits = ptx::bitsOf(type);
  return type == ptx::Type::Pred ? 1 : bits <= 32 ? 32 : bits;
}

/// Operands d, a, b, c in order, all of type `types[0]` unless stated; marks the op pure.
inline void plainOperands(Builder &b, const ptx::Instruction &inst, Op &op, unsigned sources, unsigned destBits,
                          unsigned sourceBits) {
  op.flags |= OpPure;
  op.d = b.ref(inst, 0, destBits);
  Ref *to[] = {&op.a, &op.b, &op.c, &op.e};
  for (unsigned i = 0; i < sources; ++i) {
    *to[i] = b.ref(inst, i + 1, sourceBits);
  }
}

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_LANES_H
