//===- Samples.h - Instructions made from the table -------------*- C++ -*-===//
//
// For every form of the instruction table: one instruction per type and per
// optional word, with operands that fit. What the parser must accept, and what
// judge.py shows to ptxas.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_TEST_EMULATOR_PTX_SAMPLES_H
#define MOERT_TEST_EMULATOR_PTX_SAMPLES_H

#include "runtime/emulator/ptx/Table.h"

#include <functional>

struct Sample {
  std::string text;                              ///< "add.u32 %b32_0, %b32_1, %b32_2;"
  std::string mnemonic;                          ///< "add.u32"
  moert::emulator::ptx::Instruction instruction; ///< its opcode, types and modifiers; no operands
  size_t form = 0;                               ///< index into allForms()
  unsigned ptx = 0;                              ///< least .version
  unsigned sm = 0;                               ///< least .target
  bool arch = false;                             ///< needs sm_NNa
};

/// All of them, in table order, of the forms that `wanted` accepts. `everyCombination`: each combination of optional
/// words; otherwise they are tried one at a time beside the first choice of the others.
std::vector<Sample> makeSamples(const std::function<bool(const moert::emulator::ptx::CompiledForm &)> &wanted = {},
                                bool everyCombination = false);

/// A module around `instructions`, with every register and variable that samples name.
std::string moduleAround(const std::string &instructions, unsigned ptx, const std::string &target);

#endif // MOERT_TEST_EMULATOR_PTX_SAMPLES_H
