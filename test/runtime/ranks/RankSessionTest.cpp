// Sessions of several thread ranks: results, what ranks agree on before a step, weights and caches per rank, failures.
#include "test/runtime/ranks/RankToy.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <random>

using namespace moert;
using namespace moert::test;
using namespace moert::format;

namespace {

using Ids = std::vector<int32_t>;

/// Sequences of one rank that grow at random.
struct Growing {
  explicit Growing(uint32_t seed) : random(seed), sequences(3) {}
  Ids tokens, seq, pos, rows;
  std::mt19937 random;
  std::vector<Ids> sequences;

  /// The next step: at most `most` tokens over the three slots, every one with a row.
  void grow(int most) {
    tokens.clear(), seq.clear(), pos.clear(), rows.clear();
    for (int32_t s = 0; s < 3; ++s) {
      const int room = std::min(most - int(tokens.size()), 32 - int(sequences[size_t(s)].size()));
      const int count = room > 0 ? int(random() % uint32_t(room + 1)) : 0;
      for (int i = 0; i < count; ++i) {
        tokens.push_back(int32_t(random() % kVocab));
        seq.push_back(s);
        pos.push_back(int32_t(sequences[size_t(s)].size()));
        rows.push_back(int32_t(rows.size()));
        sequences[size_t(s)].push_back(tokens.back());
      }
    }
  }
  void check(const RankToy &toy, const std::vector<float> &logits) const {
    ASSERT_EQ(logits.size(), rows.size() * size_t(kVocab));
    for (size_t row = 0; row < rows.size(); ++row) {
      const Ids &whole = sequences[size_t(seq[row])];
      const Ids sequence(whole.begin(), whole.begin() + pos[row] + 1);
      for (int64_t v = 0; v < kVocab; ++v) {
        ASSERT_FLOAT_EQ(logits[row * kVocab + size_t(v)], toy.expectedLogit(sequence, v));
      }
    }
  }
};

TEST(RankSessions, ReplicatedRanksComputeTheSame) {
  for (int ranks : {2, 4, 8}) {
    RankToy toy(ranks, false);
    toy.write();
    RankSessions sessions(toy);
    sessions.open();
    std::vector<Growing> inputs(size_t(ranks), Growing(7));
    for (int round = 0; round < 12; ++round) {
      sessions.run([&](int rank) {
        Growing &input = inputs[size_t(rank)];
        input.grow(round % 3 == 2 ? 1 : int(kMaxTokens));
        ASSERT_TRUE(sessions.step(rank, input.tokens, input.seq, input.pos, input.rows))
            << sessions.sessions[size_t(rank)].message;
        input.check(toy, sessions.logits[size_t(rank)]);
      });
    }
  }
}

TEST(RankSessions, DistributedRanksHaveTheirOwnSequences) {
  for (int ranks : {2, 3, 4, 8}) {
    RankToy toy(ranks, true);
    toy.write();
    RankSessions sessions(toy);
    sessions.open();
    std::vector<Growing> inputs;
    for (int rank = 0; rank < ranks; ++rank) {
      inputs.emplace_back(uint32_t(rank));
    }
    for (int round = 0; round < 12; ++round) {
      sessions.run([&](int rank) {
        Growing &input = inputs[size_t(rank)];
        // Ragged; a rank without tokens; one token in all; nobody has any.
        const bool hasNone = round == 5 || round % 4 == 1 ? rank != round % ranks || round == 5 : false;
        input.grow(hasNone ? 0 : round % 4 == 1 ? 1 : int(kMaxTokens));
        ASSERT_TRUE(sessions.step(rank, input.tokens, input.seq, input.pos, input.rows))
            << sessions.sessions[size_t(rank)].message;
        input.check(toy, sessions.logits[size_t(rank)]);
      });
    }
  }
}

/// Padding goes to positions 0 to T - 1, which must have room even where the cache is shorter than a step.
TEST(RankSessions, PaddingHasItsOwnSlot) {
  RankToy toy(2, true);
  toy.write();
  RankSessions sessions(toy);
  sessions.open([](int, moert_session_options &options) { options.context = 6; });
  size_t bytes = 0;
  moert_session_read(sessions.sessions[0].session, "kv", nullptr, 0, &bytes);
  EXPECT_EQ(bytes, 4u * (3 + 1) * size_t(kMaxTokens)) << "one slot more, and rows for a whole step";
  sessions.run([&](int rank) {
    if (rank == 0) {
      ASSERT_TRUE(sessions.step(0, {1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4}, {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1},
                                {0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5}, {5, 11}));
      EXPECT_FLOAT_EQ(sessions.logits[0][1], toy.expectedLogit({1, 2, 3, 4, 5, 6}, 1));
      EXPECT_FLOAT_EQ(sessions.logits[0][kVocab + 1], toy.expectedLogit({7, 0, 1, 2, 3, 4}, 1));
    } else {
      ASSERT_TRUE(sessions.step(1, {3}, {2}, {0}, {0})) << sessions.sessions[1].message;
      EXPECT_FLOAT_EQ(sessions.logits[1][1], toy.expectedLogit({3}, 1));
    }
  });
  // The caller's own limits are as before.
  sessions.run([&](int rank) {
    EXPECT_FALSE(sessions.step(rank, {1}, {3}, {0}, {0}));
    EXPECT_NE(sessions.sessions[size_t(rank)].message.find("sequence 3 at index 0 does not exist, the session has 3"),
              std::string::npos);
  });
  sessions.run([&](int rank) { EXPECT_FALSE(sessions.step(rank, {1}, {0}, {6}, {0})); });
}

TEST(RankSessions, WrongInputOfOneRankIsAnErrorOnAll) {
  RankToy toy(3, true);
  toy.write();
  RankSessions sessions(toy);
  sessions.open();
  sessions.run([&](int rank) {
    EXPECT_FALSE(sessions.step(rank, {rank == 1 ? 99 : 1}, {0}, {0}, {0}));
    const Loaded &session = sessions.sessions[size_t(rank)];
    EXPECT_EQ(session.code, MOERT_INVALID_ARGUMENT);
    EXPECT_EQ(session.message, std::string(rank == 1 ? "" : "rank 1 failed: ") +
                                   "token id 99 at index 0 is outside the vocabulary of 8 (0 to 7)" +
                                   (rank == 1 ? "" : "; no rank ran the step"));
  });
  sessions.run([&](int rank) {
    EXPECT_TRUE(sessions.step(rank, {1}, {0}, {0}, {0})) << sessions.sessions[size_t(rank)].message;
    EXPECT_FLOAT_EQ(sessions.logits[size_t(rank)][1], toy.expectedLogit({1}, 1));
  });
}

TEST(RankSessions, ReplicatedRanksMustBeGivenTheSame) {
  RankToy toy(2, false);
  toy.write();
  RankSessions sessions(toy);
  sessions.open();
  sessions.run([&](int rank) {
    EXPECT_FALSE(rank ? sessions.step(1, {1}, {0}, {0}, {0}) : sessions.step(0, {1, 2}, {0, 0}, {0, 1}, {1}));
    EXPECT_EQ(
        sessions.sessions[size_t(rank)].message,
        "ranks 0 and 1 were given different steps: entry 0 with 2 tokens and 1 rows, and entry 0 with 1 tokens and "
        "1 rows; no rank ran the step");
  });
}

TEST(RankSessions, SessionsMustBeTheSame) {
  RankToy toy(2, true);
  toy.write();
  auto refuses = [&](const std::string &part, const std::function<void(int, moert_session_options &)> &change) {
    RankSessions sessions(toy);
    sessions.open(change);
    for (const Loaded &session : sessions.sessions) {
      EXPECT_EQ(session.session, nullptr);
      EXPECT_NE(session.message.find(part), std::string::npos) << session.message;
    }
  };
  refuses("ranks 0 and 1 have different sessions: numbers of sequences 3 and 4",
          [](int rank, auto &options) { options.sequences = 3 + rank; });
  refuses("contexts 32 and 33", [](int rank, auto &options) { options.context = 32 + rank; });
  refuses("largest steps 16 and 15", [](int rank, auto &options) { options.max_tokens = 16 - rank; });
  refuses("was asked for, its group has 2", [](int, auto &options) { options.ranks = 3; });
  refuses("this process has ranks 0 to 1", [](int rank, auto &options) { options.rank = 2 + rank; });
  refuses("weights-of-rank-1", [](int rank, auto &options) { options.weights = rank ? "weights-of-rank-1" : nullptr; });
  // A group of another size than the package.
  RankSessions sessions(toy, 3);
  sessions.open();
  EXPECT_NE(sessions.sessions[2].message.find("was compiled for 2 ranks, this session is one of 3"), std::string::npos)
      << sessions.sessions[2].message;
  // A rank without a group.
  Loaded alone;
  alone.load(toy.package());
  moert_session_options options = defaultOptions();
  options.rank = 1;
  EXPECT_FALSE(alone.open(options));
  EXPECT_EQ(alone.message, "a session of rank 1 needs a group");
}

TEST(RankSessions, ProgramsMustBeTheSame) {
  RankToy toy(2, true), other(2, true);
  other.program.hint = toy.program.hint;
  toy.write();
  other.write();
  RankSessions sessions(toy);
  sessions.sessions[1].load(other.package());
  sessions.open();
  EXPECT_NE(sessions.sessions[0].message.find("ranks 0 and 1 have different sessions: programs with SHA-256 "),
            std::string::npos)
      << sessions.sessions[0].message;
}

/// Initializers that name rank or ranks have a result of their own on each rank, all others one for all; ranks that
/// compute at the same time may write the same file.
TEST(RankSessions, WeightsOfEachRankAreCachedApart) {
  constexpr int kRanks = 4;
  RankToy toy(kRanks, false);
  VariantSpec &v = toy.variant();
  // number(head, rank, ranks): what "logits" multiplies with tells the rank.
  InitializerSpec number;
  toy.program.tensors.push_back(
      Tensor(0xffffffffu, DType::F32, 1, toy.program.string("numbered"), 0, 4 * kVocab, kVocab, 0, 0));
  number.result = uint32_t(toy.program.tensors.size() - 1);
  number.key = std::string(64, 'b');
  number.firstCommand = addCommand(
      toy.program, v, CommandKind::Launch, "number", 11,
      {span(number.result, 0, 4 * kVocab, Access::Write), size(Dim::Rank), size(Dim::Ranks), constant(kVocab)});
  number.commandCount = 1;
  v.initializers.push_back(number);
  // And one that reads it, of each rank's own therefore too.
  InitializerSpec again = number;
  toy.program.tensors.push_back(
      Tensor(0xffffffffu, DType::F32, 1, toy.program.string("again"), 0, 4 * kVocab, kVocab, 0, 0));
  again.result = uint32_t(toy.program.tensors.size() - 1);
  again.key = std::string(64, 'c');
  again.firstCommand =
      addCommand(toy.program, v, CommandKind::Copy, "again", 0,
                 {span(again.result, 0, 4 * kVocab, Access::Write), span(number.result, 0, 4 * kVocab)});
  v.initializers.push_back(again);
  for (const StepVariant &step : v.steps) {
    v.operands[v.commands[step.first_command() + step.command_count() - 1].first_operand() + 2] = span(again.result);
  }
  toy.write();
  for (int round = 0; round < 6; ++round) {
    if (round % 2 == 0) {
      std::filesystem::remove_all(toy.cache());
    }
    RankSessions sessions(toy);
    sessions.open();
    sessions.run([&](int rank) {
      ASSERT_TRUE(sessions.step(rank, {1}, {0}, {0}, {0})) << sessions.sessions[size_t(rank)].message;
      EXPECT_FLOAT_EQ(sessions.logits[size_t(rank)][0], 2.0f * 3.0f * float(100 * kRanks + rank));
    });
    int files = 0;
    for (const auto &file : std::filesystem::directory_iterator(toy.cache())) {
      EXPECT_EQ(file.path().extension(), ".weight") << file.path();
      ++files;
    }
    EXPECT_EQ(files, 1 + 2 * kRanks);
    if (round % 2) {
      for (Loaded &session : sessions.sessions) {
        EXPECT_NE(session.report().find("\"cache_hits\":3,\"computed\":0"), std::string::npos) << session.report();
      }
    }
  }
}

/// Spans and tables per rank in an initializer: each rank folds its own half of the embedding.
TEST(RankSessions, InitializersReadEachRanksPart) {
  RankToy toy(2, false);
  VariantSpec &v = toy.variant();
  toy.program.tensors.push_back(Tensor(0xffffffffu, DType::F32, 1, toy.program.string("half"), 0, 16, 4, 0, 0));
  InitializerSpec half;
  half.result = uint32_t(toy.program.tensors.size() - 1);
  half.key = std::string(64, 'd');
  half.firstCommand = addCommand(toy.program, v, CommandKind::Copy, "half", 0,
                                 {span(half.result, 0, 16, Access::Write), span(kEmbed, 0, 16, Access::Read, 16)});
  half.commandCount = 1;
  v.initializers.push_back(half);
  for (const StepVariant &step : v.steps) {
    v.operands[v.commands[step.first_command()].first_operand() + 1] = span(half.result, 0, 16);
  }
  toy.write();
  RankSessions sessions(toy);
  sessions.open();
  sessions.run([&](int rank) {
    ASSERT_TRUE(sessions.step(rank, {1, 6}, {0, 0}, {0, 1}, {1})) << sessions.sessions[size_t(rank)].message;
    EXPECT_FLOAT_EQ(sessions.logits[size_t(rank)][1], toy.expectedLogit({1, 6}, 1));
  });
}

TEST(RankSessions, AnExchangeOfRows) {
  RankToy toy(2, true);
  toy.exchangeRows();
  toy.write();
  RankSessions sessions(toy);
  sessions.open();
  sessions.run([&](int rank) {
    ASSERT_TRUE(sessions.step(rank, {rank, rank + 4}, {0, 0}, {0, 1}, {})) << sessions.sessions[size_t(rank)].message;
    float rows[2] = {};
    int32_t ones[2] = {};
    moert_session_read(sessions.sessions[size_t(rank)].session, "received", rows, 8, nullptr);
    moert_session_read(sessions.sessions[size_t(rank)].session, "counts", ones, 8, nullptr);
    // Row `rank` of each: embed[token] is token + 1.
    EXPECT_EQ(rows[0], float(1 + 4 * rank));
    EXPECT_EQ(rows[1], float(2 + 4 * rank));
    EXPECT_EQ(ones[0] + ones[1], 2);
  });
  // One token is one row too few.
  sessions.run([&](int rank) {
    EXPECT_FALSE(sessions.step(rank, {rank}, {0}, {0}, {}));
    EXPECT_NE(sessions.sessions[size_t(rank)].message.find("collective 'swap' sends "), std::string::npos)
        << sessions.sessions[size_t(rank)].message;
  });
}

TEST(RankSessions, ARankThatDoesNotStepIsNamed) {
  RankToy toy(4, true);
  toy.write();
  RankSessions sessions(toy);
  sessions.open([](int, moert_session_options &options) { options.deadline_seconds = 0.5; });
  const auto begin = std::chrono::steady_clock::now();
  sessions.run([&](int rank) {
    if (rank == 2) {
      return;
    }
    EXPECT_FALSE(sessions.step(rank, {1}, {0}, {0}, {0}));
    const Loaded &session = sessions.sessions[size_t(rank)];
    EXPECT_EQ(session.code, MOERT_DEADLINE);
    EXPECT_EQ(session.message,
              "rank 2 did not reach the start of a step within 0.5 s; the session cannot run another step");
    EXPECT_FALSE(sessions.step(rank, {1}, {0}, {0}, {0}));
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

/// A kernel of rank 1 that hangs: rank 1 says so itself, or the others miss it first.
TEST(RankSessions, ARankThatHangsInAKernelIsNamed) {
  RankToy toy(3, true);
  VariantSpec &v = toy.variant();
  v.buffers.push_back(Buffer(BufferKind::State, toy.program.string("flags"), 64, 0, test::extent(16)));
  const auto flags = uint32_t(v.buffers.size() - 1);
  const StepVariant step = v.steps[0];
  const auto begin = uint32_t(v.commands.size());
  // Rank r launches r % 2 workgroups of what hangs, twice as many to have one on a worker.
  addCommand(toy.program, v, CommandKind::Launch, "mark", 6, {slice(flags, Access::ReadWrite, test::extent(16))});
  static std::atomic<uint32_t> isOver;
  isOver = 0;
  addCommand(toy.program, v, CommandKind::Launch, "hang", 5,
             {slice(flags, Access::ReadWrite, test::extent(16)), constant(uintptr_t(&isOver))},
             Grid(test::extent(0, 0, 4), 1, 0, 1));
  for (uint32_t c = 0; c < step.command_count(); ++c) {
    const Command command = v.commands[step.first_command() + c];
    v.commands.push_back(command);
  }
  v.steps = {StepVariant(1, kMaxTokens, begin, 2 + step.command_count())};
  toy.write();
  RankSessions sessions(toy);
  sessions.open([](int, moert_session_options &options) {
    options.deadline_seconds = 0.3;
    options.threads = 2;
  });
  sessions.run([&](int rank) {
    // The grid of "hang" grows with M: only rank 1 asks for logits.
    EXPECT_FALSE(sessions.step(rank, {1}, {0}, {0}, rank == 1 ? Ids{0} : Ids{}));
    const std::string &message = sessions.sessions[size_t(rank)].message;
    const bool isNamed = message.find("rank 1 did not reach collective 'gather ids' within 0.3 s") == 0 ||
                         message.find("rank 1 failed: command ") == 0 ||
                         (rank == 1 && message.find("'hang' was not done within 0.3") != std::string::npos);
    EXPECT_TRUE(isNamed) << message;
  });
  isOver = 1; // before the sessions end, which then leave nothing behind
}

TEST(RankSessions, RanksOfAProgram) {
  RankToy toy(3, true);
  toy.write();
  Loaded loaded;
  ASSERT_TRUE(loaded.load(toy.package()));
  int ranks = 0, distributed = -1;
  EXPECT_EQ(moert_program_get_ranks(loaded.program, &ranks, &distributed), nullptr);
  EXPECT_EQ(ranks, 3);
  EXPECT_EQ(distributed, 1);
  EXPECT_EQ(moert_program_get_ranks(loaded.program, nullptr, nullptr), nullptr);
  moert_status *status = moert_program_get_ranks(nullptr, &ranks, &distributed);
  EXPECT_EQ(moert_status_code(status), MOERT_INVALID_ARGUMENT);
  moert_status_free(status);
}

TEST(RankGroups, Arguments) {
  moert_group *group = nullptr;
  auto expect = [](moert_status *status, const std::string &part) {
    EXPECT_NE(std::string(moert_status_message(status)).find(part), std::string::npos) << moert_status_message(status);
    EXPECT_NE(moert_status_code(status), 0);
    moert_status_free(status);
  };
  expect(moert_group_create_threads(2, nullptr), "out is NULL");
  expect(moert_group_create_threads(0, &group), "a group of 0 thread ranks");
  EXPECT_EQ(group, nullptr);
  expect(moert_group_create_processes("/absent/plugin.so", &group), "/absent/plugin.so: cannot be opened (");
  ASSERT_EQ(moert_group_create_threads(2, &group), nullptr);
  EXPECT_EQ(moert_group_ranks(group), 2);
  EXPECT_EQ(moert_group_rank(group), -1);
  char byte = 0;
  expect(moert_group_send(group, 0, 0, &byte, 1, 1), "ranks 0 and 0 of 2");
  expect(moert_group_send(group, 0, 2, &byte, 1, 1), "ranks 0 and 2 of 2");
  expect(moert_group_receive(group, 5, 0, &byte, 1, 1), "ranks 5 and 0 of 2");
  expect(moert_group_receive(group, 0, 1, nullptr, 1, 1), "data is NULL");
  expect(moert_group_receive(group, 0, 1, &byte, 1, 0), "a deadline of");
  expect(moert_group_receive(group, 0, 1, &byte, 1, 0.01), "rank 1 sent nothing to rank 0 within 0.01 s");
  moert_group_abort(group, 1, "it is over");
  expect(moert_group_send(group, 1, 0, &byte, 1, 1), "rank 1 sent nothing to rank 0 within 0.01 s");
  moert_group_free(group);
  moert_group_free(nullptr);
}

} // namespace
