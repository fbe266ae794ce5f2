//===- GgufTokenizer.h - tokenizer.json as metadata of a GGUF file ----------===//
//
// llama.cpp has no tokenizer files: a model's file holds the vocabulary, and the
// name of a way to cut text that is compiled into the engine. Which name belongs
// to a tokenizer.json is told by its pre-tokenizer; one that is not in the table
// is an error, for a wrong name would encode text wrongly and say nothing.
// Byte-level BPE only.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOHF_GGUFTOKENIZER_H
#define MOE_LOWERING_MOETOHF_GGUFTOKENIZER_H

#include "lowering/MoeToHF/GgufFile.h"
#include "llvm/Support/JSON.h"

namespace mlir::moe {

/// Adds the keys of the tokenizer in `directory`. `config`: its config.json, which knows the special tokens.
/// `preTokenizer`: llama.cpp's name of the way to cut text; empty: found in a table. `vocab`: rows of the embedding.
llvm::Error addTokenizerKeys(GgufMetadata &metadata, llvm::StringRef directory, const llvm::json::Object &config,
                             llvm::StringRef preTokenizer, int64_t vocab);

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOHF_GGUFTOKENIZER_H
