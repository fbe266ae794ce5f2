//===- Logits.cpp - moe-run logits ----------------------------------------===//
//
// Logits after every token of given sequences, as f32 [sum of lengths, V] in the
// order of the file. How the tokens are fed must not matter: the options exist
// to show that.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Commands.h"

#include "runtime/readers/GenerationConfig.h"
#include "runtime/readers/Npy.h"

#include <algorithm>
#include <chrono>

using namespace moert;
using namespace moert::readers;
using namespace moerun;

Status moerun::runLogits(const LogitsCommand &command) {
  if (command.output == "-") {
    return error(Code::InvalidArgument, "-o -: logits are written as a file, which standard output is not; name one");
  }
  MOERT_ASSIGN(chunking, parseChunking(command.chunks, command.seed));
  MOERT_ASSIGN(sequences, readIdsFile(command.idsFile));
  MOERT_ASSIGN(package, Package::load(command.package));
  const ProgramInfo &info = package.info();
  int64_t longest = 1;
  std::vector<int64_t> firstRow; // Of each sequence.
  int64_t total = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    std::string what = concat(command.idsFile, ": sequence ", i + 1);
    auto length = static_cast<int64_t>(sequences[i].size());
    MOERT_TRY(checkIds(what, sequences[i], info.vocabulary));
    if (command.context != 0) {
      MOERT_TRY(checkLength(what, length, 0, command.context, "--context"));
    }
    if (info.maxContext != 0) {
      MOERT_TRY(checkLength(what, length, 0, info.maxContext, "the model's context"));
    }
    firstRow.push_back(total);
    total += length;
    longest = std::max(longest, length);
  }
  int64_t context = command.context != 0 ? command.context : longest;
  MOERT_TRY(checkContext(info, context));
  int64_t slots = std::min(command.interleave, std::max<int64_t>(static_cast<int64_t>(sequences.size()), 1));
  MOERT_ASSIGN(session, openSession(package, command, slots, context));
  MOERT_ASSIGN(writer, NpyWriter::create(command.output, {total, info.vocabulary}));
  Progress progress(command.quiet);
  int64_t done = 0;
  auto start = std::chrono::steady_clock::now();
  MOERT_ASSIGN(recorder, beginRecording(*session, command));
  Engine &engine = recorder ? *recorder : static_cast<Engine &>(*session);
  MOERT_TRY(feedAll(engine, sequences, chunking, [&](size_t i, int64_t position, const float *logits) {
    progress.update("logits", static_cast<uint64_t>(++done), static_cast<uint64_t>(total));
    return writer.put((firstRow[i] + position) * info.vocabulary, logits, info.vocabulary);
  }));
  progress.finish();
  MOERT_TRY(writer.finish());
  MOERT_TRY(endRecording(recorder.get(), command));
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (command.json) {
    return outputStatus(printJson({{"output", command.output},
                                   {"shape", {total, info.vocabulary}},
                                   {"sequences", sequences.size()},
                                   {"seconds", seconds.count()}}));
  }
  return outputStatus(printOut(concat(command.output, ": f32 [", total, ", ", info.vocabulary, "], logits of ",
                                      sequences.size(), " sequences in ", fixed(seconds.count(), 2), " s\n")));
}
