//===- Rows.h - Rows of the instruction table, by who tests them -*- C++ -*-===//
//
// Every opcode of the table belongs to one family, and each family has a test
// that walks all of its rows: registers (RegisterTest.cpp), memory
// (MemoryRowsTest.cpp), matrices (MatrixTest.cpp, WmmaTest.cpp), wgmma
// (WgmmaTest.cpp), copies (CopyRowsTest.cpp, TensorRowsTest.cpp), barriers
// (BarrierRowsTest.cpp), warp operations, control and addresses
// (WarpRowsTest.cpp). A row whose opcode has no family, or that its family does
// not execute, fails: what the table says is supported has been run and compared.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_TEST_EMULATOR_EXEC_ROWS_H
#define MOERT_TEST_EMULATOR_EXEC_ROWS_H

#include "test/runtime/emulator/ptx/Samples.h"

#include <string>
#include <vector>

namespace moert::emulator::testing {

/// One instruction of the table: a form with its types and modifiers chosen.
struct Row {
  const ptx::CompiledForm *form = nullptr;
  size_t index = 0; ///< of the form in the table
  std::string mnemonic;
  ptx::Instruction instruction; ///< opcode, types and modifiers
};

enum class Family { None, Registers, Addresses, Memory, Copy, Barrier, Warp, Control, Matrix, Wgmma };

/// Who tests the opcode.
Family familyOf(ptx::Opcode opcode);
std::vector<ptx::Opcode> opcodesOf(Family family);

/// The rows of `opcodes` in table order. `everyCombination`: of the modifiers; otherwise each word is tried once beside
/// the plainest form, and types with one another.
std::vector<Row> rowsOf(const std::vector<ptx::Opcode> &opcodes, bool everyCombination = false);

} // namespace moert::emulator::testing

#endif // MOERT_TEST_EMULATOR_EXEC_ROWS_H
