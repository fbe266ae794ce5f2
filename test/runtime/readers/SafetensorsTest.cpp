//===- SafetensorsTest.cpp - Rules of the checkpoint reader ---------------===//
//
// Every rule of the format has one file that keeps it and one that breaks it;
// messages must name the file, the tensor and both values.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Safetensors.h"

#include "TempFolder.h"

#include <ctime>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace moert;
using namespace moert::readers;

namespace {

std::string withLength(const std::string &header, const std::string &data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes += char(header.size() >> (8 * i));
  }
  return bytes + header + data;
}

/// The message of the error that the header gives with that much data after it, or "ok".
std::string verdict(const std::string &header, uint64_t dataBytes) {
  Result<SafetensorsHeader> result = parseSafetensorsHeader("m.safetensors", header, 8 + header.size() + dataBytes);
  return result.ok() ? "ok" : result.status().message();
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(Safetensors, ReadsTensorsByName) {
  TempFolder folder;
  std::string header = R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                       R"("__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                       R"("empty":{"dtype":"I64","shape":[0,7],"data_offsets":[16,16]}}  )";
  std::string path = folder.write("model.safetensors", withLength(header, std::string(16, 'x')));
  Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  ASSERT_EQ(checkpoint->tensors().size(), 3u);
  const TensorInfo *b = checkpoint->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->type, ElementType::BF16);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b->offset, 8 + header.size() + 4);
  EXPECT_EQ(b->bytes, 12u);
  EXPECT_TRUE(checkpoint->find("a")->shape.empty());
  EXPECT_EQ(checkpoint->find("empty")->bytes, 0u);
  EXPECT_EQ(checkpoint->find("c"), nullptr);
  const CheckpointFile &file = checkpoint->files()[0];
  EXPECT_EQ(file.name, "model.safetensors");
  EXPECT_EQ(file.size, 8 + header.size() + 16);
  EXPECT_EQ(file.metadata.at("format"), "pt");
  std::string hashed = withLength(header, "");
  EXPECT_EQ(file.headerSha256, format::sha256(hashed.data(), hashed.size()));
  struct stat facts;
  ASSERT_EQ(::stat(path.c_str(), &facts), 0);
  EXPECT_EQ(file.mtimeNs, int64_t(facts.st_mtim.tv_sec) * 1000000000 + facts.st_mtim.tv_nsec);
}

TEST(Safetensors, EveryElementType) {
  const std::pair<const char *, int> types[] = {
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
  for (auto [name, bits] : types) {
    uint64_t bytes = 8 * bits / 8;
    std::string header = concat(R"({"t":{"dtype":")", name, R"(","shape":[4,2],"data_offsets":[0,)", bytes, "]}}");
    Result<SafetensorsHeader> result = parseSafetensorsHeader("m", header, 8 + header.size() + bytes);
    ASSERT_TRUE(result.ok()) << result.status().message();
    EXPECT_EQ(elementTypeName(result->tensors[0].type), name);
    EXPECT_EQ(int(elementTypeBits(result->tensors[0].type)), bits);
  }
  EXPECT_SAYS(verdict(R"({"t":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}})", 1),
              "tensor 't': dtype \"F7\" is not a safetensors dtype");
  EXPECT_SAYS(verdict(R"({"t":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2),
              "[3] F4 is not a number of bytes");
}

TEST(Safetensors, LayoutErrorsNameBothValues) {
  auto two = [](const char *first, const char *second) {
    return concat(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)", first,
                  R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)", second, "}}");
  };
  EXPECT_EQ(verdict(two("[0,4]", "[4,8]"), 8), "ok");
  EXPECT_EQ(verdict(two("[0,4]", "[3,7]"), 7), "m.safetensors: tensor 'b' begins at 3, but tensor 'a' ends at 4: "
                                               "tensors must follow each other without overlap");
  EXPECT_SAYS(verdict(two("[0,4]", "[5,9]"), 9), "tensor 'b' begins at 5, but tensor 'a' ends at 4");
  EXPECT_SAYS(verdict(two("[1,5]", "[5,9]"), 9), "tensor 'a' begins at 1, but the data begins at 0");
  EXPECT_SAYS(verdict(two("[0,4]", "[4,8]"), 7),
              "describes 8 bytes of data, but the file holds 7; the download was cut short");
  EXPECT_SAYS(verdict(two("[0,4]", "[4,8]"), 9), "describes 8 bytes of data, but the file holds 9");
  EXPECT_SAYS(verdict(two("[0,4]", "[4,9]"), 9),
              "tensor 'b': [4] U8 needs 4 bytes, but its data_offsets [4, 9] hold 5");
  EXPECT_SAYS(verdict(two("[0,4]", "[8,4]"), 8), "begin <= end, not [8, 4]");
  EXPECT_SAYS(verdict(two("[0,4]", "[4]"), 8), "not [4]");
  EXPECT_SAYS(verdict(two("[0,4]", "[4,8,9]"), 8), "more than 2 numbers");
}

TEST(Safetensors, ArithmeticIsChecked) {
  auto shape = [](const char *dims) {
    return concat(R"({"t":{"dtype":"F32","shape":)", dims, R"(,"data_offsets":[0,4]}})");
  };
  EXPECT_SAYS(verdict(shape("[4294967296,4294967296]"), 4), "is not a number of bytes below 2^64");
  EXPECT_SAYS(verdict(shape("[2305843009213693952,8]"), 4), "is not a number of bytes below 2^64");
  EXPECT_SAYS(verdict(shape("[9223372036854775808]"), 4), "dimension 9223372036854775808 is beyond 2^63 - 1");
  EXPECT_SAYS(verdict(shape("[18446744073709551616]"), 4), "beyond 64 bits");
  EXPECT_SAYS(verdict(shape("[-1]"), 4), "negative");
  EXPECT_SAYS(verdict(shape("[1.0]"), 4), "fraction");
  EXPECT_SAYS(
      verdict(R"({"t":{"dtype":"U8","shape":[2],"data_offsets":[18446744073709551614,18446744073709551615]}})", 1),
      "needs 2 bytes");
}

TEST(Safetensors, HeaderText) {
  const char *good = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_EQ(verdict(concat("{", good, "}"), 1), "ok");
  EXPECT_EQ(verdict("{}", 0), "ok");
  EXPECT_EQ(verdict(R"({"a":{"dtype":"U8","note":{"x":[1,null,{"y":"z"}]},"shape":[1],"data_offsets":[0,1]}})", 1),
            "ok");
  EXPECT_SAYS(verdict(concat("{", good, ",", good, "}"), 1), "tensor 'a'");
  EXPECT_SAYS(
      verdict(
          R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
          0),
      "tensor 'a' appears twice in the header");
  EXPECT_SAYS(verdict(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1),
              "\"dtype\" appears twice");
  EXPECT_SAYS(verdict(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1), "tensor 'a': has no \"shape\"");
  EXPECT_SAYS(verdict(R"({"__metadata__":{"k":1}})", 0), "unexpected number 1 in \"__metadata__\"");
  EXPECT_SAYS(verdict(R"({"__metadata__":{},"__metadata__":{}})", 0), "\"__metadata__\" appears twice");
  EXPECT_SAYS(verdict(R"({"__metadata__":{"k":"","k":""}})", 0), "appears twice");
  EXPECT_SAYS(verdict(R"({"a":[]})", 0), "tensor 'a': its entry is not an object");
  EXPECT_SAYS(verdict(R"({"a":"b"})", 0), "unexpected string");
  EXPECT_SAYS(verdict(R"({"a":{"dtype":"U8","shape":[[]],"data_offsets":[0,1]}})", 1), "unexpected list (tensor 'a')");
  EXPECT_SAYS(verdict("[]", 0), "does not begin with '{'");
  EXPECT_SAYS(verdict("", 0), "does not begin with '{'");
  EXPECT_SAYS(verdict("{", 0), "not valid JSON");
  EXPECT_SAYS(verdict("{} {}", 0), "not valid JSON");
  EXPECT_SAYS(verdict("{\"\xff\":1}", 0), "not valid JSON");
  std::string deep = R"({"a":{"x":)" + std::string(100000, '[');
  EXPECT_SAYS(verdict(deep, 0), "nested deeper than 16 levels");
}

TEST(Safetensors, LengthOfTheHeader) {
  TempFolder folder;
  auto open = [&](const std::string &bytes) {
    CheckpointFile file;
    Result<SafetensorsHeader> result = readSafetensorsHeader(folder.write("x.safetensors", bytes), file);
    return result.ok() ? std::string("ok") : result.status().message();
  };
  EXPECT_SAYS(open("short"), "5 bytes is too short");
  EXPECT_SAYS(open(std::string("\0\0\0\0\0\0\0\x80", 8) + "{}"),
              "a header of 9223372036854775808 bytes is more than the 100000000");
  EXPECT_SAYS(open(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + "{}"), "18446744073709551615");
  EXPECT_SAYS(open(std::string("\x03\0\0\0\0\0\0\0", 8) + "{}"), "the header needs 3 bytes, but only 2 follow");
  EXPECT_EQ(open(std::string("\x02\0\0\0\0\0\0\0", 8) + "{}"), "ok");
}

std::string oneTensor(const std::string &name) {
  return withLength(concat("{\"", name, R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})"), "x");
}

std::string openError(const std::string &path) {
  Result<Checkpoint> checkpoint = Checkpoint::open(path);
  return checkpoint.ok() ? "ok" : checkpoint.status().message();
}

TEST(Safetensors, ShardsByIndex) {
  TempFolder folder;
  folder.write("one.safetensors", oneTensor("a"));
  folder.write("two.safetensors", oneTensor("b"));
  folder.write("model.safetensors.index.json",
               R"({"metadata":{"total_size":2,"x":[{}]},"weight_map":{"b":"two.safetensors","a":"one.safetensors"}})");
  Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  ASSERT_EQ(checkpoint->files().size(), 2u);
  EXPECT_EQ(checkpoint->files()[checkpoint->find("b")->file].name, "two.safetensors");

  auto index = [&](const std::string &map) {
    folder.write("model.safetensors.index.json", map);
    return openError(folder.path());
  };
  EXPECT_SAYS(index(R"({"weight_map":{"a":"one.safetensors","c":"three.safetensors"}})"),
              "missing three.safetensors (1 tensors), named by model.safetensors.index.json");
  EXPECT_SAYS(index(R"({"weight_map":{"a":"two.safetensors","b":"two.safetensors"}})"),
              "tensor 'a' is not in two.safetensors, where model.safetensors.index.json places it");
  EXPECT_SAYS(index(R"({"weight_map":{"a":"two.safetensors","b":"one.safetensors"}})"),
              "tensor 'a' is in one.safetensors, but model.safetensors.index.json places it in two.safetensors");
  EXPECT_SAYS(index(R"({"weight_map":{"a":"../one.safetensors"}})"),
              "\"../one.safetensors\", which is not a plain file name");
  EXPECT_SAYS(index(R"({"weight_map":{"a":".."}})"), "not a plain file name");
  EXPECT_SAYS(index(R"({"weight_map":{"a":"one.safetensors","a":"two.safetensors"}})"), "tensor 'a' appears twice");
  EXPECT_SAYS(index(R"({"weight_map":{"a":{}}})"), "something else than file names");
  EXPECT_SAYS(index(R"({"weight_map":{"a":3}})"), "a number where the format has none");
  EXPECT_SAYS(index(R"({"metadata":{}})"), "has no \"weight_map\"");
  EXPECT_SAYS(index(R"({"weight_map":{},"weight_map":{}})"), "appears twice");
  folder.write("two.safetensors", oneTensor("a"));
  EXPECT_SAYS(index(R"({"weight_map":{"a":"one.safetensors","x":"two.safetensors"}})"),
              "tensor 'a' is in two files, one.safetensors and two.safetensors");
}

TEST(Safetensors, WhatToOpen) {
  TempFolder folder;
  EXPECT_SAYS(openError(folder.path()), "has neither model.safetensors.index.json nor model.safetensors");
  folder.write("model.gguf", "x");
  EXPECT_SAYS(openError(folder.path()), "'model.gguf' is not safetensors");
  EXPECT_SAYS(openError(folder.path("nowhere")), "no such checkpoint directory");
  folder.write("consolidated.safetensors", oneTensor("a"));
  EXPECT_EQ(openError(folder.path()), "ok");
  EXPECT_EQ(openError(folder.path("consolidated.safetensors")), "ok");
  ASSERT_EQ(::mkfifo(folder.path("pipe").c_str(), 0600), 0);
  EXPECT_SAYS(openError(folder.path("pipe")), "not a regular file");
}

// A terabyte of data costs nothing, and 200,000 tensors (stacked experts of the largest models) well under a second of
// processor time; the bound below leaves room for sanitizers.
TEST(Safetensors, LargeCheckpoints) {
  TempFolder folder;
  constexpr int count = 200000;
  std::string header = "{";
  for (int i = 0; i < count; ++i) {
    header += concat(i == 0 ? "" : ",", "\"model.layers.", i / 768, ".mlp.experts.", i % 768 / 3, ".w", i % 3,
                     R"(.weight":{"dtype":"U8","shape":[2048,2560],"data_offsets":[)", i * 5242880ull, ",",
                     (i + 1) * 5242880ull, "]}");
  }
  std::string path = folder.write("model.safetensors", withLength(header + "}", ""));
  int file = ::open(path.c_str(), O_WRONLY);
  ASSERT_EQ(::ftruncate(file, 8 + header.size() + 1 + count * 5242880ull), 0);
  ::close(file);
  std::clock_t start = std::clock();
  Result<Checkpoint> checkpoint = Checkpoint::open(folder.path());
  double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->tensors().size(), size_t(count));
  EXPECT_NE(checkpoint->find("model.layers.17.mlp.experts.3.w2.weight"), nullptr);
  RecordProperty("seconds", std::to_string(seconds));
  EXPECT_LT(seconds, 10.0);
}

} // namespace
