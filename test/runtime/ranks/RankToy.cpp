// See RankToy.h.
#include "test/runtime/ranks/RankToy.h"

#include <thread>

namespace moert::test {

using namespace format;

namespace {

/// Kernels that the toy has not, after its own.
enum : uint32_t { kEmbedPart = 8, kChoose, kScalePart, kNumber };

const uint64_t kY = 4 * kMaxTokens;

} // namespace

RankToy::RankToy(int ranks, bool isDistributed)
    : ranks(ranks), isDistributed(isDistributed), firstBuffer(uint32_t(variant().buffers.size())) {
  VariantSpec &v = variant();
  v.ranks = uint16_t(ranks);
  v.rankInputs = isDistributed ? RankInputs::Distributed : RankInputs::Replicated;
  v.kernelFile = TEST_RANK_KERNELS;
  v.kernels.insert(v.kernels.end(), {"embed_part", "choose", "scale_part", "number"});
  v.steps.clear();
  isDistributed ? addDistributed() : addReplicated();
}

/// The commands that both kinds end with, from the arena's x on.
void RankToy::endStep(uint32_t begin, int64_t first, int64_t last) {
  const Extent perToken = extent(0, 4);
  addCommand(program, variant(), CommandKind::Launch, "accumulate", 1,
             {slice(kArena, Access::Read, perToken), slice(kSeq, Access::Read, perToken),
              slice(kPos, Access::Read, perToken), slice(kState, Access::ReadWrite, extent(0, 0, 0, 0, 4)),
              slice(kArena, Access::Write, perToken, kY), size(Dim::T), size(Dim::C),
              slice(kRuns, Access::Read, extent(4, 0, 0, 4))},
             Grid(extent(0, 0, 0, 1), 1, 0, 1));
  if (!isDistributed) {
    addCommand(program, variant(), CommandKind::Launch, "scale", 2,
               {table(0), slice(kArena, Access::ReadWrite, perToken, kY), size(Dim::T), constant(1)});
  }
  addCommand(program, variant(), CommandKind::Launch, "logits", 3,
             {slice(kArena, Access::Read, perToken, kY), slice(kRows, Access::Read, extent(0, 0, 4)), span(kHead),
              slice(kLogits, Access::Write, extent(0, 0, 4 * kVocab)), constant(kVocab)},
             Grid(extent(0, 0, 1), 1, 0, 1));
  variant().steps.push_back(StepVariant(first, last, begin, uint32_t(variant().commands.size()) - begin));
}

void RankToy::addReplicated() {
  const Extent perToken = extent(0, 4);
  const int64_t part = kVocab / ranks;
  for (int64_t first : {int64_t(1), int64_t(2)}) {
    const auto begin = uint32_t(variant().commands.size());
    // One token: the sum goes elsewhere and is copied back; more: it is in place.
    const uint64_t place = first == 1 ? kY : 0;
    addCommand(program, variant(), CommandKind::Launch, "embed", kEmbedPart,
               {slice(kTokens, Access::Read, perToken), span(kEmbed, 0, 4 * part, Access::Read, uint64_t(4 * part)),
                slice(kArena, Access::Write, perToken, place), size(Dim::T), size(Dim::Rank),
                constant(uint64_t(part))});
    if (first == 1) {
      addCommand(program, variant(), CommandKind::Collective, "join", uint32_t(CollectiveKind::AllReduceSum),
                 {slice(kArena, Access::Write, perToken), slice(kArena, Access::Read, perToken, place)});
    } else {
      addCommand(program, variant(), CommandKind::Collective, "join", uint32_t(CollectiveKind::AllReduceSum),
                 {slice(kArena, Access::ReadWrite, perToken)});
    }
    endStep(begin, first, first == 1 ? 1 : kMaxTokens);
  }
}

void RankToy::addDistributed() {
  program.tableEntries.clear();
  for (int rank = 0; rank < ranks; ++rank) {
    program.tableEntries.push_back(TableEntry(rank % 2 ? kExpert1 : kExpert0, 0));
  }
  program.tables[0].mutate_count(uint32_t(ranks));
  for (const char *name : {"ids", "all ids", "all x", "shares"}) {
    variant().buffers.push_back(Buffer(BufferKind::Arena, program.string(name), 64, 0, extent(4 * kMaxTokens * ranks)));
  }
  const uint32_t ids = firstBuffer, allIds = ids + 1, allX = ids + 2, shares = ids + 3;
  const Extent perToken = extent(0, 4), perRankToken = extent(0, 4 * ranks);
  const auto begin = uint32_t(variant().commands.size());
  addCommand(
      program, variant(), CommandKind::Launch, "embed", 0,
      {slice(kTokens, Access::Read, perToken), span(kEmbed), slice(kArena, Access::Write, perToken), size(Dim::T)},
      Grid(extent(0, 1), 2, 0, 1));
  addCommand(program, variant(), CommandKind::Launch, "choose", kChoose,
             {slice(kTokens, Access::Read, perToken), slice(kSeq, Access::Read, perToken),
              slice(ids, Access::Write, perToken), size(Dim::T), size(Dim::B)});
  addCommand(program, variant(), CommandKind::Collective, "gather ids", uint32_t(CollectiveKind::AllGather),
             {slice(allIds, Access::Write, perRankToken), slice(ids, Access::Read, perToken)});
  addCommand(program, variant(), CommandKind::Collective, "gather x", uint32_t(CollectiveKind::AllGather),
             {slice(allX, Access::Write, perRankToken), slice(kArena, Access::Read, perToken)});
  addCommand(program, variant(), CommandKind::Launch, "scale", kScalePart,
             {slice(allIds, Access::Read, perRankToken), slice(allX, Access::Read, perRankToken), table(0, 1),
              slice(shares, Access::Write, perRankToken), size(Dim::T), size(Dim::Rank), size(Dim::Ranks)});
  addCommand(program, variant(), CommandKind::Collective, "bring home", uint32_t(CollectiveKind::ReduceScatterSum),
             {slice(kArena, Access::Write, perToken), slice(shares, Access::Read, perRankToken)});
  endStep(begin, 1, kMaxTokens);
}

void RankToy::exchangeRows(WayBack back) {
  VariantSpec &v = variant();
  const int32_t there[2] = {1, 1}, homeward[2] = {1, 0};
  constexpr uint64_t backAt = 64;
  program.constants.assign(2 * backAt, '\0');
  memcpy(program.constants.data(), there, sizeof(there));
  memcpy(program.constants.data() + backAt, homeward, sizeof(homeward));
  auto buffer = [&](BufferKind kind, const char *name, int64_t bytes, uint64_t at = 0) {
    v.buffers.push_back(Buffer(kind, program.string(name), 64, at, test::extent(bytes)));
    return uint32_t(v.buffers.size() - 1);
  };
  const uint32_t received = buffer(BufferKind::State, "received", 8), from = buffer(BufferKind::State, "counts", 8);
  const uint32_t sent = buffer(BufferKind::Constant, "sent", 8);
  const auto begin = uint32_t(v.commands.size());
  v.commands.push_back(v.commands[v.steps[0].first_command()]); // embed
  addCommand(program, v, CommandKind::Collective, "swap", uint32_t(CollectiveKind::Exchange),
             {slice(received, Access::Write, test::extent(8)), slice(kArena, Access::Read, test::extent(0, 4)),
              slice(from, Access::Write, test::extent(8)), slice(sent, Access::Read, test::extent(8))},
             Grid(test::extent(1), 1, 0, 1), 4);
  if (back != WayBack::None) {
    const uint32_t home = buffer(BufferKind::State, "home", 8), late = buffer(BufferKind::State, "late", 8);
    const uint32_t counts = buffer(BufferKind::Constant, "counts of the way back", 8, backAt);
    if (back == WayBack::Late) {
      addCommand(program, v, CommandKind::Copy, "count", 0,
                 {slice(late, Access::Write, test::extent(8)), slice(counts, Access::Read, test::extent(8))});
    }
    addCommand(program, v, CommandKind::Collective, "swap back", uint32_t(CollectiveKind::Exchange),
               {slice(home, Access::Write, test::extent(8)), slice(received, Access::Read, test::extent(8)),
                slice(from, Access::Write, test::extent(8)),
                slice(back == WayBack::Late ? late : counts, Access::Read, test::extent(8))},
               Grid(test::extent(1), 1, 0, 1), 4);
  }
  v.steps = {StepVariant(1, kMaxTokens, begin, uint32_t(v.commands.size()) - begin)};
}

float RankToy::expectedLogit(const std::vector<int32_t> &sequence, int64_t v) const {
  if (!isDistributed) {
    return expected(sequence, v);
  }
  float sum = 0;
  for (int32_t token : sequence) {
    sum += float(token + 1) * (token % ranks % 2 ? 3.0f : 0.5f);
  }
  return sum * (2 * 0.25f * float(v) + float(v % 3));
}

RankSessions::RankSessions(const RankToy &toy, int ranks)
    : count(ranks ? ranks : toy.ranks), sessions(size_t(count)), logits(size_t(count)) {
  moert_status_free(moert_group_create_threads(count, &group));
  for (Loaded &session : sessions) {
    session.load(toy.package());
  }
}

RankSessions::~RankSessions() { moert_group_free(group); }

void RankSessions::run(const std::function<void(int rank)> &function) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] { function(rank); });
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
}

void RankSessions::open(const std::function<void(int rank, moert_session_options &options)> &change) {
  run([&](int rank) {
    moert_session_options options = defaultOptions();
    options.threads = 1;
    options.group = group;
    options.rank = rank;
    if (change) {
      change(rank, options);
    }
    sessions[size_t(rank)].open(options);
  });
}

bool RankSessions::step(int rank, const std::vector<int32_t> &tokens, const std::vector<int32_t> &seq,
                        const std::vector<int32_t> &pos, const std::vector<int32_t> &rows) {
  return sessions[size_t(rank)].step(tokens, seq, pos, rows, logits[size_t(rank)]);
}

} // namespace moert::test
