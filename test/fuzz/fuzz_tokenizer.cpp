//===- fuzz_tokenizer.cpp - libFuzzer target of the tokenizer -------------===//
//
// The first byte chooses: the rest is a tokenizer.json, which then encodes and
// decodes a few texts; or it is a text for good tokenizers, where byte-level
// ones must give it back and streaming must equal decoding at once.
//
//   fuzz_tokenizer -max_total_time=600 test/fuzz/corpus/tokenizer
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Tokenizer.h"
#include "runtime/readers/tokenizer/Utf8.h"

#include <cstdio>
#include <cstdlib>

using namespace moert;
using namespace moert::readers;

/// Ends the run, as a finding, unless `condition` holds.
static void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

static std::string streamed(const Tokenizer &tokenizer, const std::vector<int32_t> &ids) {
  StreamDecoder stream(tokenizer);
  std::string text;
  for (int32_t id : ids) {
    std::string piece = stream.push(id);
    require(isValidUtf8(piece));
    text += piece;
  }
  return text + stream.finish();
}

static void useTokenizer(const Tokenizer &tokenizer, std::string_view text) {
  Result<std::vector<int32_t>> ids = tokenizer.encode(text);
  if (ids.ok()) {
    require(streamed(tokenizer, *ids) == tokenizer.decode(*ids));
  }
}

static void fuzzFile(std::string_view json) {
  Result<Tokenizer> tokenizer = Tokenizer::parse("tokenizer.json", json);
  if (!tokenizer.ok()) {
    require(tokenizer.status().message().compare(0, 14, "tokenizer.json") == 0);
    return;
  }
  useTokenizer(*tokenizer, " Hello  w\xC3\xB6rld 123\n\n\xF0\x9F\x91\x8D<s>x</s>");
  useTokenizer(*tokenizer, "\xff\xe2\x96\x81");
  tokenizer->decode({0, 1, 2, 3, 500, -1, INT32_MAX});
}

static void fuzzText(std::string_view text) {
  struct Good {
    const char *name;
    bool givesBack;
  };
  static const Good kinds[] = {{"llama3", true},   {"smollm", true},    {"deepseek", true}, {"llama2", false},
                               {"mistral", false}, {"oddities", false}, {"qwen2", false}};
  static std::vector<Tokenizer> tokenizers;
  for (size_t i = 0; i < std::size(kinds); ++i) {
    if (tokenizers.size() == i) {
      Result<Tokenizer> opened = Tokenizer::open(std::string(MOE_FIXTURES) + "/" + kinds[i].name + ".json");
      if (!opened.ok()) {
        std::fprintf(stderr, "%s\n", opened.status().message().c_str());
        std::abort();
      }
      tokenizers.push_back(*opened);
    }
    useTokenizer(tokenizers[i], text);
    // Added tokens may eat spaces around them; without them byte-level encoding loses nothing.
    if (kinds[i].givesBack && text.find('<') == text.npos) {
      Result<std::vector<int32_t>> ids = tokenizers[i].encode(text, false);
      require(ids.ok() && tokenizers[i].decode(*ids, false) == toValidUtf8(text));
    }
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) {
    return 0;
  }
  std::string_view rest(reinterpret_cast<const char *>(data) + 1, size - 1);
  data[0] == 't' ? fuzzText(rest) : fuzzFile(rest);
  return 0;
}
