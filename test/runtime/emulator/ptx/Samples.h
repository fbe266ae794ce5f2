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

struct Sample {
  std::string text;  ///< "add.u32 %b32_0, %b32_1, %b32_2;"
  size_t form = 0;   ///< index into allForms()
  unsigned ptx = 0;  ///< least .version
  unsigned sm = 0;   ///< least .target
  bool arch = false; ///< needs sm_NNa
};

/// All of them, in table order.
std::vector<Sample> makeSamples();

/// A module around `instructions`, with every register and variable that samples name.
std::string moduleAround(const std::string &instructions, unsigned ptx, const std::string &target);

#endif // MOERT_TEST_EMULATOR_PTX_SAMPLES_H
