//===- Commands.h - The commands of moe-run ---------------------*- C++ -*-===//
//
// Options as moe-run.cpp fills them, one function per command. A command prints
// its result and returns a Status; main turns that into message and exit code.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_COMMANDS_H
#define MOE_TOOLS_MOERUN_COMMANDS_H

#include "runtime/readers/Tokenizer.h"
#include "tools/moe-run/Console.h"
#include "tools/moe-run/Feeding.h"
#include "tools/moe-run/Ranks.h"
#include "tools/moe-run/Recording.h"

#include <optional>

namespace moerun {

/// Options of every command.
struct CommonOptions {
  std::string package, weights, cache, variant, device;
  bool noGraphs = false, noDependentLaunch = false;
  int threads = 0;
  int64_t maxTokens = 0; ///< 0: the package's.
  double deadlineSeconds = 0;
  bool pin = false, json = false, quiet = false;
  RecordingOptions recording; ///< Of the commands that feed tokens.
  int threadRanks = 0;        ///< 0: as many as the package has, if nobody runs it as processes.
};

struct GenerateCommand : CommonOptions {
  std::vector<std::string> prompts, promptFiles, ids;
  int64_t maxNew = 128;
  bool maxNewGiven = false;
  moert::readers::SamplingOptions sampling;
  int64_t context = 0, sequences = 0; ///< 0: what the prompts need.
  bool ignoreEos = false, noSpecial = false, experts = false, echo = false;
};
struct LogitsCommand : CommonOptions {
  std::string idsFile, output, chunks = "one";
  uint64_t seed = 0;
  int64_t interleave = 1, context = 0;
};
struct BenchCommand : CommonOptions {
  int64_t promptLength = 512, generate = 128, batch = 1, repeat = 3;
  bool noBandwidth = false;
};
struct CheckCommand : CommonOptions {
  bool verifyWeights = false;
};
struct CalibrateCommand : CommonOptions {
  std::vector<std::string> texts, idsFiles; ///< [DOMAIN=]FILE
  std::vector<std::string> heldOutTexts, heldOutIdsFiles;
  std::string output;
  int64_t sequenceLength = 512, tokens = 0; ///< Tokens per domain; 0: all.
  int64_t heldOut = 4;                      ///< Every so many sequences of a domain; 0: none.
  int64_t measureTokens = 0;                ///< For the figures of layers; 0: all that are not held out.
  int64_t windows = 4;                      ///< Most layers of a window; 0: no windows.
  std::string forms = "R,D,P";
  double ridge = 1e-3;
  int64_t judgeTokens = 2048; ///< Held-out tokens for windows; 0: all.
};
struct RepairCommand : CommonOptions {
  std::string calibration, plan, output, planOutput, logits;
  double ridge = 1e-3;
  int64_t judgeTokens = 0; ///< 0: all that are held out.
};
struct CompareCommand : CommonOptions { ///< `package`: the base.
  std::string other, otherWeights, calibration;
  std::vector<std::string> idsFiles; ///< [DOMAIN=]FILE
  int64_t tokens = 0;                ///< 0: all.
  int64_t skipTokens = 0;            ///< Held-out tokens that come first and are left out.
  int64_t greedy = 64, prompts = 8;
};
struct ProfileCommand : CommonOptions {
  int64_t promptLength = 128, generate = 32, batch = 1;
  std::string trace;
};

moert::Status runGenerate(const GenerateCommand &command);
moert::Status runLogits(const LogitsCommand &command);
moert::Status runBench(const BenchCommand &command);
moert::Status runCheck(const CheckCommand &command);
moert::Status runCalibrate(const CalibrateCommand &command);
moert::Status runRepair(const RepairCommand &command);
moert::Status runCompare(const CompareCommand &command);
moert::Status runProfile(const ProfileCommand &command);

//===----------------------------------------------------------------------===//
// Shared by commands (Common.cpp)
//===----------------------------------------------------------------------===//

/// The common options as a session's.
SessionOptions sessionOptions(const CommonOptions &options);
/// A rank but the first of an mpirun: does what rank 0 says.
moert::Status runServer(const CommonOptions &options);
/// Opens a session with the common options; of a package for several ranks, a session that drives them all.
moert::Result<std::unique_ptr<Session>> openSession(const Package &package, const CommonOptions &options,
                                                    int64_t sequences, int64_t context, bool verifyWeights = false);
/// The package's tokenizer; an error says how to do without one.
moert::Result<moert::readers::Tokenizer> openTokenizer(const std::string &package);
/// Fails when the options ask for more than the model's context.
moert::Status checkContext(const ProgramInfo &info, int64_t context);
/// With --record-routing: the engine to feed in place of `session`; null without.
moert::Result<std::unique_ptr<RoutingRecorder>> beginRecording(Session &session, const CommonOptions &options);
/// Writes the file, if anything was recorded.
moert::Status endRecording(RoutingRecorder *recorder, const CommonOptions &options);
/// "english=FILE" as name and file; without a name, the file's own.
std::pair<std::string, std::string> splitDomain(const std::string &argument);
/// `length` ids of the vocabulary that look random and are the same every time.
std::vector<int32_t> sampleIds(int64_t length, int64_t vocabulary, uint64_t seed);
/// The session's report as a tree.
moert::Result<Json> parseReport(Session &session);
/// An error when stdout could not be written.
moert::Status outputStatus(bool written);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_COMMANDS_H
