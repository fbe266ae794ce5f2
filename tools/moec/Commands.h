//===- Commands.h - What the commands of moec are given ---------------------===//
//
// The command line (moec.cpp, the one file that uses CLI11 and so exceptions)
// fills these structs; the commands know nothing of option parsing.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOEC_COMMANDS_H
#define MOE_TOOLS_MOEC_COMMANDS_H

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace moec {

/// Exit codes of every command.
enum ExitCode { kSuccess = 0, kUserError = 1, kInternalError = 2 };

struct CommonOptions {
  /// One JSON object on stdout in place of text.
  bool json = false;
  /// No progress and no notes on stderr.
  bool quiet = false;
};

struct ImportCommand : CommonOptions {
  std::string directory, output, dtype;
  /// Negative: not checked.
  int64_t expectParameters = -1;
  bool allowUnusedTensors = false;
  /// Print locations: the layer that every op comes from.
  bool locations = false;
};

struct CompileCommand : CommonOptions {
  /// A Hugging Face directory, a GGUF file or a file of moe IR.
  std::string input, output;
  std::string target = "cpu", dtype, emit = "package";
  /// What the package is to measure beside running: "calibration", "routing".
  std::vector<std::string> instrument;

  bool instruments(const char *what) const {
    return std::find(instrument.begin(), instrument.end(), what) != instrument.end();
  }
  /// Where the weights are, when the input is IR; empty: the checkpoint that the IR records.
  std::string weights;
  /// Directory to take the tokenizer from; empty: that of the weights.
  std::string tokenizer;
  /// Fusion plans, carried out in this order, and at most one map of experts to ranks.
  std::vector<std::string> plans;
  /// Ranks that run the package together; 0: those of the map, else 1.
  int64_t ranks = 0;
  /// "expert" or "tensor", or empty: what suits the model. And what becomes of attentions under "tensor".
  std::string parallel, attention = "split";
  /// "gather", "exact", "auto" or empty: auto. The machine that auto is for: a topology file, or empty.
  std::string exchange, topology;
  int64_t maxTokens = 512;
  /// Streams that a step may use on a GPU.
  int64_t streams = 2;
  bool allowUnusedTensors = false;
  /// Path of ptxas, "none", or empty: the one on PATH if there is one.
  std::string ptxas;
};

struct ExportCommand : CommonOptions {
  std::string directory, output;
  /// As EngineFacts names it.
  std::string engine;
  std::vector<std::string> plans;
  /// llama.cpp's name of a way to cut text; empty: found.
  std::string preTokenizer;
  /// "f32", or empty: weights as they are stored.
  std::string dtype;
  int64_t shardBytes = 5'000'000'000;
  bool allowUnusedTensors = false;
};

struct InspectCommand : CommonOptions {
  /// A package, a Hugging Face directory or a GGUF file.
  std::string path;
};

struct PlaceCommand : CommonOptions {
  /// Routing statistics: files or directories, one profile each or more.
  std::vector<std::string> statistics;
  int64_t ranks = 0, slots = 0;
  /// 0: of the topology, else 1.
  int64_t nodes = 0;
  /// 0: of the model, else 1. And experts per token: 0: of the model or the statistics.
  int64_t groups = 0, topGroups = 0, topK = 0;
  /// Map in use, checkpoint directory, topology file; may be empty.
  std::string previous, model, topology;
  std::string format = "json", output;
  /// A checkpoint to write whose experts lie as the map says; a page for people. May be empty.
  std::string bake, html;
  /// Weights of the profiles; empty: all alike.
  std::vector<double> weights;
  /// For the verdict; 0: unknown. Bandwidth in GB/s per rank.
  double tokensPerStep = 0, replanEvery = 0, bandwidth = 0, expertBytes = 0;
  /// Part of the slots that may change.
  double maxMoves = 1;
  double locality = 1, effort = 1, timeBudget = 0;
  int64_t seed = 1, resamples = 0;
};

struct FuseCommand : CommonOptions {
  /// A Hugging Face directory, and what moe-run calibrate measured on it.
  std::string directory, calibration, output;
  /// Who is to load the result.
  std::string engine = "package";
  /// "R", "D", "P", or empty: any that the engine loads. And windows as the user wants them: "a-b,c-d".
  std::string form, groups;
  std::string target = "cpu", dtype;
  /// The gate: most KL, the part of tokens that must keep their likeliest successor, the part of time to be gained.
  double maxKl = 0.02, minTop1 = 0.95, minGain = 0.02;
  int64_t ranks = 1;
  bool fuseLast = false, planOnly = false;
  /// What a sub-layer less, and an attention less, saves: any unit, for choosing only.
  double subLayerGain = 1, attentionGain = 0;
  /// Plans to be measured beside, and how many points of the fronts.
  std::vector<std::string> also;
  int64_t fronts = 3, perForm = 0;
  /// Plans that the search may try.
  int64_t tries = 6;
  /// Of the measurement of speed; 0 threads: one per core.
  int64_t rounds = 5, benchTokens = 64, promptLength = 64, threads = 0;
  /// Tokens of greedy text in which a collapse is looked for.
  int64_t greedyTokens = 64;
  /// Where intermediate files are kept; empty: they are removed.
  std::string work;
};

struct DoctorCommand : CommonOptions {};

struct ReportCommand : CommonOptions {
  /// A report of moec fuse, or what `moec place --json` printed; the page to write.
  std::string input, output;
};

/// Makes fatal errors inside LLVM end as "moec: internal error: ..." with exit code 2.
void installErrorHandlers();
/// Flushes standard output at the end of a command that gave `code`. A full disk or a closed pipe behind it is an error
/// of the user's, which else the destructor of the stream would call a bug.
ExitCode finishOutput(ExitCode code);

ExitCode runImport(const ImportCommand &command);
ExitCode runCompile(const CompileCommand &command);
ExitCode runExport(const ExportCommand &command);
ExitCode runInspect(const InspectCommand &command);
ExitCode runPlace(const PlaceCommand &command);
ExitCode runFuse(const FuseCommand &command);
ExitCode runDoctor(const DoctorCommand &command);
ExitCode runReport(const ReportCommand &command);

/// The version that `--version` prints and packages record: "moec 0.1.0 (LLVM 22.1.8)".
std::string getVersionString();

} // namespace moec

#endif // MOE_TOOLS_MOEC_COMMANDS_H
