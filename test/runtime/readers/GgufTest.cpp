//===- GgufTest.cpp - Rules of the GGUF reader ----------------------------===//
//
// Every rule of the format has one file that keeps it and one that breaks it;
// messages must name the file, what is wrong and both values.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Gguf.h"

#include "TempFolder.h"

#include <gtest/gtest.h>
#include <unistd.h>

using namespace moert;
using namespace moert::readers;

namespace {

/// Bytes of a GGUF file, piece by piece.
class Bytes {
public:
  template <typename T> Bytes &number(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      text += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
    }
    return *this;
  }
  Bytes &string(const std::string &value) {
    number(uint64_t(value.size()));
    text += value;
    return *this;
  }
  Bytes &raw(const std::string &value) {
    text += value;
    return *this;
  }
  Bytes &begin(uint64_t tensors, uint64_t values, uint32_t version = 3) {
    return raw("GGUF").number(version).number(tensors).number(values);
  }
  /// Two dims, the contiguous one first.
  Bytes &tensor(const std::string &name, uint64_t columns, uint64_t rows, uint32_t type, uint64_t offset) {
    return string(name).number(uint32_t(2)).number(columns).number(rows).number(type).number(offset);
  }
  /// Zeros up to a multiple of `alignment`, then `data` bytes.
  std::string end(uint64_t data, uint64_t alignment = 32) {
    text.resize((text.size() + alignment - 1) / alignment * alignment + data);
    return text;
  }

private:
  std::string text;
};

class GgufTest : public testing::Test {
protected:
  /// The message of the error that the bytes give, or "ok".
  std::string verdict(const std::string &bytes) {
    CheckpointFile facts;
    Result<GgufHeader> result = readGgufHeader(folder.write("m.gguf", bytes), facts);
    return result.ok() ? "ok" : result.status().message();
  }
  TempFolder folder;
};

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(GgufTest, ReadsMetadataAndTensors) {
  Bytes bytes;
  bytes.begin(2, 4);
  bytes.string("a").number(uint32_t(4)).number(uint32_t(7));
  bytes.string("b").number(uint32_t(9)).number(uint32_t(5)).number(uint64_t(2)).number(int32_t(-1)).number(int32_t(3));
  bytes.string("c").number(uint32_t(9)).number(uint32_t(8)).number(uint64_t(1)).string("text");
  bytes.string("d").number(uint32_t(7)).number(uint8_t(1));
  bytes.tensor("w", 3, 2, 0, 32).tensor("e", 5, 1, 30, 0);
  const std::string text = bytes.end(32 + 24);
  CheckpointFile facts;
  Result<GgufHeader> header = readGgufHeader(folder.write("m.gguf", text), facts);
  ASSERT_TRUE(header.ok()) << header.status().message();
  EXPECT_EQ(std::get<int64_t>(header->metadata.at("a")), 7);
  EXPECT_EQ(std::get<std::vector<int64_t>>(header->metadata.at("b")), (std::vector<int64_t>{-1, 3}));
  EXPECT_EQ(std::get<std::vector<std::string>>(header->metadata.at("c")), (std::vector<std::string>{"text"}));
  EXPECT_TRUE(std::get<bool>(header->metadata.at("d")));
  ASSERT_EQ(header->tensors.size(), 2u);
  const TensorInfo &w = header->tensors[1];
  EXPECT_EQ(w.name, "w");
  EXPECT_EQ(w.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(w.offset, header->bytes + 32);
  EXPECT_EQ(w.bytes, 24u);
  EXPECT_EQ(header->tensors[0].bytes, 10u);
  EXPECT_EQ(facts.headerBytes, header->bytes);
  EXPECT_EQ(facts.headerSha256, format::sha256(text.data(), header->bytes));
  // As a checkpoint of one file.
  Result<Checkpoint> checkpoint = Checkpoint::open(folder.path("m.gguf"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->find("w")->offset, w.offset);
  EXPECT_EQ(checkpoint->files()[0].headerBytes, header->bytes);
  EXPECT_SAYS(Checkpoint::open(folder.path()).status().message(), "to read 'm.gguf', name that file itself");
}

TEST_F(GgufTest, BeginsLikeOne) {
  EXPECT_SAYS(verdict("GGU"), "the magic number at byte 0 needs 4 bytes, but only 3 follow");
  EXPECT_SAYS(verdict("GGUX1234"), "does not begin with 'GGUF'");
  EXPECT_SAYS(verdict(Bytes().begin(0, 0, 1).end(0)), "has version 1 of the format; supported are 2 and 3");
  EXPECT_SAYS(verdict(Bytes().begin(0, 0, 3u << 24).end(0)), "is big-endian");
  EXPECT_EQ(verdict(Bytes().begin(0, 0, 2).end(0)), "ok");
  EXPECT_FALSE(isGguf(folder.path("none")));
}

TEST_F(GgufTest, CountsAreBoundedByTheFile) {
  EXPECT_SAYS(verdict(Bytes().begin(uint64_t(1) << 60, 0).end(64)),
              "announces 0 metadata values and 1152921504606846976");
  EXPECT_SAYS(verdict(Bytes().begin(0, uint64_t(1) << 60).end(64)), "announces 1152921504606846976 metadata values");
  Bytes array;
  array.begin(0, 1).string("a").number(uint32_t(9)).number(uint32_t(0)).number(uint64_t(1000));
  EXPECT_SAYS(verdict(array.end(8)), "'a': an array of 1000 values of at least 1 bytes each, but only");
  Bytes text;
  text.begin(0, 1).string("a").number(uint32_t(8)).number(uint64_t(1000));
  EXPECT_SAYS(verdict(text.end(0)), "a string at byte");
  Bytes key;
  key.begin(0, 1).number(uint64_t(70000));
  EXPECT_SAYS(verdict(key.end(70000)), "a key at byte 32 has 70000 bytes, which must be at most 65535");
}

TEST_F(GgufTest, Values) {
  auto one = [&](uint32_t type) { return Bytes().begin(0, 1).string("k").number(type); };
  EXPECT_SAYS(verdict(one(13).number(uint64_t(0)).end(0)), "'k' has type 13, which is no type of the format");
  EXPECT_SAYS(verdict(one(9).number(uint32_t(9)).number(uint64_t(0)).end(0)), "an array of type 9, which is an array");
  EXPECT_SAYS(verdict(one(7).number(uint8_t(2)).end(0)), "a boolean must be 0 or 1, but is 2");
  EXPECT_SAYS(verdict(one(10).number(~uint64_t(0)).end(0)), "18446744073709551615 is beyond 2^63 - 1");
  Bytes twice;
  twice.begin(0, 2)
      .string("k")
      .number(uint32_t(0))
      .number(uint8_t(1))
      .string("k")
      .number(uint32_t(0))
      .number(uint8_t(1));
  EXPECT_SAYS(verdict(twice.end(0)), "the key 'k' appears twice");
  Bytes alignment;
  alignment.begin(0, 1).string("general.alignment").number(uint32_t(4)).number(uint32_t(24));
  EXPECT_SAYS(verdict(alignment.end(0)), "'general.alignment' must be a power of two, at most 1048576, but is 24");
}

TEST_F(GgufTest, Tensors) {
  auto one = [&](uint64_t columns, uint64_t rows, uint32_t type, uint64_t offset, uint64_t data) {
    return verdict(Bytes().begin(1, 0).tensor("t", columns, rows, type, offset).end(data));
  };
  EXPECT_EQ(one(3, 2, 0, 0, 24), "ok");
  EXPECT_EQ(one(3, 2, 0, 0, 32), "ok"); // padded like the others
  EXPECT_SAYS(one(3, 2, 0, 0, 33), "the header describes 24 bytes of data, but the file holds 33");
  EXPECT_SAYS(one(3, 2, 0, 0, 23), "tensor 't' has 24 bytes from 0 on, but the file holds 23");
  EXPECT_SAYS(one(3, 2, 0, 32, 64), "tensor 't' begins at 32 of the data, but the data begins at 0");
  EXPECT_SAYS(one(32, 1, 8, 0, 34), "tensor 't' has type Q8_0, which is quantised and not supported yet");
  EXPECT_SAYS(one(3, 2, 99, 0, 24), "tensor 't' has type 99, which is no type of the format");
  EXPECT_SAYS(one(uint64_t(1) << 62, 8, 0, 0, 24), "makes more than 2^64 elements");
  EXPECT_SAYS(one(uint64_t(1) << 61, 4, 0, 0, 24), "elements of F32 are more than 2^64 bytes");
  Bytes rank;
  rank.begin(1, 0).string("t").number(uint32_t(5));
  EXPECT_SAYS(verdict(rank.end(64)), "tensor 't' has rank 5, which must be at most 4");
  Bytes twice;
  twice.begin(2, 0).tensor("t", 8, 1, 0, 0).tensor("t", 8, 1, 0, 32);
  EXPECT_SAYS(verdict(twice.end(64)), "tensor 't' appears twice");
  Bytes overlap;
  overlap.begin(2, 0).tensor("a", 8, 2, 0, 0).tensor("b", 8, 1, 0, 32);
  EXPECT_SAYS(verdict(overlap.end(64)), "tensor 'b' begins at 32 of the data, but after tensor 'a' it must at 64");
}

TEST_F(GgufTest, ReadsTheHeaderOnly) {
  // A sparse file of 64 GiB opens in the time of its header.
  Bytes bytes;
  bytes.begin(1, 0).tensor("t", uint64_t(1) << 20, uint64_t(1) << 14, 0, 0);
  std::string path = folder.write("large.gguf", bytes.end(0));
  ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(bytes.end(0).size() + (uint64_t(64) << 30))), 0);
  CheckpointFile facts;
  Result<GgufHeader> header = readGgufHeader(path, facts);
  ASSERT_TRUE(header.ok()) << header.status().message();
  EXPECT_EQ(header->tensors[0].bytes, uint64_t(64) << 30);
}

} // namespace
