// The checkpoint and the initializers: identity of files, misaligned tensors, the disk cache in every state.
#include "runtime/format/Checksum.h"
#include "test/runtime/core/TestPackage.h"

#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace moert;
using namespace moert::test;

namespace {

class WeightsTest : public testing::Test {
protected:
  bool open(const moert_session_options &options = defaultOptions()) {
    toy.write();
    return loaded.load(toy.package()) && loaded.open(options);
  }
  void expectRefused(moert_code code, const std::string &part,
                     const moert_session_options &options = defaultOptions()) {
    EXPECT_FALSE(open(options)) << "expected: " << part;
    EXPECT_EQ(loaded.code, code) << loaded.message;
    EXPECT_NE(loaded.message.find(part), std::string::npos) << loaded.message;
  }
  /// Opens and runs a step, whose logits must be right, and expects `part` in the report.
  void expectRuns(const std::string &part, const moert_session_options &options = defaultOptions()) {
    ASSERT_TRUE(open(options)) << loaded.message;
    std::string report = loaded.report();
    EXPECT_NE(report.find(part), std::string::npos) << report << "\nexpected: " << part;
    std::vector<float> logits;
    ASSERT_TRUE(loaded.step({3, 1}, {0, 0}, {0, 1}, {1}, logits)) << loaded.message;
    for (int64_t v = 0; v < kVocab; ++v) {
      EXPECT_EQ(logits[size_t(v)], toy.expected({3, 1}, v)) << v;
    }
  }
  std::string weights() const { return toy.checkpoint() + "/model.safetensors"; }
  /// The one file in the cache.
  std::string cacheFile() const {
    std::string found;
    for (const auto &entry : std::filesystem::directory_iterator(toy.cache())) {
      EXPECT_TRUE(found.empty()) << entry.path();
      found = entry.path();
    }
    return found;
  }
  /// Adds a tensor that an initializer computes from another one's result: 2 * head.folded + bias.
  uint32_t addTwice() {
    VariantSpec &v = toy.variant();
    const auto twice = uint32_t(toy.program.tensors.size());
    toy.program.tensors.push_back(toy.program.tensors[kHead]);
    InitializerSpec next;
    next.result = twice;
    next.key = std::string(64, 'c');
    next.firstCommand = uint32_t(v.commands.size());
    addCommand(toy.program, v, format::CommandKind::Copy, "fetch", 0,
               {span(twice, 0, 4 * kVocab, format::Access::Write), span(kHead, 0, 4 * kVocab)});
    addCommand(toy.program, v, format::CommandKind::Launch, "fold", 4,
               {span(twice, 0, 0, format::Access::ReadWrite), span(kBias), constant(kVocab)});
    next.commandCount = 2;
    v.initializers.push_back(next);
    return twice;
  }

  Toy toy;
  Loaded loaded;
};

const char kComputed[] = "\"cache_hits\":0,\"computed\":1,\"stored\":1";
const char kHit[] = "\"cache_hits\":1,\"computed\":0,\"stored\":0";
const char kUnstored[] = "\"cache_hits\":0,\"computed\":1,\"stored\":0";

TEST_F(WeightsTest, WhereTheyAre) {
  expectRuns("\"notes\":[\"1 tensors (32 bytes) are not aligned");
  std::filesystem::rename(toy.checkpoint(), toy.checkpoint() + "-moved");
  expectRefused(MOERT_NOT_FOUND, "the package looks for its weights where they were when it was compiled: pass "
                                 "--weights DIR");
  moert_session_options options = defaultOptions();
  std::string moved = toy.checkpoint() + "-moved";
  options.weights = moved.c_str();
  expectRuns("checkpoint-moved", options);
  options.weights = "/nonexistent";
  expectRefused(MOERT_NOT_FOUND,
                "/nonexistent/model.safetensors: cannot open: No such file or directory; pass the "
                "checkpoint's directory with --weights",
                options);
  toy.program.hint.clear();
  expectRefused(MOERT_NOT_FOUND, "does not record where its weights are: pass --weights DIR");
}

TEST_F(WeightsTest, OtherSize) {
  std::ofstream(weights(), std::ios::app) << "x";
  expectRefused(MOERT_CORRUPT, "this is not the checkpoint that the package was compiled from");
  std::filesystem::resize_file(weights(), 5);
  expectRefused(MOERT_CORRUPT, "has 5 bytes, the package was compiled with");
  std::filesystem::remove(weights());
  std::filesystem::create_directory(weights());
  expectRefused(MOERT_IO, "not a regular file");
}

TEST_F(WeightsTest, OtherHeader) {
  std::string contents = readFile(weights());
  contents[12] ^= 1;
  test::writeFile(weights(), contents);
  expectRefused(MOERT_CORRUPT, "its header has SHA-256 ");
  contents[7] = 0x7f; // a header of 2^63 bytes
  test::writeFile(weights(), contents);
  expectRefused(MOERT_CORRUPT, "has a header of 915131444281684");
}

TEST_F(WeightsTest, HeaderOfAnyFormat) {
  // The first bytes, as many as the package says, whatever they mean.
  std::string contents = readFile(weights());
  toy.program.files[0].headerBytes = 20;
  const auto digest = moert::format::sha256(contents.data(), 20);
  toy.program.files[0].headerSha256.assign(digest.begin(), digest.end());
  expectRuns(kComputed);
  contents[19] ^= 1;
  test::writeFile(weights(), contents);
  expectRefused(MOERT_CORRUPT, "its header has SHA-256 ");
}

TEST_F(WeightsTest, OtherTimeIsANote) {
  toy.program.files[0].mtimeNs += 1;
  expectRuns("was written at another time than when the package was compiled");
}

TEST_F(WeightsTest, WholeFilesOnDemand) {
  moert_session_options options = defaultOptions();
  options.verify_weights = 1;
  static uint64_t lastDone, lastTotal;
  options.progress = [](void *user, const char *stage, uint64_t done, uint64_t total) {
    if (std::string(stage) == "verify weights") {
      lastDone = done, lastTotal = total;
    }
  };
  std::string digest;
  for (unsigned char c : toy.program.files[0].sha256) {
    char hex[3];
    snprintf(hex, sizeof(hex), "%02x", c);
    digest += hex;
  }
  expectRuns("\"weight_sha256\":[\"" + digest + "\"]", options);
  EXPECT_EQ(lastDone, toy.program.files[0].size);
  EXPECT_EQ(lastTotal, toy.program.files[0].size);
  std::string contents = readFile(weights());
  contents.back() ^= 1;
  test::writeFile(weights(), contents);
  expectRefused(MOERT_CORRUPT, "the weights were changed or damaged; fetch the checkpoint again", options);
}

TEST_F(WeightsTest, ResultsAreCached) {
  expectRuns(kComputed);
  expectRuns(kHit);
  cacheFile();
}

/// A result that is what it was computed from is neither kept nor stored: 2 * head + bias is head where both are 0.
TEST_F(WeightsTest, UnchangedResultsAreTheirSource) {
  expectRuns("\"unchanged\":0");
  std::filesystem::remove_all(toy.cache());
  toy.zeroHead = true;
  toy.writeCheckpoint(1);
  const std::string unchanged = "\"stored\":1,\"unchanged\":1";
  expectRuns(unchanged);
  const std::string path = cacheFile(), intact = readFile(path);
  EXPECT_EQ(intact.size(), 4096u);
  expectRuns("\"initializers\":{\"count\":1,\"bytes\":0,\"cache_hits\":1,\"computed\":0,\"stored\":0,\"unchanged\":1");
  for (size_t i = 0; i < 96; ++i) {
    std::string damaged = intact;
    damaged[i] ^= 0x10;
    test::writeFile(path, damaged);
    expectRuns(unchanged);
    EXPECT_EQ(readFile(path), intact) << i;
  }
  moert_session_options options = defaultOptions();
  options.cache = "/nonexistent/cache";
  expectRuns("\"stored\":0,\"unchanged\":1", options);
}

/// A cache file damaged at any byte, or cut short at any length, is computed again and stored anew.
TEST_F(WeightsTest, DamagedCacheIsRebuilt) {
  expectRuns(kComputed);
  const std::string path = cacheFile(), intact = readFile(path);
  ASSERT_EQ(intact.size(), 4096u + 4 * kVocab);
  for (size_t i = 0; i < intact.size(); i += i < 96 || i >= 4090 ? 1 : 499) {
    if (i >= 80 && i < 4096) {
      continue; // padding, of no meaning
    }
    std::string damaged = intact;
    damaged[i] ^= 0x10;
    test::writeFile(path, damaged);
    expectRuns(kComputed);
    EXPECT_EQ(readFile(path), intact) << i;
  }
  for (size_t size : {0, 1, 79, 80, 4095, 4096, 4097, 4127}) {
    test::writeFile(path, intact.substr(0, size));
    expectRuns("cache file has the wrong size, computed again");
    EXPECT_EQ(readFile(path), intact) << size;
  }
}

/// A process that died while writing leaves a temporary file, which is no cache file.
TEST_F(WeightsTest, UnfinishedCacheFileIsIgnored) {
  std::filesystem::create_directories(toy.cache());
  test::writeFile(toy.cache() + "/abc.weight.tmp-1-0", "half");
  expectRuns(kComputed);
  expectRuns(kHit);
}

TEST_F(WeightsTest, CacheThatCannotBeWritten) {
  // A file where the folder should be: nothing can be made below it, whoever runs this.
  test::writeFile(toy.cache(), "");
  expectRuns(kUnstored);
  std::string report = loaded.report();
  EXPECT_NE(report.find("stay in memory and are not cached"), std::string::npos) << report;
  moert_session_options options = defaultOptions();
  options.cache = "/nonexistent/cache";
  expectRuns("/nonexistent/cache: cannot be made (No such file or directory); computed weights are not cached",
             options);
  if (geteuid() != 0) { // root writes anyway
    std::filesystem::remove(toy.cache());
    std::filesystem::create_directory(toy.cache());
    chmod(toy.cache().c_str(), 0555);
    expectRuns(kUnstored);
    chmod(toy.cache().c_str(), 0755);
  }
}

/// Writing stops halfway (a limit on file sizes stands for a full disk): the result is used from memory, and neither a
/// cache file nor a temporary one is left.
TEST_F(WeightsTest, CacheWriteFailsHalfway) {
  toy.write();
  ASSERT_TRUE(loaded.load(toy.package())) << loaded.message;
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit small = {4100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  bool opened = loaded.open(defaultOptions());
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  ASSERT_TRUE(opened) << loaded.message;
  std::string report = loaded.report();
  EXPECT_NE(report.find(kUnstored), std::string::npos) << report;
  EXPECT_NE(report.find("cannot write: File too large"), std::string::npos) << report;
  EXPECT_TRUE(std::filesystem::is_empty(toy.cache()));
}

TEST_F(WeightsTest, AnotherCacheFolder) {
  std::string elsewhere = toy.package() + "/elsewhere";
  moert_session_options options = defaultOptions();
  options.cache = elsewhere.c_str();
  expectRuns(kComputed, options);
  EXPECT_FALSE(std::filesystem::exists(toy.cache()));
  expectRuns(kHit, options);
}

/// Weights of the same shapes and header but other values must not meet a stale result, whatever the times say.
TEST_F(WeightsTest, OtherWeightsOtherKey) {
  expectRuns(kComputed);
  std::string contents = readFile(weights());
  int64_t before = toy.program.files[0].mtimeNs;
  contents[contents.size() - 1] ^= 0x40; // the last element of the bias
  test::writeFile(weights(), contents);
  timespec times[2] = {{before / 1000000000, before % 1000000000}, {before / 1000000000, before % 1000000000}};
  ASSERT_EQ(utimensat(AT_FDCWD, weights().c_str(), times, 0), 0);
  ASSERT_TRUE(open()) << loaded.message;
  EXPECT_NE(loaded.report().find(kComputed), std::string::npos) << loaded.report();
}

TEST_F(WeightsTest, OtherProgramKeyOtherKey) {
  expectRuns(kComputed);
  toy.variant().initializers[0].key = std::string(64, 'b');
  expectRuns(kComputed);
}

TEST_F(WeightsTest, InitializersReadEarlierResults) {
  const uint32_t twice = addTwice();
  VariantSpec &v = toy.variant();
  v.operands[v.commands[7].first_operand() + 2] = span(twice); // for the logits
  for (const char *expected : {"\"computed\":2,\"stored\":2", "\"cache_hits\":2,\"computed\":0"}) {
    ASSERT_TRUE(open()) << loaded.message;
    EXPECT_NE(loaded.report().find(expected), std::string::npos) << loaded.report();
    std::vector<float> logits;
    ASSERT_TRUE(loaded.step({3, 1}, {0, 0}, {0, 1}, {1}, logits)) << loaded.message;
    for (int64_t i = 0; i < kVocab; ++i) {
      float head = 2 * (2 * 0.25f * float(i) + float(i % 3)) + float(i % 3);
      EXPECT_EQ(logits[size_t(i)], (4 + 2) * 3.0f * head) << i;
    }
  }
}

/// Reads tensors without a session.
class WeightReaderTest : public WeightsTest {
protected:
  ~WeightReaderTest() override { moert_weights_free(reader); }
  bool openWeights(const moert_session_options &options = defaultOptions()) {
    toy.write();
    return loaded.load(toy.package()) && loaded.take(moert_weights_open(loaded.program, &options, &reader));
  }
  std::vector<float> read(const char *name) {
    const void *data = nullptr;
    size_t size = 0;
    if (!loaded.take(moert_weights_read(reader, name, &data, &size))) {
      return {};
    }
    std::vector<float> values(size / sizeof(float));
    memcpy(values.data(), data, size);
    return values;
  }
  moert_weights *reader = nullptr;
};

TEST_F(WeightReaderTest, StoredAndComputed) {
  ASSERT_TRUE(openWeights()) << loaded.message;
  std::vector<float> folded, bias;
  for (int v = 0; v < kVocab; ++v) {
    bias.push_back(float(v % 3));
    folded.push_back(2 * 0.25f * float(v) + float(v % 3));
  }
  EXPECT_EQ(read("bias"), bias); // not aligned in its file
  EXPECT_EQ(read("head.folded"), folded);
  EXPECT_EQ(read("head.folded"), folded);
  EXPECT_EQ(read("bias"), bias);
  EXPECT_FALSE(std::filesystem::exists(toy.cache()));
}

TEST_F(WeightReaderTest, ComputesWhatATensorIsComputedFrom) {
  const uint32_t twice = addTwice();
  toy.program.tensors[twice].mutate_name(toy.program.string("twice"));
  ASSERT_TRUE(openWeights()) << loaded.message;
  for (const char *name : {"twice", "head.folded", "twice"}) {
    const std::vector<float> values = read(name);
    ASSERT_EQ(values.size(), size_t(kVocab)) << loaded.message;
    for (int64_t i = 0; i < kVocab; ++i) {
      const float head = 2 * 0.25f * float(i) + float(i % 3);
      EXPECT_EQ(values[size_t(i)], name[0] == 't' ? 2 * head + float(i % 3) : head) << name << " " << i;
    }
  }
}

TEST_F(WeightReaderTest, Errors) {
  ASSERT_TRUE(openWeights()) << loaded.message;
  EXPECT_TRUE(read("tail").empty());
  EXPECT_EQ(loaded.code, MOERT_NOT_FOUND);
  EXPECT_NE(loaded.message.find("has no tensor 'tail'"), std::string::npos) << loaded.message;
  const void *data = nullptr;
  EXPECT_FALSE(loaded.take(moert_weights_read(reader, "bias", &data, nullptr)));
  EXPECT_NE(loaded.message.find("moert_weights_read: size is NULL"), std::string::npos) << loaded.message;
  EXPECT_FALSE(loaded.take(moert_weights_read(nullptr, "bias", &data, nullptr)));
  EXPECT_FALSE(loaded.take(moert_weights_open(loaded.program, nullptr, &reader)));
  EXPECT_NE(loaded.message.find("moert_weights_open: options is NULL"), std::string::npos) << loaded.message;
  moert_weights_free(nullptr);
}

/// A tensor that nothing reads has no place, and one that no initializer writes no value.
TEST_F(WeightReaderTest, UnusedTensor) {
  toy.program.tensors.push_back(toy.program.tensors[kBias]);
  toy.program.tensors.back().mutate_name(toy.program.string("unused"));
  ASSERT_TRUE(openWeights()) << loaded.message;
  EXPECT_TRUE(read("unused").empty());
  EXPECT_NE(loaded.message.find("tensor 'unused' is neither read nor computed by variant 'x86-64'"), std::string::npos)
      << loaded.message;
}

TEST_F(WeightReaderTest, OpensLikeASession) {
  moert_session_options options = defaultOptions();
  options.weights = "/nowhere";
  EXPECT_FALSE(openWeights(options));
  EXPECT_EQ(loaded.code, MOERT_NOT_FOUND) << loaded.message;
  options = defaultOptions();
  options.variant = "z80";
  EXPECT_FALSE(openWeights(options));
  EXPECT_NE(loaded.message.find("has no CPU variant 'z80'"), std::string::npos) << loaded.message;
  options = defaultOptions();
  options.deadline_seconds = -1;
  EXPECT_FALSE(openWeights(options));
  EXPECT_NE(loaded.message.find("must not be negative"), std::string::npos) << loaded.message;
}

} // namespace
