//===- Sha256Test.cpp - SHA-256 against published digests -----------------===//
#include "runtime/format/Checksum.h"

#include <gtest/gtest.h>
#include <string>

using namespace moert::format;

namespace {

std::string hashOf(const std::string &text) { return toHex(sha256(text.data(), text.size())); }

// The examples of FIPS 180-4 and NIST's long message.
TEST(Sha256, PublishedDigests) {
  EXPECT_EQ(hashOf(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hashOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hashOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hashOf(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Every way to cut a message gives one digest; lengths around the padding's border (55, 56, 63, 64) included.
TEST(Sha256, PiecesOfAnySize) {
  std::string message;
  for (int i = 0; i < 200; ++i) {
    message += char(i * 7);
    for (size_t cut = 0; cut <= message.size(); cut += 1 + cut / 3) {
      Sha256 hash;
      hash.update(message.data(), cut);
      hash.update(message.data() + cut, message.size() - cut);
      ASSERT_EQ(toHex(hash.finish()), hashOf(message)) << message.size() << " bytes cut at " << cut;
    }
  }
}

} // namespace
