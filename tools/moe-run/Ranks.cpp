//===- Ranks.cpp - Several ranks behind one engine ------------------------===//
//
// Orders are a fixed record, then the step's numbers in one message. Every wait
// has the session's deadline, so that a rank 0 that stops is missed as well; those
// for rank 0 a little more, since it may itself be waiting for a rank that stopped,
// and only it knows for which. Of threads, rank 0 says what failed; if it stands
// still itself, another one says it and ends the process.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Ranks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sys/syscall.h>
#include <unistd.h>

using namespace moert;
using namespace moerun;

namespace {

using Json = nlohmann::ordered_json;

enum : int32_t { OrderQuit, OrderOpen, OrderStep, OrderPick, OrderCounts, OrderReport };

/// What rank 0 sends first; of an Open, `tokens` and `rows` are sequences and context; `text` names counters.
struct Order {
  int32_t what = OrderQuit, isVerifying = 0;
  int64_t tokens = 0, rows = 0;
  char text[64] = {};
};

/// How long a rank waits for the first order at least: rank 0 reads its input first.
constexpr double kFirstOrderSeconds = 120;

/// How much longer a rank waits for rank 0 than rank 0 for it.
constexpr double kPatienceSeconds = 1;

moert_group *processes = nullptr;
bool lostThreads = false;

/// Whether a thread of this process was stopped from outside, as a debugger does it.
bool isStopped(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const size_t name = text.rfind(") "); // the state is behind it; a name may hold anything
  return name != std::string::npos && text.find_first_of("tT", name) == name + 2;
}

/// A number that a launcher tells every process.
int jobNumber(const char *name, int otherwise) {
  const char *text = std::getenv(name);
  return text == nullptr ? otherwise : std::max(otherwise, std::atoi(text));
}

bool isUnderMpirun() { return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr; }

/// Whether this process was told where to meet others, as torchrun and other launchers do it.
bool hasRendezvous() {
  for (const char *name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    if (std::getenv(name) == nullptr) {
      return false;
    }
  }
  return !isUnderMpirun();
}

/// How long processes of a rendezvous may take to start.
constexpr double kMeetingSeconds = 300;

Status meet(moert_group **group) {
  // torchrun may keep a store of its own at the port, and says so.
  const char *store = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  const int port = jobNumber("MASTER_PORT", 0) + (store != nullptr && std::string(store) == "True" ? 1 : 0);
  const int ranks = processRanks(), localRanks = jobNumber("LOCAL_WORLD_SIZE", 1);
  return takeStatus(moert_group_create_rendezvous(std::getenv("MASTER_ADDR"), port, processRank(), ranks,
                                                  jobNumber("LOCAL_RANK", 0), localRanks, kMeetingSeconds, group));
}

/// As sessions have it: the emulator is slow by nature.
double deadlineOf(const SessionOptions &options) {
  return options.deadlineSeconds > 0 ? options.deadlineSeconds : options.device == "emulator" ? 3600 : 30;
}

/// Sends numbers or text with their size before them.
Status sendSized(moert_group *group, int rank, const void *data, size_t bytes, double deadline) {
  auto size = static_cast<uint64_t>(bytes);
  MOERT_TRY(takeStatus(moert_group_send(group, rank, 0, &size, sizeof(size), deadline)));
  return takeStatus(moert_group_send(group, rank, 0, data, bytes, deadline));
}

moert_step_input inputOf(const std::vector<int32_t> &ids, int64_t tokens, int64_t rows) {
  const int32_t *data = ids.data();
  return {tokens, data, data + tokens, data + 2 * tokens, rows, data + 3 * tokens};
}

/// One order after the other.
class Server {
public:
  Server(const Package &package, SessionOptions options, moert_group *group, int rank)
      : package(package), options(std::move(options)), group(group), rank(rank) {}

  Status run() {
    while (true) {
      Order order = {};
      const double wait = session ? patience() : std::max(patience(), kFirstOrderSeconds);
      MOERT_TRY(takeStatus(moert_group_receive(group, rank, 0, &order, sizeof(order), wait)));
      if (order.what == OrderQuit) {
        return Status();
      }
      MOERT_TRY(serve(order));
    }
  }

private:
  double patience() const { return deadlineOf(options) + kPatienceSeconds; }

  Status serve(const Order &order) {
    switch (order.what) {
    case OrderOpen: {
      options.sequences = order.tokens;
      options.context = order.rows;
      options.verifyWeights = order.isVerifying != 0;
      options.group = group;
      options.rank = rank;
      options.progress = nullptr;
      MOERT_ASSIGN(opened, Session::create(package, options));
      session = std::move(opened);
      return Status();
    }
    case OrderStep:
    case OrderPick: {
      ids.resize(static_cast<size_t>(3 * order.tokens + order.rows));
      MOERT_TRY(takeStatus(moert_group_receive(group, rank, 0, ids.data(), ids.size() * sizeof(int32_t), patience())));
      const bool isPicking = order.what == OrderPick;
      const moert_step_input input = inputOf(ids, order.tokens, order.rows);
      logits.resize(isPicking ? 0 : static_cast<size_t>(order.rows * session->vocabulary));
      picks.resize(isPicking ? static_cast<size_t>(order.rows) : 0);
      Status status = isPicking ? session->pick(input, picks.data()) : session->step(input, logits.data());
      // What is wrong with the input rank 0 knows and says; the next order may be right.
      if (status.code() == Code::InvalidArgument) {
        return Status();
      }
      MOERT_TRY(status);
      if (!package.info().isDistributed || order.rows == 0) {
        return Status();
      }
      const void *rows = isPicking ? static_cast<const void *>(picks.data()) : logits.data();
      const size_t bytes = isPicking ? picks.size() * sizeof(int32_t) : logits.size() * sizeof(float);
      return takeStatus(moert_group_send(group, rank, 0, rows, bytes, patience()));
    }
    case OrderCounts: {
      MOERT_ASSIGN(counts, session->layerCounters(order.text));
      std::vector<int64_t> flat;
      for (const std::vector<int64_t> &layer : counts) {
        flat.insert(flat.end(), layer.begin(), layer.end());
      }
      return sendSized(group, rank, flat.data(), flat.size() * sizeof(int64_t), patience());
    }
    case OrderReport: {
      MOERT_ASSIGN(text, session->report());
      return sendSized(group, rank, text.data(), text.size(), patience());
    }
    default:
      return error(Code::Internal, "rank 0 gave order ", order.what, ", which rank ", rank, " does not know");
    }
  }

  const Package &package;
  SessionOptions options;
  moert_group *const group;
  const int rank;
  std::unique_ptr<Session> session;
  std::vector<int32_t> ids, picks;
  std::vector<float> logits;
};

} // namespace

/// What the thread ranks know of rank 0, which speaks for all of them as long as it can.
struct RankedSession::Speaker {
  pid_t thread = 0;
  std::atomic<bool> isInStep{false}, hasSpoken{false};

  /// After `status` has reached all ranks: ends the process if rank 0 does not take notice of it.
  void standIn(const Status &status) {
    std::this_thread::sleep_for(std::chrono::duration<double>(kPatienceSeconds));
    if ((isInStep || isStopped(thread)) && !hasSpoken.exchange(true)) {
      // Rank 0 may stand still with the lock of a stream.
      const std::string text = concat("moe-run: error: ", status.message(), "\n");
      [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
      std::_Exit(2); // as moe-run does after a deadline
    }
  }
};

int moerun::processRanks() { return jobNumber(hasRendezvous() ? "WORLD_SIZE" : "OMPI_COMM_WORLD_SIZE", 1); }
int moerun::processRank() { return jobNumber(hasRendezvous() ? "RANK" : "OMPI_COMM_WORLD_RANK", 0); }
bool moerun::hasLostThreads() { return lostThreads; }

Result<moert_group *> moerun::joinProcesses() {
  if (processes == nullptr) {
    MOERT_TRY(hasRendezvous() ? meet(&processes) : takeStatus(moert_group_create_processes(nullptr, &processes)));
  }
  return processes;
}

void moerun::leaveProcesses() {
  moert_group_free(processes);
  processes = nullptr;
}

void moerun::endProcesses(int status) {
  if (processes != nullptr) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    moert_group_end_job(processes, status);
  }
}

Status moerun::serveRank(const Package &package, SessionOptions options, moert_group *group, int rank) {
  Status status = Server(package, std::move(options), group, rank).run();
  if (!status.ok()) {
    moert_group_abort(group, rank, status.message().c_str());
  }
  return status;
}

Result<std::unique_ptr<RankedSession>> RankedSession::create(const Package &package, const SessionOptions &options,
                                                             moert_group *group) {
  std::unique_ptr<RankedSession> result(new RankedSession());
  RankedSession &s = *result;
  s.ranks = package.info().ranks;
  s.isDistributed = package.info().isDistributed;
  s.deadlineSeconds = deadlineOf(options);
  s.shares.resize(static_cast<size_t>(s.ranks));
  s.group = group;
  SessionOptions own = options;
  if (s.isDistributed) {
    own.sequences = (options.sequences + s.ranks - 1) / s.ranks;
  }
  if (group == nullptr) {
    MOERT_TRY(takeStatus(moert_group_create_threads(s.ranks, &s.group)));
    s.threadGroup.reset(s.group, moert_group_free);
    s.speaker = std::make_shared<Speaker>();
    s.speaker->thread = static_cast<pid_t>(syscall(SYS_gettid));
    for (int rank = 1; rank < s.ranks; ++rank) {
      // All by value: after a failure a thread that hangs outlives the session.
      s.threads.emplace_back([package, own, shared = s.threadGroup, speaker = s.speaker, rank] {
        if (Status status = serveRank(package, own, shared.get(), rank); !status.ok()) {
          speaker->standIn(status); // rank 0 is told and says so
        }
      });
    }
  }
  s.isServed = true;
  Order open;
  open.what = OrderOpen;
  open.isVerifying = options.verifyWeights ? 1 : 0;
  open.tokens = own.sequences;
  open.rows = own.context;
  for (int rank = 1; rank < s.ranks; ++rank) {
    MOERT_TRY(takeStatus(moert_group_send(s.group, 0, rank, &open, sizeof(open), s.deadlineSeconds)));
  }
  own.group = s.group;
  own.rank = 0;
  MOERT_TRY(s.open(package, own));
  s.sequences = options.sequences;
  return result;
}

/// Tells the others to stop. Threads that do not, because they hang, are left to the end of the process.
RankedSession::~RankedSession() {
  const Order quit;
  bool isHealthy = isServed;
  for (int rank = 1; rank < ranks && isHealthy; ++rank) {
    isHealthy = takeStatus(moert_group_send(group, 0, rank, &quit, sizeof(quit), deadlineSeconds)).ok();
  }
  for (std::thread &thread : threads) {
    isHealthy ? thread.join() : thread.detach();
    lostThreads |= !isHealthy;
  }
}

Status RankedSession::receive(int rank, void *data, size_t bytes) {
  return takeStatus(moert_group_receive(group, 0, rank, data, bytes, deadlineSeconds));
}

Status RankedSession::order(int rank, int32_t what, const std::string &text) {
  Order order;
  order.what = what;
  text.copy(order.text, sizeof(order.text) - 1);
  return takeStatus(moert_group_send(group, 0, rank, &order, sizeof(order), deadlineSeconds));
}

Status RankedSession::orderStep(int rank, const Share &share, bool isPicking) {
  Order order;
  order.what = isPicking ? OrderPick : OrderStep;
  order.tokens = share.tokens;
  order.rows = share.rows;
  MOERT_TRY(takeStatus(moert_group_send(group, 0, rank, &order, sizeof(order), deadlineSeconds)));
  return takeStatus(
      moert_group_send(group, 0, rank, share.ids.data(), share.ids.size() * sizeof(int32_t), deadlineSeconds));
}

/// Cuts a step into those of the ranks. Slots and positions stay in order, because a rank's slots are in the order of
/// the engine's.
void RankedSession::share(const moert_step_input &input) {
  rowOfToken.assign(static_cast<size_t>(input.token_count), 0);
  rankOfToken.assign(static_cast<size_t>(input.token_count), 0);
  for (Share &share : shares) {
    share.tokens = share.rows = 0;
    share.owners.clear();
  }
  for (int64_t t = 0; t < input.token_count; ++t) {
    const int32_t rank = isDistributed ? input.seq[t] % ranks : 0;
    rankOfToken[static_cast<size_t>(t)] = rank;
    rowOfToken[static_cast<size_t>(t)] = static_cast<int32_t>(shares[static_cast<size_t>(rank)].tokens++);
  }
  for (Share &share : shares) {
    share.ids.resize(static_cast<size_t>(3 * share.tokens));
  }
  for (int64_t t = 0; t < input.token_count; ++t) {
    Share &share = shares[static_cast<size_t>(rankOfToken[static_cast<size_t>(t)])];
    const auto at = static_cast<int64_t>(rowOfToken[static_cast<size_t>(t)]);
    share.ids[static_cast<size_t>(at)] = input.tokens[t];
    share.ids[static_cast<size_t>(share.tokens + at)] = isDistributed ? input.seq[t] / ranks : input.seq[t];
    share.ids[static_cast<size_t>(2 * share.tokens + at)] = input.pos[t];
  }
  for (int64_t row = 0; row < input.row_count; ++row) {
    const auto token = static_cast<size_t>(input.rows[row]);
    Share &share = shares[static_cast<size_t>(rankOfToken[token])];
    share.ids.push_back(rowOfToken[token]);
    share.owners.push_back(row);
    ++share.rows;
  }
}

Status RankedSession::step(const moert_step_input &input, float *logits) { return stepRanks(input, logits, nullptr); }

Status RankedSession::pick(const moert_step_input &input, int32_t *tokens) { return stepRanks(input, nullptr, tokens); }

Status RankedSession::stepRanks(const moert_step_input &input, float *logits, int32_t *picks) {
  if (speaker) {
    speaker->isInStep = true;
  }
  Status status = runShares(input, logits, picks);
  if (speaker) {
    speaker->isInStep = false;
  }
  return status;
}

Status RankedSession::runShares(const moert_step_input &input, float *logits, int32_t *picks) {
  share(input);
  for (int rank = 1; rank < ranks; ++rank) {
    MOERT_TRY(orderStep(rank, shares[isDistributed ? static_cast<size_t>(rank) : 0], picks != nullptr));
  }
  for (Share &share : shares) {
    share.logits.resize(picks ? 0 : static_cast<size_t>(share.rows * vocabulary));
    share.picks.resize(picks ? static_cast<size_t>(share.rows) : 0);
  }
  Share &own = shares[0];
  const moert_step_input part = inputOf(own.ids, own.tokens, own.rows);
  MOERT_TRY(picks ? Session::pick(part, own.picks.data()) : Session::step(part, own.logits.data()));
  for (int rank = 0; rank < (isDistributed ? ranks : 1); ++rank) {
    Share &its = shares[static_cast<size_t>(rank)];
    if (rank != 0 && its.rows != 0) {
      MOERT_TRY(picks ? receive(rank, its.picks.data(), its.picks.size() * sizeof(int32_t))
                      : receive(rank, its.logits.data(), its.logits.size() * sizeof(float)));
    }
    for (int64_t row = 0; row < its.rows; ++row) {
      const int64_t owner = its.owners[static_cast<size_t>(row)];
      if (picks) {
        picks[owner] = its.picks[static_cast<size_t>(row)];
      } else {
        std::copy_n(its.logits.data() + row * vocabulary, vocabulary, logits + owner * vocabulary);
      }
    }
  }
  return Status();
}

Result<std::string> RankedSession::report() {
  MOERT_ASSIGN(text, Session::report());
  Json json = Json::parse(text, nullptr, false);
  for (int rank = 1; rank < ranks; ++rank) {
    uint64_t size = 0;
    MOERT_TRY(order(rank, OrderReport));
    MOERT_TRY(receive(rank, &size, sizeof(size)));
    std::string its(size, ' ');
    MOERT_TRY(receive(rank, its.data(), its.size()));
    Json other = Json::parse(its, nullptr, false);
    for (const char *sum : {"weight_bytes", "threads", "result_bytes"}) {
      if (!json.is_object() || !other.is_object() || !json.contains(sum) || !other.contains(sum)) {
        return error(Code::Internal, "the report of rank ", rank, " has no ", sum);
      }
      json[sum] = json[sum].get<uint64_t>() + other[sum].get<uint64_t>();
    }
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::vector<std::vector<int64_t>>> RankedSession::layerCounters(const std::string &prefix) {
  MOERT_ASSIGN(counts, Session::layerCounters(prefix));
  for (int rank = 1; rank < ranks && isDistributed; ++rank) {
    uint64_t size = 0;
    MOERT_TRY(order(rank, OrderCounts, prefix));
    MOERT_TRY(receive(rank, &size, sizeof(size)));
    std::vector<int64_t> flat(static_cast<size_t>(size / sizeof(int64_t)));
    MOERT_TRY(receive(rank, flat.data(), flat.size() * sizeof(int64_t)));
    size_t at = 0;
    for (std::vector<int64_t> &layer : counts) {
      for (int64_t &count : layer) {
        count += at < flat.size() ? flat[at++] : 0;
      }
    }
  }
  return counts;
}
