//===- Parser.h - PTX text to a Module --------------------------*- C++ -*-===//
//
// One call. Anything that is not understood is an error with its place: no
// directive, instruction or modifier is skipped, except the debug directives
// .loc, .file and .section. Does not check what only an execution can know
// (alignment of run-time addresses, convergence).
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_PTX_PARSER_H
#define MOERT_EMULATOR_PTX_PARSER_H

#include "runtime/emulator/ptx/Module.h"

#include <string>
#include <string_view>
#include <variant>

namespace moert::emulator::ptx {

/// The device that the module is to run on: sm_80 is {80, 0}, sm_90a is {90, 'a'}. A device with suffix 'a' also runs
/// modules for its number without suffix.
struct DeviceTarget {
  uint16_t sm = 90;
  char suffix = 'a';
};

/// Why a text is no module.
struct ParseError {
  uint32_t line = 0;   ///< from 1
  uint32_t column = 0; ///< from 1
  std::string text;    ///< the line, as it stands there (cut at 200 characters)
  std::string message; ///< lower case: what is wrong and what is accepted instead

  /// "line:column: message" and the line below it.
  std::string str() const;
};

/// The module or the first error. `text` may end in NUL bytes (the driver API passes C strings).
std::variant<Module, ParseError> parseModule(std::string_view text, DeviceTarget device = {});

} // namespace moert::emulator::ptx

#endif // MOERT_EMULATOR_PTX_PARSER_H
