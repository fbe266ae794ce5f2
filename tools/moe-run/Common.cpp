//===- Common.cpp - Shared by commands ------------------------------------===//
#include "tools/moe-run/Commands.h"

#include "runtime/readers/File.h"

#include <cerrno>
#include <cstring>
#include <random>

using namespace moert;
using namespace moerun;

namespace {

/// Ranks must be as many as the package was compiled for; `group`: of processes, null for threads.
Status checkRanks(const Package &package, const CommonOptions &options, moert_group *&group) {
  const int made = package.info().ranks, processes = processRanks();
  group = nullptr;
  if (processes > 1) {
    if (options.threadRanks > 1) {
      return error(Code::InvalidArgument, "--thread-ranks ", options.threadRanks, " in a job of ", processes,
                   " processes: ranks are either threads or processes");
    }
    if (processes != made) {
      return error(Code::InvalidArgument, options.package, " was compiled for ", made, " ranks, ", processes,
                   " processes were started: start ", made, ", or compile with --ranks ", processes);
    }
    MOERT_ASSIGN(joined, joinProcesses());
    group = joined;
    return Status();
  }
  if (options.threadRanks != 0 && options.threadRanks != made) {
    return error(Code::InvalidArgument, options.package, " was compiled for ", made, " ranks, --thread-ranks asks for ",
                 options.threadRanks, ": use ", made, ", or compile with --ranks ", options.threadRanks);
  }
  return Status();
}

} // namespace

SessionOptions moerun::sessionOptions(const CommonOptions &options) {
  SessionOptions session;
  session.weights = options.weights;
  session.cache = options.cache;
  session.variant = options.variant;
  session.device = options.device;
  session.graphs = options.noGraphs ? -1 : 0;
  session.dependentLaunch = !options.noDependentLaunch;
  session.maxTokens = options.maxTokens;
  session.threads = options.threads;
  session.pin = options.pin;
  session.deadlineSeconds = options.deadlineSeconds;
  return session;
}

Status moerun::runServer(const CommonOptions &options) {
  MOERT_ASSIGN(package, Package::load(options.package));
  moert_group *group = nullptr;
  MOERT_TRY(checkRanks(package, options, group));
  return serveRank(package, sessionOptions(options), group, moert_group_rank(group));
}

Result<std::unique_ptr<Session>> moerun::openSession(const Package &package, const CommonOptions &options,
                                                     int64_t sequences, int64_t context, bool verifyWeights) {
  if (options.maxTokens > package.info().maxTokens) {
    return error(Code::InvalidArgument, "--max-tokens ", options.maxTokens, " is more than the ",
                 package.info().maxTokens, " that the package was compiled for; compile it with a larger --max-tokens");
  }
  Progress progress(options.quiet);
  SessionOptions session = sessionOptions(options);
  session.sequences = sequences;
  session.context = context;
  session.verifyWeights = verifyWeights;
  session.progress = [&](const std::string &stage, uint64_t done, uint64_t total) {
    progress.update(stage, done, total);
  };
  moert_group *group = nullptr;
  MOERT_TRY(checkRanks(package, options, group));
  if (package.info().ranks == 1) {
    return Session::create(package, session);
  }
  MOERT_ASSIGN(ranked, RankedSession::create(package, session, group));
  return std::unique_ptr<Session>(std::move(ranked));
}

Result<std::unique_ptr<RoutingRecorder>> moerun::beginRecording(Session &session, const CommonOptions &options) {
  if (options.recording.file.empty()) {
    return std::unique_ptr<RoutingRecorder>();
  }
  return RoutingRecorder::begin(session, options.package, options.recording);
}

Status moerun::endRecording(RoutingRecorder *recorder, const CommonOptions &options) {
  if (!recorder) {
    return Status();
  }
  MOERT_ASSIGN(statistics, recorder->finish());
  return writeRoutingFile(options.recording.file, statistics, options.quiet);
}

Result<readers::Tokenizer> moerun::openTokenizer(const std::string &package) {
  std::string path = readers::joinPath(package, "tokenizer.json");
  if (!readers::exists(path)) {
    return error(Code::NotFound, path, ": no tokenizer in the package; give token ids with --ids");
  }
  return readers::Tokenizer::open(path);
}

Status moerun::checkContext(const ProgramInfo &info, int64_t context) {
  if (info.maxContext != 0 && context > info.maxContext) {
    return error(Code::InvalidArgument, "a context of ", context, " tokens is more than the model's ", info.maxContext,
                 "; give shorter prompts or a smaller --max-new or --context");
  }
  return Status();
}

std::vector<int32_t> moerun::sampleIds(int64_t length, int64_t vocabulary, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) {
    ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary)));
  }
  return ids;
}

Result<Json> moerun::parseReport(Session &session) {
  MOERT_ASSIGN(text, session.report());
  Json tree = Json::parse(text, nullptr, false);
  if (tree.is_discarded()) {
    return error(Code::Internal, "the session's report is no JSON: ", text.substr(0, 80));
  }
  return tree;
}

Status moerun::outputStatus(bool written) {
  return written ? Status() : error(Code::IO, "cannot write to standard output: ", std::strerror(errno));
}

std::pair<std::string, std::string> moerun::splitDomain(const std::string &argument) {
  const size_t equals = argument.find('=');
  if (equals != std::string::npos && argument.find('/') > equals) {
    return {argument.substr(0, equals), argument.substr(equals + 1)};
  }
  const size_t slash = argument.rfind('/');
  return {slash == std::string::npos ? argument : argument.substr(slash + 1), argument};
}
