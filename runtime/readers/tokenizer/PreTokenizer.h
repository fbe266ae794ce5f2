//===- PreTokenizer.h - Text to the pieces that BPE sees --------*- C++ -*-===//
//
// The `normalizer` and `pre_tokenizer` of a tokenizer.json: the first rewrites
// a text, the second cuts it into pieces and rewrites those. Kinds that are not
// known are an error that names them when the file is read, never a guess.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_TOKENIZER_PRETOKENIZER_H
#define MOERT_READERS_TOKENIZER_PRETOKENIZER_H

#include "runtime/readers/Json.h"
#include "runtime/readers/tokenizer/Pattern.h"

#include <functional>

namespace moert::readers {

/// A stretch of text on its way to the model.
struct Piece {
  std::string text;
  bool atStart; ///< It begins where the whole text does.
};

/// Rewrites a text: NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, and sequences of them.
class Normalizer {
public:
  /// Throws JsonFailure.
  static Normalizer parse(const JsonView &json);
  Result<std::string> apply(std::string text) const;

private:
  using Step = std::function<Result<std::string>(std::string)>;
  static void addSteps(const JsonView &json, std::vector<Step> &steps);
  std::vector<Step> steps;
};

/// Cuts a text: ByteLevel, Split, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit, and
/// sequences of them.
class PreTokenizer {
public:
  /// Throws JsonFailure.
  static PreTokenizer parse(const JsonView &json);
  /// Replaces `pieces` by what they are cut into; no piece is empty.
  Status apply(std::vector<Piece> &pieces) const;

private:
  using Step = std::function<Status(Piece, std::vector<Piece> &)>;
  static void addSteps(const JsonView &json, std::vector<Step> &steps);
  std::vector<Step> steps;
};

/// A pattern of the file: {"String": ...} or {"Regex": ...}. Throws JsonFailure.
Pattern parsePattern(const JsonView &json);

} // namespace moert::readers

#endif // MOERT_READERS_TOKENIZER_PRETOKENIZER_H
