// The thread pool: every item exactly once, with any number of threads, after sleeps, and beyond a deadline. Meant to
// run under ThreadSanitizer too.
#include "runtime/backends/cpu/ThreadPool.h"

#include <chrono>
#include <gtest/gtest.h>
#include <thread>

using namespace moert;
using namespace moert::cpu;

namespace {

struct Tally {
  std::vector<int> visits; ///< plain on purpose: the pool must order these accesses
  std::vector<std::atomic<int>> perWorker;
  explicit Tally(size_t workers) : perWorker(workers) {}
};

void count(const void *context, int64_t begin, int64_t end, int worker) {
  auto &tally = *const_cast<Tally *>(static_cast<const Tally *>(context));
  for (int64_t i = begin; i < end; ++i) {
    ++tally.visits[size_t(i)];
  }
  tally.perWorker[size_t(worker)] += int(end - begin);
}

std::unique_ptr<ThreadPool> make(int threads, bool pin = false, double deadline = 30) {
  auto pool = ThreadPool::create(threads, pin, deadline);
  EXPECT_TRUE(pool.ok()) << pool.status().message();
  return std::move(*pool);
}

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EveryItemOnce) {
  auto pool = make(GetParam());
  ASSERT_EQ(pool->threads(), GetParam());
  Tally tally{size_t(GetParam())};
  for (int round = 0; round < 300; ++round) {
    int64_t items = round % 97;
    tally.visits.assign(size_t(items), 0);
    ASSERT_TRUE(pool->run(count, &tally, items));
    for (int64_t i = 0; i < items; ++i) {
      ASSERT_EQ(tally.visits[size_t(i)], 1) << "round " << round << ", item " << i;
    }
  }
}

/// What one job writes, the next one reads on other workers: the barrier orders it.
TEST_P(ThreadPoolTest, JobsFollowEachOther) {
  auto pool = make(GetParam());
  struct Step {
    std::vector<int> from, to;
  } step;
  constexpr int items = 64, rounds = 200;
  step.from.assign(items, 0);
  step.to.assign(items, 0);
  for (int round = 0; round < rounds; ++round) {
    auto shift = [](const void *context, int64_t begin, int64_t end, int) {
      auto &s = *const_cast<Step *>(static_cast<const Step *>(context));
      for (int64_t i = begin; i < end; ++i) {
        s.to[size_t(i)] = s.from[size_t(i + 1) % items] + 1;
      }
    };
    ASSERT_TRUE(pool->run(shift, &step, items));
    std::swap(step.from, step.to);
  }
  for (int value : step.from) {
    EXPECT_EQ(value, rounds);
  }
}

TEST_P(ThreadPoolTest, WorksAfterSleeping) {
  auto pool = make(GetParam());
  Tally tally{size_t(GetParam())};
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    tally.visits.assign(33, 0);
    ASSERT_TRUE(pool->run(count, &tally, 33));
    EXPECT_EQ(tally.visits, std::vector<int>(33, 1));
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8, 32));

TEST(ThreadPool, WorkIsShared) {
  auto pool = make(2);
  Tally tally(2);
  tally.visits.assign(64, 0);
  // Who has a piece keeps it until the other has one, too; not for ever, so that the test ends if it never has.
  auto untilBoth = [](const void *context, int64_t begin, int64_t end, int worker) {
    count(context, begin, end, worker);
    const auto &other = static_cast<const Tally *>(context)->perWorker[size_t(1 - worker)];
    const auto last = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (other == 0 && std::chrono::steady_clock::now() < last) {
      std::this_thread::yield();
    }
  };
  ASSERT_TRUE(pool->run(untilBoth, &tally, 64));
  EXPECT_GT(tally.perWorker[0], 0);
  EXPECT_GT(tally.perWorker[1], 0);
}

TEST(ThreadPool, PinnedWorkersWork) {
  auto pool = make(0, true);
  EXPECT_EQ(pool->threads(), availableCores());
  Tally tally(size_t(pool->threads()));
  tally.visits.assign(100, 0);
  ASSERT_TRUE(pool->run(count, &tally, 100));
  EXPECT_EQ(tally.visits, std::vector<int>(100, 1));
}

TEST(ThreadPool, MissedDeadline) {
  auto pool = make(2, false, 0.05);
  std::atomic<bool> release{false};
  struct Context {
    std::atomic<bool> *release, started{false};
  } context{&release};
  auto hang = [](const void *argument, int64_t, int64_t, int worker) {
    auto &c = *const_cast<Context *>(static_cast<const Context *>(argument));
    if (worker == 0) {
      while (!c.started) {
        std::this_thread::yield();
      }
      return;
    }
    c.started = true;
    while (!*c.release) {
      std::this_thread::yield();
    }
  };
  EXPECT_FALSE(pool->run(hang, &context, 64));
  EXPECT_FALSE(pool->run(hang, &context, 64)); // stuck for good
  EXPECT_FALSE(pool->waitIdle());
  release = true;
  EXPECT_TRUE(pool->waitIdle());
}

TEST(ThreadPool, NumberOfThreadsIsChecked) {
  EXPECT_EQ(ThreadPool::create(-1, false, 1).status().code(), Code::InvalidArgument);
  EXPECT_EQ(ThreadPool::create(ThreadPool::kMaxThreads + 1, false, 1).status().code(), Code::InvalidArgument);
  EXPECT_GE(availableCores(), 1);
}

TEST(ThreadPool, MadeAndDestroyedOften) {
  for (int i = 0; i < 50; ++i) {
    auto pool = make(1 + i % 5);
    Tally tally(5);
    tally.visits.assign(7, 0);
    if (i % 3) {
      ASSERT_TRUE(pool->run(count, &tally, 7));
    }
  }
}

} // namespace
