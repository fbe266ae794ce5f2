//===- FingerprintTest.cpp - What tells two checkpoints apart ---------------===//
#include "runtime/readers/Fingerprint.h"

#include "TempFolder.h"

#include <gtest/gtest.h>

using namespace moert;
using namespace moert::readers;

namespace {

/// Four tensors of 256 KiB and one of 8 bytes: 1 MiB and a little, of which the ends of the file are a small part.
std::string checkpoint() {
  std::string header = "{";
  constexpr int kTensors = 4, kBytes = 256 << 10;
  for (int i = 0; i < kTensors; ++i) {
    header += "\"t" + std::to_string(i) + "\":{\"dtype\":\"F32\",\"shape\":[" + std::to_string(kBytes / 4) +
              "],\"data_offsets\":[" + std::to_string(i * kBytes) + "," + std::to_string((i + 1) * kBytes) + "]},";
  }
  header += "\"u\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" + std::to_string(kTensors * kBytes) + "," +
            std::to_string(kTensors * kBytes + 8) + "]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char *>(&length), sizeof(length));
  return file + header + std::string(kTensors * kBytes + 8, '\0');
}

std::string fingerprintOf(const std::string &bytes) {
  TempFolder folder;
  Result<std::string> found = fingerprint(folder.write("model.safetensors", bytes));
  EXPECT_TRUE(found.ok()) << found.status().message();
  return found.ok() ? *found : "";
}

TEST(Fingerprint, TellsFineTunesApart) {
  const std::string base = checkpoint(), print = fingerprintOf(base);
  ASSERT_EQ(print.size(), 64u);
  EXPECT_EQ(fingerprintOf(base), print);
  const size_t data = base.size() - (1 << 20) - 8;
  // The middle of each tensor, the whole of the small one, both ends of the file.
  for (size_t offset : {size_t(0) + (128 << 10), size_t(3) * (128 << 10), size_t(5) * (128 << 10) - 2048,
                        size_t(7) * (128 << 10) + 2047, size_t(1) << 20, size_t(0), (size_t(1) << 20) + 7}) {
    std::string other = base;
    other[data + offset] ^= 1;
    EXPECT_NE(fingerprintOf(other), print) << offset;
  }
}

TEST(Fingerprint, SamplesOnly) {
  // What the header says that it does not see: reading all of a checkpoint would take minutes.
  const std::string base = checkpoint();
  std::string other = base;
  other[other.size() - 8 - (1 << 20) + (300 << 10)] ^= 1;
  EXPECT_EQ(fingerprintOf(other), fingerprintOf(base));
}

} // namespace
