//===- Table.h - Every instruction form that is understood ------*- C++ -*-===//
//
// One table drives parsing, checking and the page that lists what is
// supported. A form is one line of the PTX ISA's syntax boxes:
//
//   {Opcode::Fma, "fma rn|rz|rm|rp ftz? sat? T=f32", "d s s s", 20, 0}
//
// Mnemonic: words between dots. `a|b` one of, `x?` may be missing, `<g>` one
// word of group g (Words in Table.cpp), `T=...` the next type of
// Instruction::types. ptxas takes modifiers in any order (types keep theirs),
// and so does this.
//
// Operands, in the order of the text and of the decoded instruction:
//   d s r i   destination, source (register or immediate), register, immediate
//   P p       predicate destination, predicate source (may be negated)
//   m t       [address], [tensor map, {coordinates}]
//   L l F     label, branch targets, label or name of a function
//   fd fa fb fc  matrix fragment of D, A, B, C as a vector of registers
// with `d1` = of types[1] (default types[0]), `d:u32` = of that type, `dw` = twice
// as wide, `d>` = a wider register is allowed, `dV` = a scalar, or a vector of as
// many as .v2/.v4 say, `dX` = a vector of `.xN`, `dK` = scalar or {parts} (mov),
// `s{4}` = a vector of 4, `s*` = a vector of any length; suffix `?` = may be missing
// (decoded as None), `~` = may be `_`; `d|P?` is two operands. `pol` is there
// exactly when .L2::cache_hint is.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_PTX_TABLE_H
#define MOERT_EMULATOR_PTX_TABLE_H

#include "runtime/emulator/ptx/Module.h"

#include <string>
#include <string_view>
#include <vector>

namespace moert::emulator::ptx {

/// Added to Form::sm where the instruction exists for the architecture-specific target only (sm_90a).
constexpr uint16_t archSpecific = 0x8000;

/// One line of the table.
struct Form {
  Opcode op;
  const char *mnemonic;
  const char *operands;
  uint16_t ptx; ///< the least .version, 10 * major + minor; 0 = any
  uint16_t sm;  ///< the least .target, perhaps | archSpecific; 0 = any
};

/// The parts of the table, by family.
struct FormList {
  const Form *forms;
  size_t count;
};
FormList arithmeticForms();
FormList bitForms();
FormList memoryForms();
FormList copyForms();
FormList controlForms();
FormList matrixForms();

/// One operand position of a form.
struct Slot {
  enum class Kind : uint8_t {
    Destination,
    Source,
    RegisterOnly,
    ImmediateOnly,
    PredicateDestination,
    PredicateSource,
    Address,
    Tensor,
    Label,
    Targets,
    Fragment,
    Policy
  };
  enum class Shape : uint8_t { Scalar, ByVector, ByMatrices, Packed, Fixed, Any };
  Kind kind = Kind::Source;
  Shape shape = Shape::Scalar;
  Type type = Type::None; ///< None: types[typeIndex]
  uint8_t typeIndex = 0;
  uint8_t count = 0;     ///< Shape::Fixed
  char fragment = 0;     ///< 'a' ... 'd'
  bool wide = false;     ///< of twice the width
  bool relaxed = false;  ///< a wider register will do
  bool optional = false; ///< may be missing
  bool sink = false;     ///< may be `_`
  bool paired = false;   ///< written after `|`
};

/// What one word of a mnemonic means.
struct Word;

/// One position of a mnemonic.
struct Position {
  std::vector<const Word *> words; ///< accepted words; empty for a type
  std::vector<Type> types;         ///< accepted types
  bool optional = false;
};

/// A form, ready for matching.
struct CompiledForm {
  const Form *form = nullptr;
  std::vector<Position> positions; ///< after the root
  std::vector<Slot> slots;
};

/// All forms whose first word is `root`, in table order; nullptr if there is none.
const std::vector<CompiledForm> *formsOf(std::string_view root);
/// All forms, in table order.
const std::vector<CompiledForm> &allForms();

/// Fills op, types and mods of `out` if `words` (the mnemonic after the root) fit the form. Otherwise returns false,
/// and `misfit` is the index of the first word that did not, or words.size() if something is missing.
bool matchMnemonic(const CompiledForm &form, const std::vector<std::string_view> &words, Instruction &out,
                   size_t &misfit);

/// The least .version and .target of a decoded instruction: its form's, and those of modifiers that came later.
struct Gate {
  uint16_t ptx = 0;
  uint16_t sm = 0; ///< perhaps | archSpecific
};
Gate gateOf(const Form &form, const Modifiers &mods);
Gate gateOf(SpecialRegister special);

/// The registers of one fragment: how many, and of which type.
struct FragmentShape {
  uint32_t count = 0;
  Type type = Type::None;
};
FragmentShape fragmentShape(const Instruction &instruction, char fragment);

/// How PTX writes a word of a mnemonic.
const char *textOf(const Word &word);

/// The type with this name, or None.
Type typeNamed(std::string_view name);

/// Opcodes x types as a Markdown page, from the table.
std::string supportTable();

} // namespace moert::emulator::ptx

#endif // MOERT_EMULATOR_PTX_TABLE_H
