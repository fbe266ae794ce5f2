//===- moe-run.cpp - The command line of the runtime ----------------------===//
//
// Parses options with CLI11 and calls a command. Links libmoert and the readers,
// nothing of LLVM. Exit code 0: done; 1: a mistake in the input; 2: a bug here.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Commands.h"

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>

using namespace moert;
using namespace moerun;

namespace {

constexpr int userError = 1, internalError = 2;

void addCommon(CLI::App *app, CommonOptions &options, bool hasWeights = true) {
  app->add_option("PKG", options.package, "package directory that moec compile wrote")->required();
  if (hasWeights) {
    app->add_option("--weights", options.weights, "checkpoint directory (default: where it was when compiled)");
  }
  app->add_option("--threads", options.threads, "worker threads (default: one per core)")->check(CLI::Range(0, 4096));
  app->add_option(
      "--device", options.device,
      "cpu, cuda, cuda:N or emulator (GPU code on the CPU, slow; default: what the package was compiled for)");
  app->add_flag("--no-graphs", options.noGraphs, "on a GPU: launch every kernel of every step by itself");
  app->add_flag("--no-dependent-launch", options.noDependentLaunch,
                "on a GPU: start no kernel before the one ahead of it has ended");
  app->add_option("--variant", options.variant, "variant by name (default: the best that the device runs)");
  app->add_option("--cache", options.cache, "folder for weights that are computed once (default: PKG/cache)");
  app->add_option("--max-tokens", options.maxTokens, "most tokens in one step (default: the package's)")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 20));
  app->add_option("--deadline", options.deadlineSeconds, "seconds that a step may wait for its workers (default: 30)")
      ->check(CLI::Range(0.001, 1e6));
  app->add_flag("--pin", options.pin, "bind threads to cores");
  app->add_flag("--json", options.json, "print one JSON object on stdout");
  app->add_flag("--quiet", options.quiet, "no progress and no figures on stderr");
}

void addRecording(CLI::App *app, RecordingOptions &options) {
  CLI::Option *file = app->add_option("--record-routing", options.file,
                                      "file to write which experts were chosen to (docs/placement.md)");
  app->add_option("--routing-window", options.window, "steps per window of the recording (default: at most 32 windows)")
      ->needs(file)
      ->check(CLI::Range(int64_t(1), int64_t(1) << 40));
}

/// "N" with a range that has no upper end worth naming.
CLI::Range atLeast(int64_t least) { return CLI::Range(least, int64_t(1) << 40); }

void addRanks(CLI::App *app, CommonOptions &options) {
  app->add_option("--thread-ranks", options.threadRanks,
                  "ranks as threads of this process; must be the package's, as without mpirun is the default")
      ->check(CLI::Range(1, 256));
}

void addGenerate(CLI::App &app, GenerateCommand &command) {
  CLI::App *sub = app.add_subcommand("generate", "continue one or several texts");
  sub->footer("Example:\n  moe-run generate mixtral.pkg --prompt \"The best way to learn is\" --max-new 40");
  addCommon(sub, command);
  addRanks(sub, command);
  sub->add_option("--prompt", command.prompts, "text to continue; several: several sequences in one batch")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--prompt-file", command.promptFiles, "file with the text to continue")
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--ids", command.ids, "token ids to continue, with commas between them")
      ->type_name("1,2,3")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--max-new", command.maxNew, "most tokens to generate per sequence")
      ->capture_default_str()
      ->check(atLeast(0));
  sub->add_option("--temperature", command.sampling.temperature, "0: greedy; else draw, flatter above 1")
      ->capture_default_str();
  sub->add_option("--top-k", command.sampling.topK, "draw among the k likeliest (0: all)")->capture_default_str();
  sub->add_option("--top-p", command.sampling.topP, "draw among the fewest whose probabilities reach p")
      ->capture_default_str();
  sub->add_option("--seed", command.sampling.seed, "of the draws; the same seed gives the same text")
      ->capture_default_str();
  sub->add_option("--context", command.context, "tokens per sequence that the cache holds (default: what is needed)")
      ->check(atLeast(1));
  sub->add_option("--sequences", command.sequences, "sequences at a time; more prompts wait (default: up to 16)")
      ->check(CLI::Range(int64_t(1), int64_t(65536)));
  sub->add_flag("--ignore-eos", command.ignoreEos, "go on after the token that ends a text");
  sub->add_flag("--no-special", command.noSpecial, "add no special tokens (such as <s>) to prompts");
  sub->add_flag("--echo", command.echo, "print the prompt too");
  sub->add_flag("--experts", command.experts, "print how many tokens each expert got");
  addRecording(sub, command.recording);
}

void addLogits(CLI::App &app, LogitsCommand &command) {
  CLI::App *sub = app.add_subcommand("logits", "write the logits after every token of given sequences");
  sub->footer(
      "Example:\n  moe-run logits mixtral.pkg --ids-file ids.json -o logits.npy --chunks random:7 --interleave 3");
  addCommon(sub, command);
  addRanks(sub, command);
  sub->add_option("--ids-file", command.idsFile, "JSON: [[ids], [ids], ...]")->required();
  sub->add_option("-o", command.output, "file to write: f32 [sum of lengths, V]")->required();
  sub->add_option("--chunks", command.chunks, "tokens of a sequence per step: one (all), token, N, random, random:SEED")
      ->capture_default_str();
  sub->add_option("--seed", command.seed, "of --chunks random")->capture_default_str();
  sub->add_option("--interleave", command.interleave, "sequences fed in one batch")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(1), int64_t(65536)));
  sub->add_option("--context", command.context, "tokens per sequence that the cache holds (default: the longest)")
      ->check(atLeast(1));
  addRecording(sub, command.recording);
}

void addBench(CLI::App &app, BenchCommand &command) {
  CLI::App *sub = app.add_subcommand("bench", "measure prefill and decode speed, and memory bandwidth beside it");
  sub->footer("Example:\n  moe-run bench mixtral.pkg --prompt-length 512 --generate 128 --json");
  addCommon(sub, command);
  addRanks(sub, command);
  sub->add_option("--prompt-length", command.promptLength, "tokens per prompt")
      ->capture_default_str()
      ->check(atLeast(1));
  sub->add_option("--generate", command.generate, "decode steps")->capture_default_str()->check(atLeast(1));
  sub->add_option("--batch", command.batch, "sequences at a time")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(1), int64_t(65536)));
  sub->add_option("--repeat", command.repeat, "measurements, after one warm-up")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  sub->add_flag("--no-bandwidth", command.noBandwidth, "do not measure memory bandwidth, which takes seconds");
  addRecording(sub, command.recording);
}

void addCheck(CLI::App &app, CheckCommand &command) {
  CLI::App *sub = app.add_subcommand("check", "verify a package, its kernels and its weights without running it");
  sub->footer("Example:\n  moe-run check mixtral.pkg --weights");
  addCommon(sub, command, false);
  sub->add_option_function<std::vector<std::string>>(
         "--weights",
         [&command](const std::vector<std::string> &values) {
           command.verifyWeights = true;
           command.weights = values.empty() ? "" : values[0];
         },
         "hash every byte of the weights; DIR: of that checkpoint")
      ->type_name("[DIR]")
      ->expected(0, 1);
}

void addCalibrate(CLI::App &app, CalibrateCommand &command) {
  CLI::App *sub = app.add_subcommand("calibrate", "measure how the layers of a model depend on each other");
  sub->footer("Example:\n  moec compile examples/models/tiny-llama -o llama.cal.pkg --instrument calibration\n"
              "  moe-run calibrate llama.cal.pkg --text english=book.txt --text code=main.cpp -o llama.calibration");
  addCommon(sub, command);
  sub->add_option("--text", command.texts, "text to measure on, of a domain; several: several domains")
      ->type_name("[DOMAIN=]FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--ids-file", command.idsFiles, "the same as JSON: [[ids], [ids], ...]")
      ->type_name("[DOMAIN=]FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--held-out-text", command.heldOutTexts, "text that is only held out; then all other text is not")
      ->type_name("[DOMAIN=]FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--held-out-ids-file", command.heldOutIdsFiles, "the same as JSON")
      ->type_name("[DOMAIN=]FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("-o", command.output, "file to write (safetensors, see docs/calibration.md)")->required();
  sub->add_option("--sequence-length", command.sequenceLength, "tokens per sequence, at most those of a step")
      ->capture_default_str()
      ->check(atLeast(2));
  sub->add_option("--tokens", command.tokens, "most tokens of each domain (default: all)")->check(atLeast(2));
  sub->add_option("--held-out", command.heldOut,
                  "keep every N-th sequence of a domain for judging what is built on the calibration (0: none)")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(0), int64_t(1) << 40));
  sub->add_option("--measure-tokens", command.measureTokens,
                  "tokens for the figures of single layers, which cost most and need fewest (default: all)")
      ->check(atLeast(2));
  sub->add_option("--windows", command.windows, "repair and judge fused windows of up to so many layers (0: none)")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(0), int64_t(1) << 20));
  sub->add_option("--forms", command.forms, "forms of windows: R removed, D deferred, P pair")->capture_default_str();
  sub->add_option("--ridge", command.ridge, "pull of repair maps to the identity, in mean squares of their inputs")
      ->capture_default_str()
      ->check(CLI::Range(1e-12, 1e12));
  sub->add_option("--judge-tokens", command.judgeTokens, "held-out tokens to judge windows on (0: all)")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(0), int64_t(1) << 40));
  addRecording(sub, command.recording);
}

void addRepair(CLI::App &app, RepairCommand &command) {
  CLI::App *sub = app.add_subcommand("repair", "fit maps that make up for what a fusion plan takes away");
  sub->footer(
      "Example:\n  moe-run repair llama.cal.pkg --calibration llama.calibration --plan plan.json -o maps.safetensors "
      "--plan-out repaired.json");
  addCommon(sub, command);
  sub->add_option("--calibration", command.calibration, "file of moe-run calibrate: the text, in both halves")
      ->required();
  sub->add_option("--plan", command.plan, "fusion plan (docs/ffn-fusion.md)")->required();
  sub->add_option("-o", command.output, "file to write: the maps, as safetensors")->required();
  sub->add_option("--plan-out", command.planOutput, "file to write: the plan, with the maps that help");
  sub->add_option("--ridge", command.ridge, "pull of the maps to the identity, in mean squares of their inputs")
      ->capture_default_str()
      ->check(CLI::Range(1e-12, 1e12));
  sub->add_option("--judge-tokens", command.judgeTokens, "held-out tokens to judge on (default: all)")
      ->check(atLeast(2));
  sub->add_option("--logits", command.logits,
                  "file to write: logits of the repaired plan for the text it was judged on");
}

void addCompare(CLI::App &app, CompareCommand &command) {
  CLI::App *sub = app.add_subcommand("compare", "how far a package's predictions are from those of another");
  sub->footer("Example:\n  moe-run compare llama.pkg fused.pkg --calibration llama.calibration");
  addCommon(sub, command);
  sub->add_option("OTHER", command.other, "the package that is compared with PKG")->required();
  sub->add_option("--other-weights", command.otherWeights, "checkpoint directory of OTHER");
  sub->add_option("--calibration", command.calibration, "file of moe-run calibrate: its held-out text");
  sub->add_option("--ids-file", command.idsFiles, "text as JSON: [[ids], [ids], ...]; several: several domains")
      ->type_name("[DOMAIN=]FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--tokens", command.tokens, "most tokens, of all domains by turns (default: all)")->check(atLeast(2));
  sub->add_option("--skip-tokens", command.skipTokens,
                  "tokens to leave out first, of all domains by turns: those that windows were judged on")
      ->check(atLeast(0));
  sub->add_option("--greedy", command.greedy, "tokens that both generate from the beginnings of texts (0: none)")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(0), int64_t(1) << 20));
  sub->add_option("--prompts", command.prompts, "texts to begin")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(1), int64_t(256)));
}

void addProfile(CLI::App &app, ProfileCommand &command) {
  CLI::App *sub = app.add_subcommand("profile", "show where the time goes, kernel by kernel");
  sub->footer("Example:\n  moe-run profile mixtral.pkg --trace trace.json");
  addCommon(sub, command);
  sub->add_option("--prompt-length", command.promptLength, "tokens per prompt")
      ->capture_default_str()
      ->check(atLeast(1));
  sub->add_option("--generate", command.generate, "decode steps")->capture_default_str()->check(atLeast(1));
  sub->add_option("--batch", command.batch, "sequences at a time")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(1), int64_t(65536)));
  sub->add_option("--trace", command.trace, "file to write: Perfetto (Chrome trace) JSON");
}

/// What a rank but the first of an mpirun was started with; null: nothing that ranks do.
const CommonOptions *commonOptions(const CLI::App &app, const GenerateCommand &generate, const LogitsCommand &logits,
                                   const BenchCommand &bench) {
  return app.got_subcommand("generate") ? static_cast<const CommonOptions *>(&generate)
         : app.got_subcommand("logits") ? static_cast<const CommonOptions *>(&logits)
         : app.got_subcommand("bench")  ? static_cast<const CommonOptions *>(&bench)
                                        : nullptr;
}

/// Prints the error, if there is one, and ends what ranks there are.
int finish(const Status &status) {
  if (!status.ok()) {
    const std::string who = processRanks() > 1 ? concat("rank ", processRank(), ": ") : "";
    std::cerr << "moe-run: error: " + who + status.message() + "\n" << std::flush;
  }
  const bool isOurs = status.code() == Code::Internal || status.code() == Code::Deadline;
  const int code = status.ok() ? 0 : isOurs ? internalError : userError;
  if (!status.ok() && (processRanks() > 1 || hasLostThreads())) {
    // An orderly end would wait for ranks that are gone, and for threads that hang.
    std::fflush(stdout);
    endProcesses(code);
    std::_Exit(code);
  }
  leaveProcesses();
  return code;
}

int run(int argc, char **argv) {
  CLI::App app("moe-run: runs packages that moec compiled", "moe-run");
  app.footer("Exit codes: 0 success, 1 a mistake in the input, 2 a bug in moe-run.\n"
             "Example:\n  moe-run generate mixtral.pkg --prompt \"Hello\"");
  app.set_version_flag("--version", std::string("moe-run ") + moert_version());
  app.require_subcommand(1);
  GenerateCommand generate;
  LogitsCommand logits;
  BenchCommand bench;
  CheckCommand check;
  CalibrateCommand calibrate;
  ProfileCommand profile;
  RepairCommand repair;
  CompareCommand compare;
  addGenerate(app, generate);
  addLogits(app, logits);
  addBench(app, bench);
  addCheck(app, check);
  addCalibrate(app, calibrate);
  addProfile(app, profile);
  addRepair(app, repair);
  addCompare(app, compare);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &problem) {
    if (problem.get_exit_code() == 0) {
      return app.exit(problem);
    }
    std::cerr << "moe-run: error: " << problem.what() << "; see 'moe-run --help' or 'moe-run COMMAND --help'\n";
    return userError;
  }
  const CommonOptions *common = commonOptions(app, generate, logits, bench);
  if (processRanks() > 1 && (common == nullptr || processRank() > 0)) {
    return finish(common ? runServer(*common)
                         : error(Code::InvalidArgument, processRanks(),
                                 " processes were started: only generate, logits and bench run several ranks"));
  }
  generate.maxNewGiven = app.get_subcommand("generate")->count("--max-new") > 0;
  Status status = app.got_subcommand("generate")    ? runGenerate(generate)
                  : app.got_subcommand("logits")    ? runLogits(logits)
                  : app.got_subcommand("bench")     ? runBench(bench)
                  : app.got_subcommand("check")     ? runCheck(check)
                  : app.got_subcommand("calibrate") ? runCalibrate(calibrate)
                  : app.got_subcommand("repair")    ? runRepair(repair)
                  : app.got_subcommand("compare")   ? runCompare(compare)
                                                    : runProfile(profile);
  return finish(status);
}

} // namespace

int main(int argc, char **argv) {
  // A file that grows beyond the limit of the process, and a reader that went away, are errors of write(), not signals.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc &) {
    std::cerr << "moe-run: error: out of memory\n";
    return userError;
  } catch (const std::exception &exception) {
    std::cerr << "moe-run: internal error: " << exception.what() << '\n';
    return internalError;
  }
}
