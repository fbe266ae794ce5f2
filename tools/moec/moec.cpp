//===- moec.cpp - The command line of the compiler --------------------------===//
//
// Parses options with CLI11 and calls a command. This is the one file of the
// compiler that is built with exceptions and RTTI, which CLI11 needs; it
// includes nothing of MLIR, and no exception leaves it.
//
//===----------------------------------------------------------------------===//

#include "tools/moec/Commands.h"
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>

using namespace moec;

static void addCommon(CLI::App *app, CommonOptions &options) {
  app->add_flag("--json", options.json, "print one JSON object on stdout");
  app->add_flag("--quiet", options.quiet, "no progress and no notes on stderr");
}

static void addDtype(CLI::App *app, std::string &dtype) {
  app->add_option("--dtype", dtype, "element type of activations (default: bf16 if the weights are, else f32)")
      ->check(CLI::IsMember({"f32", "bf16"}));
}

static const char *const kUnusedHelp = "import although the checkpoint has tensors that the model does not use";

static void addImport(CLI::App &app, ImportCommand &command) {
  CLI::App *sub = app.add_subcommand(
      "import", "read a Hugging Face directory or a GGUF file and write moe IR (weights stay where they are)");
  sub->footer("Example:\n  moec import examples/models/tiny-mixtral -o model.mlir --dtype f32");
  sub->add_option("DIR", command.directory, "directory with config.json and *.safetensors, or a GGUF file")->required();
  sub->add_option("-o", command.output, "file to write; - is standard output")->required();
  addDtype(sub, command.dtype);
  sub->add_option("--expect-parameters", command.expectParameters, "fail unless the model has this many parameters")
      ->check(CLI::NonNegativeNumber);
  sub->add_flag("--allow-unused-tensors", command.allowUnusedTensors, kUnusedHelp);
  sub->add_flag("--locations", command.locations, "print the layer that every op comes from");
  addCommon(sub, command);
}

static void addCompile(CLI::App &app, CompileCommand &command) {
  CLI::App *sub =
      app.add_subcommand("compile", "compile a Hugging Face directory, a GGUF file or moe IR to a package for moe-run");
  sub->footer("Example:\n  moec compile examples/models/tiny-mixtral -o mixtral.pkg --dtype bf16");
  sub->add_option("MODEL", command.input, "Hugging Face directory, GGUF file, or a file of moe IR")->required();
  sub->add_option("-o", command.output, "package directory (or, with --emit, file) to write")->required();
  sub->add_option("--target", command.target, "cpu (all variants), cpu:NAME, cuda:sm_80 or cuda:sm_90a")
      ->capture_default_str();
  addDtype(sub, command.dtype);
  sub->add_option("--max-tokens", command.maxTokens, "most tokens in one step")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  sub->add_option("--emit", command.emit, "what to write")
      ->capture_default_str()
      ->check(CLI::IsMember({"moe", "linalg", "sched", "package"}));
  sub->add_option("--instrument", command.instrument,
                  "what the package is to measure: calibration (for moe-run calibrate; in f32), routing (which experts "
                  "tokens choose together, for --record-routing)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"calibration", "routing"}));
  sub->add_option("--weights", command.weights,
                  "where the weights are, if MODEL is IR (default: where it was imported from)");
  sub->add_option("--tokenizer", command.tokenizer, "directory with tokenizer.json (default: where the weights are)");
  sub->add_option("--plan", command.plans,
                  "a fusion plan (docs/ffn-fusion.md) or a map of moec place --format json (docs/ranks.md); may be "
                  "repeated")
      ->allow_extra_args(false);
  sub->add_option("--ranks", command.ranks, "ranks that run the package together (default: of the map, else 1)")
      ->check(CLI::Range(1, 65535));
  sub->add_option("--parallel", command.parallel,
                  "how ranks share the work: expert (own tokens, shared experts) or tensor (same tokens, shared heads "
                  "and widths) (default: expert if the model routes)")
      ->check(CLI::IsMember({"expert", "tensor"}));
  sub->add_option(
         "--attention", command.attention,
         "with --parallel tensor: split heads, whole on every rank, or auto: whole where heads cannot be divided")
      ->capture_default_str()
      ->check(CLI::IsMember({"split", "whole", "auto"}));
  sub->add_option("--exchange", command.exchange,
                  "how tokens reach experts of other ranks: gather (all to all ranks), exact (each to the ranks of its "
                  "experts), auto (by estimated time, per range of tokens) (default: auto)")
      ->check(CLI::IsMember({"gather", "exact", "auto"}));
  sub->add_option(
      "--topology", command.topology,
      "machines that --exchange auto is for (targets/*.json; default: ranks of one machine's CPUs, of GPUs those "
      "of a DGX H100)");
  sub->add_option("--streams", command.streams,
                  "streams that a step may use on a GPU: 2, one for what runs beside routed experts, or 1")
      ->capture_default_str()
      ->check(CLI::Range(1, 2));
  sub->add_option(
         "--ptxas", command.ptxas,
         "NVIDIA's assembler, for machine code beside the PTX of GPUs; none: PTX alone (default: that on PATH, "
         "if there is one)")
      ->check([](const std::string &path) {
        return path.empty() ? "is empty: give the path of ptxas, or none for PTX alone" : std::string();
      });
  sub->add_flag("--allow-unused-tensors", command.allowUnusedTensors, kUnusedHelp);
  addCommon(sub, command);
}

static void addExport(CLI::App &app, ExportCommand &command) {
  CLI::App *sub = app.add_subcommand("export", "write a (fused) model as a checkpoint that a serving engine loads");
  sub->footer("Example:\n  moec export examples/models/tiny-llama --plan plan.json --for llama.cpp -o fused.gguf");
  sub->add_option("DIR", command.directory, "directory with config.json and *.safetensors")->required();
  sub->add_option("-o", command.output, "directory, or .gguf file for llama.cpp, to write")->required();
  sub->add_option("--for", command.engine, "engine that is to load it")
      ->required()
      ->check(CLI::IsMember({"vllm", "sglang", "trtllm", "llama.cpp", "transformers"}));
  sub->add_option("--plan", command.plans, "a fusion plan (docs/ffn-fusion.md), carried out first; may be repeated")
      ->allow_extra_args(false);
  sub->add_option("--dtype", command.dtype, "f32: write weights of 16 bits as f32 (default: as they are stored)")
      ->check(CLI::IsMember({"f32"}));
  sub->add_option("--shard-bytes", command.shardBytes, "most bytes of tensors in one safetensors file")
      ->capture_default_str()
      ->check(CLI::Range(int64_t(1), int64_t(1) << 50));
  sub->add_option("--pre-tokenizer", command.preTokenizer,
                  "llama.cpp's name of the tokenizer's way to cut text (default: found in a table)");
  sub->add_flag("--allow-unused-tensors", command.allowUnusedTensors, kUnusedHelp);
  addCommon(sub, command);
}

static void addPlace(CLI::App &app, PlaceCommand &command) {
  CLI::App *sub = app.add_subcommand("place", "decide which rank holds which expert replica, from routing statistics");
  sub->footer("Example:\n"
              "  moec place examples/placement/routing.json --ranks 4 --slots 20 --format sglang -o map.json");
  sub->add_option("STATS", command.statistics,
                  "SGLang logical_count (.json, .pt), TensorRT-LLM directory, vllm-ascend .pt, moe-routing JSON")
      ->required();
  // The report holds the traffic between any two ranks.
  sub->add_option("--ranks", command.ranks, "ranks (GPUs) that share the experts")
      ->required()
      ->check(CLI::Range(1, 4096));
  sub->add_option("--slots", command.slots, "expert slots of all ranks together: experts + redundant replicas")
      ->required()
      ->check(CLI::Range(1, 1 << 20));
  sub->add_option("--nodes", command.nodes, "nodes that the ranks are on (default: of the topology, else 1)")
      ->check(CLI::Range(1, 1 << 16));
  sub->add_option("--groups", command.groups, "expert groups of the router (default: of the model, else 1)")
      ->check(CLI::Range(1, 1 << 16));
  sub->add_option("--top-groups", command.topGroups, "groups that a token chooses (default: of the model, else half)")
      ->check(CLI::Range(1, 1 << 16));
  sub->add_option("--top-k", command.topK, "experts per token (default: of the model or the statistics)")
      ->check(CLI::Range(1, 1 << 16));
  sub->add_option("--previous", command.previous, "map in use, in any of the formats");
  sub->add_option("--max-moves", command.maxMoves, "part of the slots that may change against --previous")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  sub->add_option("--model", command.model, "checkpoint directory: dense layers, groups, sizes");
  sub->add_option("--topology", command.topology, "machine facts, a file like those in targets/");
  sub->add_option("--format", command.format, "of the map")
      ->capture_default_str()
      ->check(CLI::IsMember({"json", "sglang", "trtllm", "vllm-ascend"}));
  sub->add_option("-o", command.output, "map to write; - is standard output")->required();
  sub->add_option("--bake", command.bake, "also write the checkpoint of --model with its experts in the map's order");
  sub->add_option("--html", command.html, "also write a page with load, balance, stability and traffic");
  sub->add_option("--profile-weights", command.weights, "importance of each profile (default: all alike)")
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--tokens-per-step", command.tokensPerStep, "tokens of all ranks in one step")
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--replan-every", command.replanEvery, "steps that the map stays in use")
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--bandwidth", command.bandwidth, "GB/s at which a rank loads experts (default: of the topology)")
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--expert-bytes", command.expertBytes, "bytes of one expert (default: of the model)")
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--locality", command.locality, "weight of locality against balance, with several nodes; 0: none")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  sub->add_option(
         "--resample", command.resamples,
         "plan for so many resamplings of a recording's windows, which a short recording needs; 0: for its sum")
      ->capture_default_str()
      ->check(CLI::Range(0, 64));
  sub->add_option("--effort", command.effort, "multiplies the steps of the search")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 1000.0));
  sub->add_option("--time-budget", command.timeBudget, "seconds after which the search ends early; 0: never")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--seed", command.seed, "of the search; the same seed gives the same map")->capture_default_str();
  addCommon(sub, command);
}

static void addFuse(CLI::App &app, FuseCommand &command) {
  CLI::App *sub = app.add_subcommand("fuse", "fuse layers where it is safe and pays, or say why not");
  sub->footer("Example:\n  moec fuse examples/models/tiny-llama --calibration llama.calibration --for vllm -o fused");
  sub->add_option("DIR", command.directory, "directory with config.json and *.safetensors")->required();
  sub->add_option("--calibration", command.calibration, "what moe-run calibrate measured on it")->required();
  sub->add_option("-o", command.output, "what the engine loads; with --plan-only a plan")->required();
  sub->add_option("--for", command.engine, "who is to load it")
      ->capture_default_str()
      ->check(CLI::IsMember({"vllm", "sglang", "trtllm", "llama.cpp", "transformers", "package"}));
  sub->add_option("--form", command.form, "R, D or P (docs/ffn-fusion.md; default: any that the engine loads)")
      ->check(CLI::IsMember({"R", "D", "P"}));
  sub->add_option("--max-kl", command.maxKl, "nats per token that the fused model may differ, as an upper bound")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--min-top-1", command.minTop1, "part of tokens whose likeliest successor must stay the same")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  sub->add_option("--min-gain", command.minGain, "part by which decoding must be faster; 0: speed is not asked for")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  sub->add_option("--groups", command.groups, "windows of your own, FIRST-LAST,...: only their forms are chosen");
  sub->add_flag("--fuse-last", command.fuseLast, "the last layer of the model may be fused too");
  sub->add_option("--ranks", command.ranks, "ranks that share a layer; speed is measured with as many thread ranks")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 16));
  sub->add_option("--target", command.target, "as of moec compile")->capture_default_str();
  sub->add_option(
         "--dtype", command.dtype,
         "element type of activations (default: bf16 if the weights are, else f32); f32: exports store weights "
         "of 16 bits as f32 too")
      ->check(CLI::IsMember({"f32", "bf16"}));
  sub->add_flag("--plan-only", command.planOnly, "write the plan (and its maps), measure and export nothing");
  sub->add_option("--sub-layer-gain", command.subLayerGain, "what one sub-layer less saves, for choosing; any unit")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--attention-gain", command.attentionGain, "what an attention that is gone saves beside that")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--also", command.also, "a plan to measure beside; may be repeated")->allow_extra_args(false);
  sub->add_option("--fronts", command.fronts, "points of the fronts (ours, the published recipe's) to measure beside")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000));
  sub->add_option("--per-form", command.perForm,
                  "points of the front of each form alone to measure beside, with maps and without")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000));
  sub->add_option("--tries", command.tries, "plans that the search may measure")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  sub->add_option("--rounds", command.rounds, "rounds of the measurement of speed")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  sub->add_option("--generate", command.benchTokens, "decode steps of a round")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  sub->add_option("--prompt-length", command.promptLength, "tokens of the prompt of a round")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  sub->add_option("--threads", command.threads, "threads of a rank while measuring (default: one per core)")
      ->check(CLI::Range(0, 4096));
  sub->add_option("--greedy", command.greedyTokens, "tokens of greedy text in which a collapse is looked for")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 20));
  sub->add_option(
      "--work", command.work,
      "folder for intermediate files, which then stay; what is there from an earlier run is not done again");
  addCommon(sub, command);
}

static void addInspect(CLI::App &app, InspectCommand &command) {
  CLI::App *sub =
      app.add_subcommand("inspect", "describe a package, a Hugging Face directory or a GGUF file, checking it");
  sub->footer("Example:\n  moec inspect examples/models/tiny-mixtral --json");
  sub->add_option("PATH", command.path, "package, directory or GGUF file")->required();
  addCommon(sub, command);
}

static void addDoctor(CLI::App &app, DoctorCommand &command) {
  CLI::App *sub = app.add_subcommand("doctor", "check this machine: CPU features, tools, runtime");
  sub->footer("Example:\n  moec doctor");
  addCommon(sub, command);
}

static void addReport(CLI::App &app, ReportCommand &command) {
  CLI::App *sub = app.add_subcommand("report", "draw a report of moec fuse or moec place --json as an HTML page");
  sub->footer("Example:\n  moec report fused.report.json -o report.html");
  sub->add_option("FILE", command.input, "report, in JSON")->required();
  sub->add_option("-o", command.output, "page to write, one file without outside references; - is standard output")
      ->required();
  addCommon(sub, command);
}

static ExitCode run(int argc, char **argv) {
  CLI::App app("moec: compiles mixture-of-experts and transformer models", "moec");
  app.footer("Exit codes: 0 success, 1 a mistake in the input, 2 a bug in moec.\n"
             "Example:\n  moec compile examples/models/tiny-mixtral -o mixtral.pkg");
  app.set_version_flag("--version", getVersionString());
  app.require_subcommand(1);
  ImportCommand import;
  CompileCommand compile;
  ExportCommand exported;
  InspectCommand inspect;
  PlaceCommand place;
  FuseCommand fuse;
  DoctorCommand doctor;
  ReportCommand report;
  addImport(app, import);
  addCompile(app, compile);
  addExport(app, exported);
  addInspect(app, inspect);
  addPlace(app, place);
  addFuse(app, fuse);
  addDoctor(app, doctor);
  addReport(app, report);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    if (error.get_exit_code() == 0) {
      return static_cast<ExitCode>(app.exit(error));
    }
    std::cerr << "moec: error: " << error.what() << "; see 'moec --help' or 'moec COMMAND --help'\n";
    return kUserError;
  }
  if (app.got_subcommand("import")) {
    return runImport(import);
  }
  if (app.got_subcommand("compile")) {
    return runCompile(compile);
  }
  if (app.got_subcommand("export")) {
    return runExport(exported);
  }
  if (app.got_subcommand("inspect")) {
    return runInspect(inspect);
  }
  if (app.got_subcommand("fuse")) {
    return runFuse(fuse);
  }
  if (app.got_subcommand("place")) {
    return runPlace(place);
  }
  if (app.got_subcommand("report")) {
    return runReport(report);
  }
  return runDoctor(doctor);
}

int main(int argc, char **argv) {
  // A file that grows beyond the limit of the process is an error of write(), not a signal.
  std::signal(SIGXFSZ, SIG_IGN);
  installErrorHandlers();
  try {
    return finishOutput(run(argc, argv));
  } catch (const std::exception &exception) {
    std::cerr << "moec: internal error: " << exception.what() << '\n';
    return kInternalError;
  }
}
