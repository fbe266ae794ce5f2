//===- BytePair.h - Byte-pair encoding --------------------------*- C++ -*-===//
//
// The `model` of a tokenizer.json of type BPE: a vocabulary and ranked merges.
// A piece starts as its characters; the pair of neighbours with the lowest rank
// (the leftmost of equal ones) merges until none is left. A heap of candidate
// pairs over a linked list makes that O(n log n) in the piece's length.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_READERS_TOKENIZER_BYTEPAIR_H
#define MOERT_READERS_TOKENIZER_BYTEPAIR_H

#include "runtime/readers/Json.h"

#include <array>
#include <deque>
#include <unordered_map>

namespace moert::readers {

/// Ids are below this, so that tables by id stay small whatever a file says.
inline constexpr int64_t maxTokenId = (1 << 24) - 1;

/// Encodes pieces and names tokens.
class BytePair {
public:
  BytePair() = default;
  BytePair(BytePair &&) = default; // A copy's map would refer to the other's text.
  BytePair &operator=(BytePair &&) = default;

  /// Throws JsonFailure.
  static BytePair parse(const JsonView &json);

  /// Appends the ids of `piece` (valid UTF-8, not empty).
  void encode(std::string_view piece, std::vector<int32_t> &ids) const;

  /// The id of `token`, or -1.
  int32_t idOf(std::string_view token) const;
  /// The token of `id`, or null.
  const std::string *tokenOf(int32_t id) const;
  /// The largest id, or -1.
  int32_t lastId() const { return static_cast<int32_t>(byId.size()) - 1; }

private:
  /// What a pair of ids merges to.
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  struct Symbol {
    int32_t id;
    int32_t previous, next; ///< -1: none.
    bool dead;
  };
  struct HashPair {
    size_t operator()(uint64_t key) const { return (key * 0x9E3779B97F4A7C15ull) >> 20; }
  };

  static uint64_t pairKey(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  const Merge *findMerge(int32_t left, int32_t right) const;
  std::vector<Symbol> split(std::string_view piece) const;
  void parseVocabulary(const JsonView &json);
  void parseMerges(const JsonView &json);

  std::deque<std::string> tokens; ///< Owns the text; addresses are stable.
  std::unordered_map<std::string_view, int32_t> ids;
  std::vector<const std::string *> byId;
  std::unordered_map<uint64_t, Merge, HashPair> merges;
  std::array<int32_t, 256> byteIds; ///< Of "<0x00>" .. "<0xFF>", or -1.
  int32_t unknown = -1;
  bool byteFallback = false, fuseUnknown = false, ignoreMerges = false;
};

} // namespace moert::readers

#endif // MOERT_READERS_TOKENIZER_BYTEPAIR_H
