//===- Decoder.h - Tokens to text, one at a time ----------------*- C++ -*-===//
//
// The `decoder` of a tokenizer.json as a machine that takes tokens one by one
// and gives text as soon as it is certain: never half a character, and all
// pieces together are what decoding all tokens at once gives. Supported: chains
// in which each token is rewritten on its own until one step joins them.
//
// Worked example (Mixtral): [Replace "▁" by " ", ByteFallback, Fuse, Strip one
// leading " "]: "▁Hi" gives "Hi"; then "<0xF0>" "<0x9F>" "<0x98>" "<0x80>" give
// nothing, since a byte that follows could spoil them; then "!" gives "😀!".
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_TOKENIZER_DECODER_H
#define MOERT_READERS_TOKENIZER_DECODER_H

#include "runtime/readers/tokenizer/PreTokenizer.h"

namespace moert::readers {

/// The immutable part: what to do with each token.
class Decoder {
public:
  /// What decoding so far leaves behind.
  struct State {
    std::string bytes;   ///< Bytes of what may become a character.
    size_t stripped = 0; ///< Characters that were stripped at the start.
    bool first = true;   ///< No token was seen.
    bool atStart = true; ///< Nothing was emitted.
  };

  /// No decoder: tokens joined by spaces.
  Decoder() = default;
  /// Throws JsonFailure.
  static Decoder parse(const JsonView &json);

  /// The text that `token` makes certain.
  std::string push(State &state, std::string_view token) const;
  /// The rest, with U+FFFD for what is no UTF-8.
  std::string finish(State &state) const;

private:
  enum class Join { Spaces, Plain, Bytes, ByteFallback };
  using Rewrite = std::function<std::string(std::string, bool first)>;

  void addSteps(const JsonView &json);
  void addStep(const JsonView &json);
  std::string emit(State &state, std::string text) const;

  std::vector<Rewrite> rewrites;
  Join join = Join::Spaces;
  bool joined = false;
  std::string stripContent; ///< Of the joined text.
  size_t stripCount = 0;
};

} // namespace moert::readers

#endif // MOERT_READERS_TOKENIZER_DECODER_H
