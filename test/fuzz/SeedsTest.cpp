// Replays the seeds of one fuzz target as a unit test, without libFuzzer: each as it is, cut off at several lengths and
// with single bits turned over. What a fuzz run once found, or a change of a format breaks, shows in seconds; new
// ground is for the fuzzers (CMakeLists.txt).
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

namespace {

/// The target gets exactly as many bytes as there are, so that AddressSanitizer sees a read of one more.
void runTarget(const std::string &bytes) {
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

TEST(Seeds, Replay) {
  const char *root = std::getenv("MOE_SOURCE_ROOT");
  ASSERT_NE(root, nullptr) << "run by ctest, which sets MOE_SOURCE_ROOT";
  std::vector<std::filesystem::path> seeds;
  for (const auto &entry : std::filesystem::directory_iterator(std::string(root) + "/test/fuzz/corpus/" MOE_CORPUS)) {
    seeds.push_back(entry.path());
  }
  ASSERT_FALSE(seeds.empty());
  std::sort(seeds.begin(), seeds.end());
  runTarget("");
  constexpr size_t cuts = 16, flips = 64;
  for (const std::filesystem::path &seed : seeds) {
    SCOPED_TRACE(seed.string());
    std::ifstream file(seed, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    ASSERT_TRUE(file.good() || file.eof());
    runTarget(bytes);
    for (size_t i = 1; i < cuts; ++i) {
      runTarget(bytes.substr(0, bytes.size() * i / cuts));
    }
    for (size_t i = 0; i < flips && !bytes.empty(); ++i) {
      std::string damaged = bytes;
      damaged[bytes.size() * i / flips] ^= static_cast<char>(1 << (i % 8));
      runTarget(damaged);
    }
  }
}

} // namespace
