// Small parts: extents and the proof that one fits in another (against brute force), SHA-256, the seal, JSON, files,
// CPU features.
#include "runtime/backends/cpu/CpuFeatures.h"
#include "runtime/core/Checks.h"
#include "runtime/core/Extent.h"
#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "runtime/format/Checksum.h"
#include "test/runtime/core/TestPackage.h"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <random>
#include <sys/stat.h>
#include <unistd.h>

using namespace moert;
using moert::test::extent;

namespace {

TEST(Extent, Evaluates) {
  int64_t value;
  ASSERT_TRUE(evaluate(extent(1, 10, 100, 1000, 10000), {2, 3, 4, 5}, value));
  EXPECT_EQ(value, 1 + 20 + 300 + 4000 + 10000 * 20);
  EXPECT_FALSE(evaluate(extent(0, INT64_MAX), {2, 0, 1, 1}, value));
  EXPECT_FALSE(evaluate(extent(INT64_MAX, 1), {1, 0, 1, 1}, value));
  EXPECT_FALSE(evaluate(extent(0, 0, 0, 0, 1), {0, 0, int64_t(1) << 40, int64_t(1) << 40}, value));
}

/// `fits` says yes exactly when no T, M, B, C of a grid of small values says no (extents small enough that the
/// extremes show on the grid).
TEST(Extent, FitsAgreesWithBruteForce) {
  std::mt19937 random(3);
  auto any = [&](int limit) { return int64_t(random() % unsigned(limit)); };
  int yes = 0;
  for (int round = 0; round < 10000; ++round) {
    auto make = [&](int scale) { return extent(any(4 * scale), any(scale), any(scale), any(scale), any(scale)); };
    format::Extent inner = make(3), outer = make(4);
    uint64_t offset = uint64_t(any(3));
    TokenRange range{any(3), 0};
    range.last = range.first + any(4);
    int64_t outerAt = random() % 2 ? range.last : -1;
    bool expected = true;
    for (int64_t t = range.first; t <= range.last; ++t) {
      for (int64_t m = 0; m <= t; ++m) {
        for (int64_t b = 1; b < 400; b += 1 + b / 4) {
          for (int64_t c = 1; c < 400; c += 1 + c / 4) {
            int64_t need, have;
            ASSERT_TRUE(evaluate(inner, {t, m, b, c}, need));
            Sizes at = outerAt < 0 ? Sizes{t, m, b, c} : Sizes{outerAt, outerAt, b, c};
            ASSERT_TRUE(evaluate(outer, at, have));
            expected &= need + int64_t(offset) <= have;
          }
        }
      }
    }
    ASSERT_EQ(fits(inner, offset, outer, range, outerAt), expected) << "round " << round;
    yes += expected;
  }
  EXPECT_GT(yes, 200); // both answers were met
}

TEST(Extent, FitsDoesNotOverflow) {
  EXPECT_FALSE(fits(extent(0, INT64_MAX), 0, extent(INT64_MAX), {2, 2}, 2));
  EXPECT_FALSE(fits(extent(INT64_MAX), 1, extent(INT64_MAX), {1, 1}, 1));
  EXPECT_FALSE(fits(extent(0), UINT64_MAX, extent(INT64_MAX), {1, 1}, 1));
  EXPECT_TRUE(fits(extent(INT64_MAX), 0, extent(INT64_MAX), {1, 1}, 1));
}

TEST(Checksum, KnownDigests) {
  EXPECT_EQ(format::toHex(format::sha256("", 0)), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(format::toHex(format::sha256("abc", 3)),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::string million(1000000, 'a');
  EXPECT_EQ(format::toHex(format::sha256(million.data(), million.size())),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Checksum, PiecesMakeTheWhole) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += char(i * 7);
  }
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    format::Sha256 hash;
    for (size_t at = 0; at < text.size();) {
      size_t piece = std::min<size_t>(random() % 150, text.size() - at);
      hash.update(text.data() + at, piece);
      at += piece;
    }
    ASSERT_EQ(hash.finish(), format::sha256(text.data(), text.size()));
  }
}

TEST(Checksum, Seal) {
  std::string file = "payload";
  file += format::sealProgram(file.data(), file.size());
  size_t payload = 0;
  format::Digest expected, actual;
  EXPECT_EQ(format::unsealProgram(file.data(), file.size(), payload, expected, actual), format::Seal::Intact);
  EXPECT_EQ(payload, 7u);
  file[0] ^= 1;
  EXPECT_EQ(format::unsealProgram(file.data(), file.size(), payload, expected, actual), format::Seal::Broken);
  EXPECT_EQ(format::unsealProgram(file.data(), 39, payload, expected, actual), format::Seal::Missing);
}

TEST(Json, CommasAndEscapes) {
  JsonWriter json;
  json.beginObject().member("a", 1).member("b\u00e4", "x\"\\\n\x01").key("c").beginArray();
  json.value(true).beginObject().endObject().microseconds(1234567).value(int64_t(-5)).endArray();
  json.key("d").beginArray().endArray().endObject();
  EXPECT_EQ(json.str(), "{\"a\":1,\"b\u00e4\":\"x\\\"\\\\\\u000a\\u0001\",\"c\":[true,{},1234.567,-5],\"d\":[]}");
}

TEST(Json, NamesThatAreNoText) {
  auto written = [](std::string_view name) { return JsonWriter().value(name).take(); };
  for (std::string_view text : {"", "a", "\u00e4\u20ac\U0001f600", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_EQ(written(text), "\"" + std::string(text) + "\"");
  }
  EXPECT_EQ(written("a\xff\xc3"), "\"a\\ufffd\\ufffd\"");
  // Overlong, a surrogate, above U+10FFFF, cut short: no byte of them stands as it is.
  for (std::string_view bytes :
       {"\xc0\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xe2\x82"}) {
    std::string expected = "\"";
    for (size_t i = 0; i < bytes.size(); ++i) {
      expected += "\\ufffd";
    }
    EXPECT_EQ(written(bytes), expected + "\"");
  }
}

TEST(Paths, StayInside) {
  for (const char *fine : {"a", "a.b", "a/b/c.json", "..a", "a..", "model-00001-of-00002.safetensors"}) {
    EXPECT_TRUE(isSafeRelativePath(fine)) << fine;
  }
  for (const std::string &escape : {std::string(), std::string("/a"), std::string(".."), std::string("../a"),
                                    std::string("a/.."), std::string("a/../b"), std::string("a//b"), std::string("."),
                                    std::string("./a"), std::string("a/"), std::string("a\0b", 3)}) {
    EXPECT_FALSE(isSafeRelativePath(escape)) << escape;
  }
}

TEST(File, WrittenWholeOrNotAtAll) {
  test::TemporaryFolder folder;
  std::string path = folder.path + "/out";
  ASSERT_TRUE(writeFile(path, {{"abc", 3}, {"de", 2}}).ok());
  EXPECT_EQ(test::readFile(path), "abcde");
  // The target is a folder, so that the rename fails at the very end: no temporary file stays.
  std::filesystem::create_directory(folder.path + "/taken");
  test::writeFile(folder.path + "/taken/file", "");
  EXPECT_FALSE(writeFile(folder.path + "/taken", {{"abc", 3}}).ok());
  for (const auto &entry : std::filesystem::directory_iterator(folder.path)) {
    EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
  }
}

// A rename would turn a device or a pipe into a file, and a link into a copy.
TEST(File, LinksAndPipesStay) {
  test::TemporaryFolder folder;
  std::string pipe = folder.path + "/pipe", link = folder.path + "/link", file = folder.path + "/file";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  int reader = ::open(pipe.c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_TRUE(writeFile(pipe, {{"abc", 3}}).ok());
  char text[4] = {};
  EXPECT_EQ(read(reader, text, sizeof(text)), 3);
  EXPECT_STREQ(text, "abc");
  close(reader);
  test::writeFile(file, "old");
  ASSERT_EQ(symlink("file", link.c_str()), 0);
  ASSERT_TRUE(writeFile(link, {{"new", 3}}).ok());
  EXPECT_EQ(test::readFile(file), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
}

TEST(Pages, LargeAndSmall) {
  for (uint64_t bytes : {uint64_t(0), uint64_t(1), uint64_t(5000), uint64_t(3) << 20}) {
    auto pages = Pages::allocate(bytes, "test");
    ASSERT_TRUE(pages.ok());
    EXPECT_GE(pages->size(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pages->data()) % 4096, 0u);
    EXPECT_EQ(std::count(pages->data(), pages->data() + bytes, 0), int64_t(bytes));
    if (bytes) {
      pages->data()[bytes - 1] = 1;
    }
  }
  auto impossible = Pages::allocate(uint64_t(1) << 62, "the arena");
  ASSERT_FALSE(impossible.ok());
  EXPECT_EQ(impossible.status().code(), Code::OutOfMemory);
  EXPECT_NE(impossible.status().message().find("the arena needs 4611686018427387904 bytes"), std::string::npos);
}

TEST(CpuFeatures, BaselineIsThereAndNonsenseIsNot) {
  auto present = cpu::presentFeatures();
  EXPECT_FALSE(cpu::hasFeature("avx1024"));
  EXPECT_FALSE(cpu::hasFeature(""));
#if defined(__x86_64__)
  for (const std::string &feature : present) {
    EXPECT_TRUE(cpu::hasFeature(feature));
  }
  auto both = [](const char *less, const char *more) { return !cpu::hasFeature(more) || cpu::hasFeature(less); };
  EXPECT_TRUE(both("avx", "avx2"));
  EXPECT_TRUE(both("avx512f", "avx512bf16"));
  // What the compiler's own detection finds, as a second opinion.
  EXPECT_EQ(cpu::hasFeature("avx2"), bool(__builtin_cpu_supports("avx2")));
  EXPECT_EQ(cpu::hasFeature("fma"), bool(__builtin_cpu_supports("fma")));
  EXPECT_EQ(cpu::hasFeature("avx512f"), bool(__builtin_cpu_supports("avx512f")));
  EXPECT_EQ(cpu::hasFeature("avx512bf16"), bool(__builtin_cpu_supports("avx512bf16")));
#endif
}

} // namespace
