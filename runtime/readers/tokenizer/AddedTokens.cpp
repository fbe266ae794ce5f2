//===- AddedTokens.cpp - Tokens found before the model runs ---------------===//
//
// At every character the tree is walked as far as the text goes along; the
// deepest end on the way is the longest token there.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/tokenizer/AddedTokens.h"

#include "runtime/readers/tokenizer/Utf8.h"

#include <algorithm>
#include <utf8proc.h>

using namespace moert;
using namespace moert::readers;

namespace {

/// True when the character at the start of `text` is part of a word.
bool startsWithWord(std::string_view text) {
  utf8proc_int32_t point = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t *>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &point);
  if (point < 0) {
    return false;
  }
  utf8proc_category_t category = utf8proc_category(point);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC ||
         point == 0x200C || point == 0x200D;
}

} // namespace

void AddedTokens::Trie::add(std::string_view text, const Token &token) {
  uint32_t at = 0;
  for (char byte : text) {
    auto [child, isNew] = nodes[at].emplace(static_cast<uint8_t>(byte), static_cast<uint32_t>(nodes.size()));
    at = child->second;
    if (isNew) {
      nodes.emplace_back();
      ends.emplace_back();
    }
  }
  if (!ends[at].has_value()) {
    ends[at] = token;
  }
}

std::pair<const AddedTokens::Token *, size_t> AddedTokens::Trie::longest(std::string_view text) const {
  std::pair<const Token *, size_t> best{nullptr, 0};
  uint32_t at = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    auto child = nodes[at].find(static_cast<uint8_t>(text[i]));
    if (child == nodes[at].end()) {
      break;
    }
    at = child->second;
    if (ends[at].has_value()) {
      best = {&*ends[at], i + 1};
    }
  }
  return best;
}

AddedTokens AddedTokens::parse(const JsonView &json, const BytePair &model, const Normalizer *normalizer) {
  AddedTokens result;
  for (const JsonView &entry : json.elements()) {
    std::string content = entry.at("content").text();
    auto id = static_cast<int32_t>(entry.at("id").integer(0, maxTokenId));
    if (content.empty()) {
      continue;
    }
    // A token that the model has too keeps the model's id.
    if (int32_t known = model.idOf(content); known >= 0) {
      id = known;
    }
    Token token{id, entry.boolean("single_word", false), entry.boolean("lstrip", false),
                entry.boolean("rstrip", false)};
    bool special = entry.boolean("special", false);
    std::string &shown = result.contentById[id] = content;
    result.idByContent[content] = id;
    result.special[content] |= special;
    if (!entry.boolean("normalized", !special)) {
      result.plain.add(content, token);
      continue;
    }
    std::string form = content;
    if (normalizer != nullptr) {
      Result<std::string> applied = normalizer->apply(content);
      if (!applied.ok()) {
        entry.fail(applied.status().code(), applied.status().message());
      }
      form = *applied;
    }
    if (!form.empty()) {
      result.normalized.add(form, token);
    }
    shown = form; // As the package decodes it: Llama-2's normalizer puts a space in front.
  }
  return result;
}

Status AddedTokens::cut(const Trie &trie, const Piece &piece, std::vector<Section> &out) const {
  std::string_view text = piece.text;
  size_t done = 0;
  auto addText = [&](size_t end) {
    if (done < end) {
      out.push_back({-1, {std::string(text.substr(done, end - done)), piece.atStart && done == 0}});
    }
  };
  for (size_t at = 0; at < text.size();) {
    auto [token, length] = trie.longest(text.substr(at));
    if (token == nullptr) {
      at += characterLength(text.substr(at));
      continue;
    }
    size_t begin = at, end = at + length;
    at = end;
    bool insideWord = (begin > 0 && startsWithWord(text.substr(lastCharacter(text.substr(0, begin))))) ||
                      (end < text.size() && startsWithWord(text.substr(end)));
    if (token->singleWord && insideWord) {
      continue;
    }
    while (token->stripLeft && begin > done) {
      size_t last = lastCharacter(text.substr(0, begin));
      if (spaceLength(text.substr(last, begin - last)) == 0) {
        break;
      }
      begin = std::max(last, done);
    }
    while (token->stripRight && end < text.size() && spaceLength(text.substr(end)) != 0) {
      end += spaceLength(text.substr(end));
    }
    addText(begin);
    out.push_back({token->id, {}});
    done = end;
    at = std::max(at, end);
  }
  addText(text.size());
  return Status();
}

Result<std::vector<Section>> AddedTokens::cut(const std::string &text, const Normalizer *normalizer) const {
  std::vector<Section> first, result;
  MOERT_TRY(cut(plain, {text, true}, first));
  for (Section &section : first) {
    if (section.id >= 0) {
      result.push_back(std::move(section));
      continue;
    }
    if (normalizer != nullptr) {
      MOERT_ASSIGN(rewritten, normalizer->apply(std::move(section.piece.text)));
      section.piece.text = std::move(rewritten);
    }
    MOERT_TRY(cut(normalized, section.piece, result));
  }
  return result;
}

const std::string *AddedTokens::tokenOf(int32_t id) const {
  auto found = contentById.find(id);
  return found == contentById.end() ? nullptr : &found->second;
}

int32_t AddedTokens::idOf(std::string_view token) const {
  auto found = idByContent.find(std::string(token));
  return found == idByContent.end() ? -1 : found->second;
}

bool AddedTokens::isSpecial(const std::string &token) const {
  auto found = special.find(token);
  return found != special.end() && found->second;
}
