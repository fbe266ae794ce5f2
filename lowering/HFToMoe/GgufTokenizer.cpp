//===- GgufTokenizer.cpp - The tokenizer of a GGUF file as tokenizer.json ---===//
//
// Byte-level BPE only ("gpt2"): tokens and merges are carried over, the name of
// the pre-tokenizer becomes the pattern that it stands for. A name that is not
// known here has no safe guess: a wrong pattern gives wrong ids without a word.
//
//===----------------------------------------------------------------------===//

#include "lowering/HFToMoe/GgufConfig.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::StringRef;
using moert::readers::GgufHeader;
namespace json = llvm::json;

namespace {

/// The type of a token, as the format numbers them.
enum TokenType : int64_t { kControl = 3, kUserDefined = 4 };

template <typename T> const T *find(const GgufHeader &header, const char *key) {
  auto found = header.metadata.find(key);
  return found == header.metadata.end() ? nullptr : std::get_if<T>(&found->second);
}

json::Object byteLevel(bool useRegex) {
  return json::Object{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", useRegex}};
}

/// GPT-2's pattern is ByteLevel's own; others stand before it.
json::Value splitThenBytes(StringRef pattern) {
  json::Object split{
      {"type", "Split"}, {"pattern", json::Object{{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  return json::Object{{"type", "Sequence"}, {"pretokenizers", json::Array{std::move(split), byteLevel(false)}}};
}

/// The pre-tokenizer that `name` stands for, or null.
json::Value preTokenizer(StringRef name) {
  if (name == "gpt-2") {
    return byteLevel(true);
  }
  if (name == "smollm") {
    json::Object digits{{"type", "Digits"}, {"individual_digits", true}};
    return json::Object{{"type", "Sequence"}, {"pretokenizers", json::Array{std::move(digits), byteLevel(true)}}};
  }
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    return splitThenBytes(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                          R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  }
  if (name == "qwen2") {
    return splitThenBytes(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                          R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  }
  return nullptr;
}

} // namespace

/// tokenizer.json, or why there is none.
static std::string convert(const GgufHeader &header, std::string &problem) {
  const auto *kind = find<std::string>(header, "tokenizer.ggml.model");
  const auto *pre = find<std::string>(header, "tokenizer.ggml.pre");
  const auto *tokens = find<std::vector<std::string>>(header, "tokenizer.ggml.tokens");
  const auto *merges = find<std::vector<std::string>>(header, "tokenizer.ggml.merges");
  const auto *types = find<std::vector<int64_t>>(header, "tokenizer.ggml.token_type");
  if (!kind || !tokens) {
    problem = "the file has no tokenizer";
    return "";
  }
  if (*kind != "gpt2" || !merges) {
    problem = "its tokenizer is of kind '" + *kind + "', of which only byte-level BPE ('gpt2') is converted";
    return "";
  }
  json::Value splitter = preTokenizer(pre ? StringRef(*pre) : "");
  if (splitter.kind() == json::Value::Null) {
    problem = pre ? "its pre-tokenizer is called '" + *pre + "'; known are gpt-2, smollm, llama-bpe, qwen2"
                  : "it does not name its pre-tokenizer ('tokenizer.ggml.pre')";
    return "";
  }
  json::Object vocab;
  json::Array added;
  for (auto [id, token] : llvm::enumerate(*tokens)) {
    if (!json::isUTF8(token)) {
      problem = llvm::formatv("token {0} is not UTF-8", id).str();
      return "";
    }
    if (!vocab.try_emplace(json::ObjectKey(token), int64_t(id)).second) {
      problem = llvm::formatv("the token '{0}' appears twice", token).str();
      return "";
    }
    const int64_t type = types && id < types->size() ? (*types)[id] : 1;
    if (type == kControl || type == kUserDefined) {
      added.push_back(json::Object{{"id", int64_t(id)},
                                   {"content", token},
                                   {"single_word", false},
                                   {"lstrip", false},
                                   {"rstrip", false},
                                   {"normalized", false},
                                   {"special", type == kControl}});
    }
  }
  json::Array rules;
  for (const std::string &merge : *merges) {
    auto [left, right] = StringRef(merge).split(' ');
    if (right.empty() || !json::isUTF8(merge)) {
      problem = "a merge rule is not two tokens with a blank between them";
      return "";
    }
    rules.push_back(json::Array{left, right});
  }
  const bool isLlama3 = pre && StringRef(*pre).starts_with("llama");
  json::Object result{
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", nullptr},
      {"pre_tokenizer", std::move(splitter)},
      {"post_processor", nullptr},
      {"decoder",
       json::Object{{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", json::Object{{"type", "BPE"},
                             {"dropout", nullptr},
                             {"unk_token", nullptr},
                             {"continuing_subword_prefix", nullptr},
                             {"end_of_word_suffix", nullptr},
                             {"fuse_unk", false},
                             {"byte_fallback", false},
                             {"ignore_merges", isLlama3},
                             {"vocab", std::move(vocab)},
                             {"merges", std::move(rules)}}}};
  const auto *bos = find<int64_t>(header, "tokenizer.ggml.bos_token_id");
  const auto *addBos = find<bool>(header, "tokenizer.ggml.add_bos_token");
  if (addBos && *addBos && bos && *bos >= 0 && static_cast<size_t>(*bos) < tokens->size()) {
    const std::string &token = (*tokens)[*bos];
    auto special = [&](int64_t type) {
      return json::Object{{"SpecialToken", json::Object{{"id", token}, {"type_id", type}}}};
    };
    auto sequence = [](StringRef id, int64_t type) {
      return json::Object{{"Sequence", json::Object{{"id", id}, {"type_id", type}}}};
    };
    result["post_processor"] = json::Object{
        {"type", "TemplateProcessing"},
        {"single", json::Array{special(0), sequence("A", 0)}},
        {"pair", json::Array{special(0), sequence("A", 0), special(1), sequence("B", 1)}},
        {"special_tokens",
         json::Object{
             {token, json::Object{{"id", token}, {"ids", json::Array{*bos}}, {"tokens", json::Array{token}}}}}}};
  }
  return llvm::formatv("{0}\n", json::Value(std::move(result))).str();
}

GgufTokenizer moe::convertGgufTokenizer(const GgufHeader &header) {
  GgufTokenizer result;
  result.tokenizer = convert(header, result.problem);
  json::Object generation;
  for (auto [key, name] : {std::pair("tokenizer.ggml.bos_token_id", "bos_token_id"),
                           std::pair("tokenizer.ggml.eos_token_id", "eos_token_id")}) {
    if (const auto *id = find<int64_t>(header, key)) {
      generation[name] = *id;
    }
  }
  result.generation = llvm::formatv("{0:2}\n", json::Value(std::move(generation))).str();
  return result;
}
