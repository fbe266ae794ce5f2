//===- GgufConfig.h - What the metadata of a GGUF file says about a model ---===//
//
// Turns the metadata of the architectures `llama` and `deci` into the numbers
// that config.json gives for other checkpoints. The files of both keep the rows
// of q and k of every head in the order that turns neighbouring dims; this is
// said by the config (`RopeConfig::interleaved`), so that no weight is moved:
// attention does not care in which order the dims of a head are.
// Keys that would change what is computed, and have no meaning here, are
// errors; other unknown keys are passed over.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_HFTOMOE_GGUFCONFIG_H
#define MOE_LOWERING_HFTOMOE_GGUFCONFIG_H

#include "lowering/HFToMoe/ModelConfig.h"
#include "runtime/readers/Gguf.h"

namespace mlir::moe {

/// The tensor that holds divisors of RoPE's frequencies.
constexpr llvm::StringLiteral kGgufRopeFactors = "rope_freqs.weight";

/// What a GGUF file calls the tensor that Hugging Face checkpoints call `name`; names that it does not have are the
/// same.
std::string getGgufTensorName(llvm::StringRef name);

/// Reads the config of the file at `path` with the header `header`; every wrong key is reported, one line each.
llvm::Expected<ModelConfig> readGgufConfig(const moert::readers::GgufHeader &header, llvm::StringRef path);

/// The tokenizer and the end tokens of a GGUF file as the files that packages have.
struct GgufTokenizer {
  /// tokenizer.json; empty when the file's tokenizer has no such form, for the reason in `problem`.
  std::string tokenizer, problem;
  /// generation_config.json.
  std::string generation;
};
GgufTokenizer convertGgufTokenizer(const moert::readers::GgufHeader &header);

} // namespace mlir::moe

#endif // MOE_LOWERING_HFTOMOE_GGUFCONFIG_H
