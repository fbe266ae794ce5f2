//===- BytePair.cpp - Byte-pair encoding ----------------------------------===//
//
// Follows the `tokenizers` package step by step, so that ids agree also where
// merges are not what training would give: an entry of the heap is stale when
// its pair now merges to something else, or its right neighbour is gone.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/tokenizer/BytePair.h"

#include "runtime/readers/tokenizer/Utf8.h"

#include <algorithm>
#include <cstdio>
#include <queue>

using namespace moert;
using namespace moert::readers;

void BytePair::parseVocabulary(const JsonView &json) {
  if (!json.isObject()) {
    json.fail(Code::Corrupt, "must be an object of token to id");
  }
  int64_t last = -1;
  ids.reserve(json.json().size());
  for (const auto &member : json.json().items()) {
    const nlohmann::json &id = member.value();
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(maxTokenId)) {
      json.fail(Code::Corrupt, "id ", id.dump(), " of token \"", member.key(), "\" is not between 0 and ", maxTokenId);
    }
    tokens.push_back(member.key());
    ids.emplace(tokens.back(), id.get<int32_t>());
    last = std::max(last, id.get<int64_t>());
  }
  byId.assign(static_cast<size_t>(last + 1), nullptr);
  for (const std::string &token : tokens) {
    const std::string *&slot = byId[static_cast<size_t>(ids.at(token))];
    if (slot != nullptr) {
      json.fail(Code::Corrupt, "tokens \"", *slot, "\" and \"", token, "\" have the same id ", ids.at(token));
    }
    slot = &token;
  }
}

void BytePair::parseMerges(const JsonView &json) {
  if (!json.isArray()) {
    json.fail(Code::Corrupt, "must be a list");
  }
  merges.reserve(json.json().size());
  uint32_t rank = 0;
  for (const nlohmann::json &merge : json.json()) {
    std::string left, right;
    if (merge.is_string()) { // "a b", the older notation
      const auto &text = merge.get_ref<const std::string &>();
      size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        json.fail(Code::Corrupt, "merge ", rank, " (\"", text, "\") must be two tokens with one space between them");
      }
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      json.fail(Code::Corrupt, "merge ", rank, " must be \"a b\" or [\"a\", \"b\"]");
    }
    int32_t leftId = idOf(left), rightId = idOf(right), merged = idOf(left + right);
    if (leftId < 0 || rightId < 0 || merged < 0) {
      json.fail(Code::Corrupt, "merge ", rank, " of \"", left, "\" and \"", right, "\": \"",
                leftId < 0    ? left
                : rightId < 0 ? right
                              : left + right,
                "\" is not in the vocabulary");
    }
    merges[pairKey(leftId, rightId)] = {rank++, merged};
  }
}

BytePair BytePair::parse(const JsonView &json) {
  // Files written before types were recorded are BPE when they have merges.
  std::string type = json.text("type", json.has("merges") ? "BPE" : "unknown");
  if (type != "BPE") {
    json.fail(Code::Unsupported, "model type \"", type,
              "\" is not supported (only BPE is); give token ids instead of text");
  }
  for (const char *key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!json.text(key, "").empty()) {
      json.fail(Code::Unsupported, key, " \"", json.at(key).text(),
                "\" is not supported; give token ids instead of text");
    }
  }
  if (json.has("dropout") && json.at("dropout").number() != 0) {
    json.fail(Code::Unsupported, "dropout ", json.at("dropout").number(), " makes encoding random; remove it");
  }
  BytePair model;
  model.byteFallback = json.boolean("byte_fallback", false);
  model.fuseUnknown = json.boolean("fuse_unk", false);
  model.ignoreMerges = json.boolean("ignore_merges", false);
  model.parseVocabulary(json.at("vocab"));
  model.parseMerges(json.at("merges"));
  if (json.has("unk_token")) {
    model.unknown = model.idOf(json.at("unk_token").text());
    if (model.unknown < 0) {
      json.fail(Code::Corrupt, "unk_token \"", json.at("unk_token").text(), "\" is not in the vocabulary");
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(byte));
    model.byteIds[static_cast<size_t>(byte)] = model.idOf(name);
  }
  return model;
}

int32_t BytePair::idOf(std::string_view token) const {
  auto found = ids.find(token);
  return found == ids.end() ? -1 : found->second;
}

const std::string *BytePair::tokenOf(int32_t id) const {
  return id < 0 || static_cast<size_t>(id) >= byId.size() ? nullptr : byId[static_cast<size_t>(id)];
}

const BytePair::Merge *BytePair::findMerge(int32_t left, int32_t right) const {
  auto found = merges.find(pairKey(left, right));
  return found == merges.end() ? nullptr : &found->second;
}

std::vector<BytePair::Symbol> BytePair::split(std::string_view piece) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  auto add = [&](int32_t id) {
    auto at = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, at - 1, at + 1, false});
  };
  bool pendingUnknown = false;
  for (size_t i = 0; i < piece.size();) {
    std::string_view character = piece.substr(i, characterLength(piece.substr(i)));
    i += character.size();
    if (int32_t id = idOf(character); id >= 0) {
      if (std::exchange(pendingUnknown, false)) {
        add(unknown);
      }
      add(id);
      continue;
    }
    auto isKnown = [&](char byte) { return byteIds[static_cast<uint8_t>(byte)] >= 0; };
    if (byteFallback && std::all_of(character.begin(), character.end(), isKnown)) {
      for (char byte : character) {
        add(byteIds[static_cast<uint8_t>(byte)]);
      }
    } else if (unknown >= 0) {
      if (pendingUnknown && !fuseUnknown) {
        add(unknown);
      }
      pendingUnknown = true;
    }
  }
  if (pendingUnknown) {
    add(unknown);
  }
  if (!symbols.empty()) {
    symbols.back().next = -1;
  }
  return symbols;
}

void BytePair::encode(std::string_view piece, std::vector<int32_t> &out) const {
  if (ignoreMerges) {
    if (int32_t id = idOf(piece); id >= 0) {
      out.push_back(id);
      return;
    }
  }
  std::vector<Symbol> symbols = split(piece);
  struct Candidate {
    uint32_t rank;
    int32_t at, id;
    bool operator<(const Candidate &other) const { // priority_queue gives the largest first
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  std::priority_queue<Candidate> heap;
  auto offer = [&](int32_t at) {
    int32_t next = at < 0 ? -1 : symbols[static_cast<size_t>(at)].next;
    if (next >= 0) {
      if (const Merge *merge = findMerge(symbols[static_cast<size_t>(at)].id, symbols[static_cast<size_t>(next)].id)) {
        heap.push({merge->rank, at, merge->id});
      }
    }
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    offer(static_cast<int32_t>(i));
  }
  while (!heap.empty()) {
    Candidate top = heap.top();
    heap.pop();
    Symbol &left = symbols[static_cast<size_t>(top.at)];
    if (left.dead || left.next < 0) {
      continue;
    }
    Symbol &right = symbols[static_cast<size_t>(left.next)];
    const Merge *merge = findMerge(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) {
      continue;
    }
    left.id = top.id;
    left.next = right.next;
    right.dead = true;
    if (left.next >= 0) {
      symbols[static_cast<size_t>(left.next)].previous = top.at;
    }
    offer(left.previous);
    offer(top.at);
  }
  for (int32_t at = symbols.empty() ? -1 : 0; at >= 0; at = symbols[static_cast<size_t>(at)].next) {
    out.push_back(symbols[static_cast<size_t>(at)].id);
  }
}
