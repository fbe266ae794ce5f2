//===- SmallReadersTest.cpp - Sampling, arrays, ids and configurations ----===//
#include "runtime/readers/File.h"
#include "runtime/readers/GenerationConfig.h"
#include "runtime/readers/Json.h"
#include "runtime/readers/Npy.h"
#include "runtime/readers/Sampling.h"

#include "TempFolder.h"

#include <cmath>
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace moert;
using namespace moert::readers;

namespace {

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

//===----------------------------------------------------------------------===//
// Sampling
//===----------------------------------------------------------------------===//

TEST(Sampling, GreedyTakesTheLowestOfEqualOnes) {
  std::vector<float> logits = {-1, 3, 2, 3};
  EXPECT_EQ(*greedyToken(logits.data(), 4), 1);
  logits = {-INFINITY, -INFINITY};
  EXPECT_EQ(*greedyToken(logits.data(), 2), 0);
  logits = {1, NAN};
  EXPECT_SAYS(greedyToken(logits.data(), 2).status().message(), "the logit of token 1 is not a number");
}

/// How often each token is drawn.
std::vector<int> histogram(const SamplingOptions &options, const std::vector<float> &logits, int draws) {
  Sampler sampler(options, 0);
  std::vector<int> counts(logits.size());
  for (int i = 0; i < draws; ++i) {
    ++counts[static_cast<size_t>(*sampler.next(logits.data(), int64_t(logits.size())))];
  }
  return counts;
}

// Probabilities 1/2, 1/4, 1/8, 1/8; with 40,000 draws a share is within 0.012 with probability above 0.999999.
TEST(Sampling, FollowsTheDistribution) {
  std::vector<float> logits;
  for (double p : {0.125, 0.5, 0.125, 0.25}) {
    logits.push_back(float(std::log(p)));
  }
  auto expectShares = [&](const SamplingOptions &options, const std::vector<double> &shares) {
    std::vector<int> counts = histogram(options, logits, 40000);
    for (size_t i = 0; i < shares.size(); ++i) {
      EXPECT_NEAR(counts[i] / 40000.0, shares[i], shares[i] == 0 ? 0 : 0.012) << i;
    }
  };
  expectShares({1, 0, 1, 7}, {0.125, 0.5, 0.125, 0.25});
  expectShares({0.5, 0, 1, 7}, {1 / 22.0, 16 / 22.0, 1 / 22.0, 4 / 22.0});
  expectShares({1, 2, 1, 7}, {0, 2 / 3.0, 0, 1 / 3.0});
  expectShares({1, 3, 1, 7}, {1 / 7.0, 4 / 7.0, 0, 2 / 7.0}); // Tokens 0 and 2 are equal: the lower id stays.
  expectShares({1, 0, 0.5, 7}, {0, 1, 0, 0});
  expectShares({1, 0, 0.6, 7}, {0, 2 / 3.0, 0, 1 / 3.0});
  expectShares({1, 0, 1e-9, 7}, {0, 1, 0, 0});
  expectShares({0, 0, 1, 7}, {0, 1, 0, 0});
}

TEST(Sampling, SeedAndSequenceDecide) {
  std::vector<float> logits(1000, 0.0f);
  auto draws = [&](uint64_t seed, uint64_t sequence) {
    Sampler sampler({1, 0, 1, seed}, sequence);
    std::vector<int32_t> ids;
    for (int i = 0; i < 8; ++i) {
      ids.push_back(*sampler.next(logits.data(), 1000));
    }
    return ids;
  };
  EXPECT_EQ(draws(1, 0), draws(1, 0));
  EXPECT_NE(draws(1, 0), draws(2, 0));
  EXPECT_NE(draws(1, 0), draws(1, 1));
  EXPECT_NE(draws(0, 1), draws(1, 0));
  // From the generator's definition in Python: a change of the generator would change everybody's texts.
  EXPECT_EQ(draws(42, 0), (std::vector<int32_t>{101, 368, 765, 522, 622, 959, 477, 135}));
}

TEST(Sampling, OptionsOutOfRange) {
  EXPECT_SAYS(checkSampling({-1, 0, 1, 0}).message(), "temperature");
  EXPECT_SAYS(checkSampling({NAN, 0, 1, 0}).message(), "temperature");
  EXPECT_SAYS(checkSampling({1, -1, 1, 0}).message(), "top-k -1");
  EXPECT_SAYS(checkSampling({1, 0, 0, 0}).message(), "top-p");
  EXPECT_SAYS(checkSampling({1, 0, 1.5, 0}).message(), "top-p");
  EXPECT_TRUE(checkSampling({0.7, 40, 0.9, 0}).ok());
}

//===----------------------------------------------------------------------===//
// Npy
//===----------------------------------------------------------------------===//

TEST(Npy, RoundTrip) {
  TempFolder folder;
  for (const std::vector<int64_t> &shape : {std::vector<int64_t>{}, {5}, {0, 7}, {3, 4}, {2, 3, 2}}) {
    int64_t elements = 1;
    for (int64_t dim : shape) {
      elements *= dim;
    }
    std::vector<float> values;
    for (int64_t i = 0; i < elements; ++i) {
      values.push_back(float(i) - 1.5f);
    }
    Result<NpyWriter> writer = NpyWriter::create(folder.path("x.npy"), shape);
    ASSERT_TRUE(writer.ok());
    int64_t half = elements / 2; // The second half first.
    ASSERT_TRUE(writer->put(half, values.data() + half, elements - half).ok());
    ASSERT_TRUE(writer->put(0, values.data(), half).ok());
    EXPECT_FALSE(writer->put(elements, values.data(), 1).ok());
    EXPECT_FALSE(exists(folder.path("x.npy"))) << "visible before it is whole";
    ASSERT_TRUE(writer->finish().ok());
    Result<NpyArray> array = readNpy(folder.path("x.npy"));
    ASSERT_TRUE(array.ok()) << array.status().message();
    EXPECT_EQ(array->shape, shape);
    EXPECT_EQ(array->values, values);
    std::filesystem::remove(folder.path("x.npy"));
  }
}

// The bytes that numpy.save writes for an array of shape (2, 1).
TEST(Npy, HeaderOfNumpy) {
  TempFolder folder;
  Result<NpyWriter> writer = NpyWriter::create(folder.path("x.npy"), {2, 1});
  float values[2] = {1, 2};
  ASSERT_TRUE(writer->put(0, values, 2).ok());
  ASSERT_TRUE(writer->finish().ok());
  std::string bytes = *readWholeFile(folder.path("x.npy"), 1 << 20);
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }";
  EXPECT_EQ(bytes.size(), 128u + 8);
  EXPECT_EQ(bytes.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_EQ(bytes.substr(10, header.size()), header);
  EXPECT_EQ(bytes[127], '\n');
}

TEST(Npy, NothingHalfWritten) {
  TempFolder folder;
  {
    Result<NpyWriter> writer = NpyWriter::create(folder.path("x.npy"), {10});
    float value = 1;
    ASSERT_TRUE(writer->put(0, &value, 1).ok());
    EXPECT_SAYS(writer->finish().message(), "9 elements are missing");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  // A disk that is full after 4 KiB.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before, small;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  small = before;
  small.rlim_cur = 4096;
  folder.write("y.npy", "the old file");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  {
    Result<NpyWriter> writer = NpyWriter::create(folder.path("y.npy"), {10000});
    std::vector<float> values(10000);
    EXPECT_SAYS(writer->put(0, values.data(), 10000).message(), "y.npy: cannot write");
  }
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(*readWholeFile(folder.path("y.npy"), 100), "the old file");
  EXPECT_SAYS(NpyWriter::create(folder.path("no/such/x.npy"), {1}).status().message(), "cannot create");
  EXPECT_FALSE(NpyWriter::create(folder.path("z.npy"), {1ll << 40, 1ll << 40}).ok());
}

// A rename would turn a device or a pipe into a file, and a link into a copy.
TEST(Npy, LinksAndPipesStay) {
  TempFolder folder;
  ASSERT_EQ(::mkfifo(folder.path("pipe").c_str(), 0600), 0);
  int reader = ::open(folder.path("pipe").c_str(), O_RDWR | O_NONBLOCK);
  EXPECT_SAYS(NpyWriter::create(folder.path("pipe"), {0}).status().message(), "pipe: cannot write");
  EXPECT_TRUE(std::filesystem::is_fifo(folder.path("pipe")));
  ::close(reader);
  folder.write("x.npy", "old");
  std::filesystem::create_symlink("x.npy", folder.path("link.npy"));
  Result<NpyWriter> writer = NpyWriter::create(folder.path("link.npy"), {0});
  ASSERT_TRUE(writer.ok() && writer->finish().ok());
  EXPECT_TRUE(std::filesystem::is_symlink(folder.path("link.npy")));
  EXPECT_EQ(readNpy(folder.path("x.npy"))->shape, std::vector<int64_t>{0});
}

TEST(Npy, WhatIsNoF32Array) {
  TempFolder folder;
  auto verdict = [&](const std::string &bytes) { return readNpy(folder.write("x.npy", bytes)).status().message(); };
  EXPECT_SAYS(verdict("abc"), "too short");
  EXPECT_SAYS(verdict("0123456789abc"), "not a .npy file");
  std::string start("\x93NUMPY\x01\x00", 8);
  EXPECT_SAYS(verdict(start + std::string("\xff\xff", 2)), "ends at byte");
  EXPECT_SAYS(verdict(start + std::string("\x05\x00", 2) + "{'a'}"), "only C-ordered f32");
  std::string shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }";
  EXPECT_SAYS(verdict(start + char(shape.size()) + '\0' + shape), "overflows");
  shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
  EXPECT_SAYS(verdict(start + char(shape.size()) + '\0' + shape + "12345678"),
              "3 elements of 4 bytes, but the file holds 8 bytes");
}

//===----------------------------------------------------------------------===//
// Configurations and ids
//===----------------------------------------------------------------------===//

TEST(GenerationConfig, FirstFileWins) {
  TempFolder folder;
  EXPECT_TRUE(readGenerationConfig(folder.path())->eos.empty());
  folder.write("config.json", R"({"eos_token_id": 7, "bos_token_id": 1})");
  EXPECT_EQ(readGenerationConfig(folder.path())->eos, (std::vector<int32_t>{7}));
  folder.write("generation_config.json", R"({"eos_token_id": [8, 9], "bos_token_id": null})");
  Result<GenerationConfig> config = readGenerationConfig(folder.path());
  EXPECT_EQ(config->eos, (std::vector<int32_t>{8, 9}));
  EXPECT_EQ(config->bos, (std::vector<int32_t>{1}));
  EXPECT_TRUE(config->ends(9));
  EXPECT_FALSE(config->ends(7));
  folder.write("generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_SAYS(readGenerationConfig(folder.path()).status().message(), "eos_token_id: must be an integer, not string");
  folder.write("generation_config.json", "{}");
  folder.write("config.json", R"({"text_config": {"eos_token_id": 5}})");
  EXPECT_EQ(readGenerationConfig(folder.path())->eos, (std::vector<int32_t>{5}));
}

TEST(IdsFile, ListsOfIds) {
  TempFolder folder;
  auto read = [&](const std::string &text) { return readIdsFile(folder.write("ids.json", text)); };
  EXPECT_EQ(*read("[[1, 2], [], [3]]"), (std::vector<std::vector<int32_t>>{{1, 2}, {}, {3}}));
  EXPECT_SAYS(read("[1, 2]").status().message(), "ids.json: 0: must be a list of token ids");
  EXPECT_SAYS(read("[[1, -2]]").status().message(), "0.1: -2 is not between 0 and 2147483647");
  EXPECT_SAYS(read("[[1.5]]").status().message(), "must be an integer");
  EXPECT_SAYS(read("[[18446744073709551615]]").status().message(), "is not between");
  EXPECT_SAYS(read("{}").status().message(), "must be a list, not object");
  EXPECT_SAYS(read("[[1]").status().message(), "not valid JSON");
}

} // namespace
