//===- Reference.h - What an instruction on registers must give -*- C++ -*-===//
//
// The semantics of section 9.7 of the PTX ISA a second time, lane by lane and
// without the emulator's code: integers in 128 bits, floating point in
// SoftFloat.h. Where the ISA leaves a result open (division by zero, the bits of
// a NaN, the error of an .approx function), what is allowed is a set.
//
// Takes instructions whose result depends on registers only; memory, barriers
// and matrices have tests of their own (see Families in TableTest.cpp).
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_TEST_EMULATOR_EXEC_REFERENCE_H
#define MOERT_TEST_EMULATOR_EXEC_REFERENCE_H

#include "runtime/emulator/ptx/Module.h"
#include "test/runtime/emulator/exec/SoftFloat.h"

#include <optional>
#include <string>
#include <vector>

namespace moert::emulator::testing {

/// The values that a result may have.
class Allowed {
public:
  static Allowed only(uint64_t bits, uint64_t mask = ~uint64_t(0));
  static Allowed either(uint64_t bits, uint64_t other);
  static Allowed anything();
  /// Any NaN of the format.
  static Allowed nan(const Layout &layout);
  /// Within `error` of `value`.
  static Allowed near(double value, double error, const Layout &layout);

  bool admits(uint64_t bits) const;
  std::string str() const;

private:
  enum Kind { Bits, NaN, Near, All } kind = All;
  uint64_t first = 0, second = 0, mask = 0;
  double value = 0, error = 0;
  Layout layout{};
};

/// The operands of one lane, as they lie in their registers.
struct Given {
  uint64_t s[5] = {};          ///< sources in the order of the text; a predicate is 0 or 1
  bool carry = false;          ///< the carry flag before
  unsigned sourceBits[5] = {}; ///< widths of their registers
  unsigned resultBits = 0;     ///< of the destination's register
};

/// What must come out.
struct Wanted {
  struct Part {
    unsigned at, bits;
    Allowed allowed;
  };
  std::vector<Part> d; ///< parts of the destination
  std::optional<bool> p, q, carry;

  void all(const Allowed &allowed) { d = {{0, 64, allowed}}; }
};

/// False when the instruction has no reference: the caller must fail.
bool reference(const ptx::Instruction &instruction, const Given &given, Wanted &wanted);

// The parts, each for its opcodes.
bool integerReference(const ptx::Instruction &instruction, const Given &given, Wanted &wanted);
bool bitReference(const ptx::Instruction &instruction, const Given &given, Wanted &wanted);
bool floatReference(const ptx::Instruction &instruction, const Given &given, Wanted &wanted);
bool convertReference(const ptx::Instruction &instruction, const Given &given, Wanted &wanted);
bool compareReference(const ptx::Instruction &instruction, const Given &given, Wanted &wanted);

/// `bits` of width `bits` as a number.
__int128 valueOf(uint64_t bits, unsigned width, bool isSigned);
uint64_t low(uint64_t bits, unsigned width);
/// Elements per register (2 for the packed types) and the type of one.
unsigned lanesOf(ptx::Type type);
ptx::Type elementOf(ptx::Type type);
/// A result of the format after .ftz, .sat and .relu; alternatives where the ISA leaves room.
Allowed finished(const Number &exact, ptx::Type type, const ptx::Modifiers &mods);
/// The operand as .ftz sees it.
Number operandOf(uint64_t bits, ptx::Type type, bool ftz);

} // namespace moert::emulator::testing

#endif // MOERT_TEST_EMULATOR_EXEC_REFERENCE_H
