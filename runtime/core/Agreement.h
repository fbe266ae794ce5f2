//===- Agreement.h - What ranks agree on before they run ----------*- C++ -*-===//
//
// Two small gathers when sessions are made (the same program and sizes everywhere, and a variant that all ranks run:
// one machine may have an older driver) and one before each step (the same entry; the same tokens, or as many as the
// rank that has most). Input that one rank finds wrong is an error on all, and the next step can be tried: nobody waits
// for a rank that gave up.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_AGREEMENT_H
#define MOERT_CORE_AGREEMENT_H

#include "runtime/core/Program.h"
#include "runtime/ranks/Communicator.h"

#include <vector>

namespace moert {

class Agreement {
public:
  Agreement(Communicator &communicator, format::RankInputs inputs, int64_t deadlineNs);

  /// At the start of a session: all ranks have the same program; of its variants, as bits, those that all of them run.
  static Result<uint64_t> commonVariants(Communicator &communicator, const Program &program, uint64_t mine,
                                         int64_t deadlineNs);
  /// And the sizes are the same.
  Status sameSession(int64_t sequences, int64_t context, int64_t maxTokens);
  /// At its end: all are ready. Weights that ranks compute take each its own time: it waits longer than a step does.
  Status everyoneIsReady();

  /// What all ranks know of a step: the T that they run, whether it may run as a graph, and a number that stands for
  /// the rows of every rank and what it wants of them. Graphs hold collectives, so that ranks must capture and run them
  /// at the same steps.
  struct Common {
    int64_t tokens = 0;
    bool mayUseGraphs = true;
    uint64_t shape = 0;
  };

  /// Before a step of `entry` over `tokens` and `rows`, which it wants logits of or only picks; `mine` is what this
  /// rank finds wrong with its input.
  Status beforeStep(size_t entry, int64_t tokens, int64_t rows, bool isPicking, bool mayUseGraphs, const Status &mine,
                    Common &common);

private:
  struct Wish {
    int64_t tokens, rows;
    int32_t entry, code, isPicking, mayUseGraphs;
    char text[224];
  };

  Communicator &communicator;
  const format::RankInputs inputs;
  const int64_t deadlineNs;
  std::vector<Wish> wishes;
};

} // namespace moert

#endif // MOERT_CORE_AGREEMENT_H
