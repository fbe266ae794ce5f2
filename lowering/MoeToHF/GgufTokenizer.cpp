//===- GgufTokenizer.cpp - tokenizer.json as metadata of a GGUF file --------===//

#include "lowering/MoeToHF/GgufTokenizer.h"
#include "passes/Json/JsonFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <map>

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace json = llvm::json;

/// llama.cpp's kinds of tokens.
enum TokenType : int64_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };
/// Tokenizers of 10^5 tokens have some 20 MB.
static constexpr uint64_t kMaxTokenizerBytes = 256 << 20;

static std::string joinPath(StringRef directory, StringRef name) {
  llvm::SmallString<256> path(directory);
  llvm::sys::path::append(path, name);
  return path.str().str();
}

/// Reads `name` of `directory` as text; nothing if it is not there.
static Expected<std::optional<std::string>> readText(StringRef directory, StringRef name) {
  const std::string path = joinPath(directory, name);
  llvm::sys::fs::file_status status;
  if (llvm::sys::fs::status(path, status) == std::errc::no_such_file_or_directory) {
    return std::nullopt;
  }
  if (!llvm::sys::fs::is_regular_file(status) || status.getSize() > kMaxTokenizerBytes) {
    return makeError(path + ": must be a regular file of at most " + Twine(kMaxTokenizerBytes) + " bytes");
  }
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) {
    return makeError(path + ": cannot be read: " + buffer.getError().message());
  }
  return (*buffer)->getBuffer().str();
}

/// Reads `name` of `directory` as an object; an empty one if it is not there and need not be.
static Expected<json::Object> readObject(StringRef directory, StringRef name, bool required) {
  Expected<std::optional<std::string>> text = readText(directory, name);
  if (!text) {
    return text.takeError();
  }
  if (!*text) {
    return required
               ? Expected<json::Object>(makeError(directory + ": has no " + name + ", which a GGUF file is made from"))
               : json::Object();
  }
  Expected<json::Value> value = parseJson(**text, joinPath(directory, name));
  if (!value) {
    return value.takeError();
  }
  json::Object *object = value->getAsObject();
  if (!object) {
    return makeError(joinPath(directory, name) + ": must hold a JSON object, but holds " + describe(*value));
  }
  return std::move(*object);
}

//===----------------------------------------------------------------------===//
// How text is cut
//===----------------------------------------------------------------------===//

static bool isType(const json::Object *object, StringRef type) { return object && object->getString("type") == type; }

/// The regex of a pre-tokenizer's step `Split`, which keeps what it matches as pieces; empty for another step.
static StringRef splitRegex(const json::Object *step) {
  const json::Object *pattern = isType(step, "Split") ? step->getObject("pattern") : nullptr;
  const bool isolates =
      pattern && step->getString("behavior") == "Isolated" && !step->getBoolean("invert").value_or(false);
  return isolates ? pattern->getString("Regex").value_or("") : "";
}

/// llama.cpp's name for the pre-tokenizer `whole`; empty if it is not one of those that are known.
static StringRef nameOfPreTokenizer(const json::Object *whole) {
  // What these regexes cut off is in llama.cpp under the name beside them.
  static constexpr std::pair<llvm::StringLiteral, llvm::StringLiteral> kRegexes[] = {
      {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
       "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
       "|\\s+(?!\\S)|\\s+",
       "llama-bpe"},
      {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
       "|\\s+(?!\\S)|\\s+",
       "qwen2"},
  };
  if (!whole) {
    return "";
  }
  auto cutsByItself = [](const json::Object *step) { return step->getBoolean("use_regex").value_or(true); };
  auto isByteLevel = [](const json::Object *step) {
    return isType(step, "ByteLevel") && !step->getBoolean("add_prefix_space").value_or(true);
  };
  if (isByteLevel(whole) && cutsByItself(whole)) {
    return "gpt-2";
  }
  const json::Array *steps = isType(whole, "Sequence") ? whole->getArray("pretokenizers") : nullptr;
  if (!steps || steps->size() != 2) {
    return "";
  }
  const json::Object *first = (*steps)[0].getAsObject(), *second = (*steps)[1].getAsObject();
  if (!isByteLevel(second)) {
    return "";
  }
  if (isType(first, "Digits") && first->getBoolean("individual_digits").value_or(false) && cutsByItself(second)) {
    return "smollm";
  }
  for (const auto &[regex, name] : kRegexes) {
    if (!cutsByItself(second) && splitRegex(first) == regex) {
      return name;
    }
  }
  return "";
}

//===----------------------------------------------------------------------===//
// Tokens
//===----------------------------------------------------------------------===//

namespace {

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
  std::map<std::string, int64_t> ids;
};

} // namespace

static Expected<Vocabulary> readVocabulary(const json::Object &tokenizer, const json::Object &model, StringRef file,
                                           int64_t size) {
  Vocabulary vocabulary;
  vocabulary.types.assign(static_cast<size_t>(size), kUnused);
  for (int64_t id = 0; id < size; ++id) {
    vocabulary.tokens.push_back("[PAD" + std::to_string(id) + "]");
  }
  auto set = [&](StringRef token, std::optional<int64_t> id, TokenType type) -> Error {
    if (!id || *id < 0 || *id >= size) {
      return makeError(file + ": token '" + token + "' has the id " + (id ? Twine(*id).str() : "that is no integer") +
                       ", but the model has " + Twine(size) + " (0 to " + Twine(size - 1) + ")");
    }
    vocabulary.tokens[static_cast<size_t>(*id)] = token.str();
    vocabulary.types[static_cast<size_t>(*id)] = type;
    vocabulary.ids[token.str()] = *id;
    return Error::success();
  };
  const json::Object *vocab = model.getObject("vocab");
  if (!vocab) {
    return makeError(file + ": 'model.vocab' is missing or no object");
  }
  for (const auto &entry : *vocab) {
    if (Error error = set(entry.first, entry.second.getAsInteger(), kNormal)) {
      return std::move(error);
    }
  }
  if (const json::Array *added = tokenizer.getArray("added_tokens")) {
    for (const json::Value &value : *added) {
      const json::Object *token = value.getAsObject();
      std::optional<StringRef> content = token ? token->getString("content") : std::nullopt;
      if (!content) {
        return makeError(file + ": an entry of 'added_tokens' has no 'content'");
      }
      const bool special = token->getBoolean("special").value_or(false);
      if (Error error = set(*content, token->getInteger("id"), special ? kControl : kUserDefined)) {
        return std::move(error);
      }
    }
  }
  return vocabulary;
}

/// Merges as "a b"; newer files have pairs.
static Expected<std::vector<std::string>> readMerges(const json::Object &model, StringRef file) {
  std::vector<std::string> merges;
  const json::Array *list = model.getArray("merges");
  if (!list) {
    return makeError(file + ": 'model.merges' is missing or no array");
  }
  for (auto [i, value] : llvm::enumerate(*list)) {
    const json::Array *pair = value.getAsArray();
    if (std::optional<StringRef> text = value.getAsString()) {
      merges.push_back(text->str());
    } else if (pair && pair->size() == 2 && (*pair)[0].getAsString() && (*pair)[1].getAsString()) {
      merges.push_back((*(*pair)[0].getAsString() + " " + *(*pair)[1].getAsString()).str());
    } else {
      return makeError(file + ": merge " + Twine(i) + " must be a string or a pair of strings, but is " +
                       describe(value));
    }
    if (StringRef(merges.back()).count(' ') != 1) {
      return makeError(file + ": merge " + Twine(i) + " ('" + merges.back() +
                       "') has a space in a token, which no byte-level BPE has");
    }
  }
  return merges;
}

/// The id of a special token: by name in tokenizer_config.json, else as a number (or the first of several) in the
/// config.
static std::optional<int64_t> findSpecial(const json::Object &tokenizerConfig, const json::Object &config,
                                          const Vocabulary &vocabulary, StringRef name) {
  std::optional<StringRef> token = tokenizerConfig.getString((name + "_token").str());
  if (const json::Object *object = tokenizerConfig.getObject((name + "_token").str())) {
    token = object->getString("content");
  }
  if (token) {
    if (auto found = vocabulary.ids.find(token->str()); found != vocabulary.ids.end()) {
      return found->second;
    }
  }
  const std::string key = (name + "_token_id").str();
  if (const json::Array *several = config.getArray(key)) {
    return several->empty() ? std::nullopt : several->front().getAsInteger();
  }
  return config.getInteger(key);
}

/// Whether the post-processor begins a text with a special token.
static bool beginsWithSpecial(const json::Object &tokenizer) {
  const json::Object *processor = tokenizer.getObject("post_processor");
  if (isType(processor, "Sequence")) {
    const json::Array *list = processor->getArray("processors");
    for (const json::Value &value : list ? *list : json::Array()) {
      if (isType(value.getAsObject(), "TemplateProcessing")) {
        processor = value.getAsObject();
      }
    }
  }
  const json::Array *single = isType(processor, "TemplateProcessing") ? processor->getArray("single") : nullptr;
  const json::Object *first = single && !single->empty() ? single->front().getAsObject() : nullptr;
  return first && first->getObject("SpecialToken");
}

Error moe::addTokenizerKeys(GgufMetadata &metadata, StringRef directory, const json::Object &config,
                            StringRef preTokenizer, int64_t vocab) {
  const std::string file = joinPath(directory, "tokenizer.json");
  Expected<json::Object> tokenizer = readObject(directory, "tokenizer.json", /*required=*/true);
  if (!tokenizer) {
    return tokenizer.takeError();
  }
  Expected<json::Object> tokenizerConfig = readObject(directory, "tokenizer_config.json", /*required=*/false);
  if (!tokenizerConfig) {
    return tokenizerConfig.takeError();
  }
  const json::Object *model = tokenizer->getObject("model");
  if (!isType(model, "BPE") || model->getBoolean("byte_fallback").value_or(false)) {
    return makeError(file + ": is not a byte-level BPE (model.type 'BPE' without byte_fallback), and only those are "
                            "written to GGUF files; convert the tokenizer with llama.cpp's own tools");
  }
  StringRef name = preTokenizer.empty() ? nameOfPreTokenizer(tokenizer->getObject("pre_tokenizer")) : preTokenizer;
  if (name.empty()) {
    return makeError(file + ": its 'pre_tokenizer' is none of those whose name in llama.cpp is known here (gpt-2, "
                            "smollm, llama-bpe, qwen2); give the name with --pre-tokenizer");
  }
  Expected<Vocabulary> vocabulary = readVocabulary(*tokenizer, *model, file, vocab);
  if (!vocabulary) {
    return vocabulary.takeError();
  }
  Expected<std::vector<std::string>> merges = readMerges(*model, file);
  if (!merges) {
    return merges.takeError();
  }
  metadata.addString("tokenizer.ggml.model", "gpt2");
  metadata.addString("tokenizer.ggml.pre", name);
  metadata.addStrings("tokenizer.ggml.tokens", vocabulary->tokens);
  metadata.addInts("tokenizer.ggml.token_type", vocabulary->types);
  metadata.addStrings("tokenizer.ggml.merges", *merges);
  static constexpr std::pair<llvm::StringLiteral, llvm::StringLiteral> kSpecial[] = {
      {"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"}};
  for (const auto &[hf, gguf] : kSpecial) {
    if (std::optional<int64_t> id = findSpecial(*tokenizerConfig, config, *vocabulary, hf)) {
      metadata.addUInt(("tokenizer.ggml." + gguf + "_token_id").str(), *id);
    }
  }
  metadata.addBool("tokenizer.ggml.add_bos_token",
                   tokenizerConfig->getBoolean("add_bos_token").value_or(beginsWithSpecial(*tokenizer)));
  Expected<std::optional<std::string>> chat = readText(directory, "chat_template.jinja");
  if (!chat) {
    return chat.takeError();
  }
  if (*chat) {
    metadata.addString("tokenizer.chat_template", **chat);
  } else if (std::optional<StringRef> text = tokenizerConfig->getString("chat_template")) {
    metadata.addString("tokenizer.chat_template", *text);
  }
  return Error::success();
}
