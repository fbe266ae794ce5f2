//===- WeightTable.cpp - The tensors of a checkpoint, asked for by name -----===//

#include "lowering/HFToMoe/WeightTable.h"
#include "passes/Json/JsonFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::StringRef;
using llvm::Twine;

/// How many faults of one kind are spelled out before "and N more".
static constexpr size_t kMaxListed = 8;

Type WeightTable::getElementType(StringRef name, const TensorHeader &header) {
  Builder b(&context);
  Type type = llvm::StringSwitch<Type>(header.dtype)
                  .Case("F32", b.getF32Type())
                  .Case("BF16", b.getBF16Type())
                  .Case("F16", b.getF16Type())
                  .Case("F64", b.getF64Type())
                  .Default(Type());
  if (!type) {
    auto &entry = foreignTypes[header.dtype];
    if (entry.second++ == 0) {
      entry.first = name.str();
    }
  }
  return type;
}

Type WeightTable::check(StringRef name, llvm::ArrayRef<NamedDim> dims) {
  auto found = tensors.find(name);
  if (found == tensors.end()) {
    missing.push_back(name.str());
    return {};
  }
  used.insert(name);
  const TensorHeader &header = found->second;
  auto sizes = llvm::map_range(dims, [](const NamedDim &dim) { return dim.size; });
  if (!llvm::equal(header.shape, sizes)) {
    std::string actual, expected, keys;
    llvm::raw_string_ostream actualStream(actual), expectedStream(expected), keyStream(keys);
    llvm::interleaveComma(header.shape, actualStream);
    llvm::interleaveComma(sizes, expectedStream);
    llvm::interleaveComma(llvm::map_range(dims, [](const NamedDim &dim) { return dim.keys; }), keyStream);
    faults.push_back("tensor '" + name.str() + "' has shape [" + actual + "], but " + config.str() + " makes it [" +
                     expected + "] = [" + keys + "]; config and weights are of different models or revisions");
    return {};
  }
  Type type = getElementType(name, header);
  if (type) {
    // Dims and expert counts are bounded (ModelConfig.cpp), and a real file bounds the product.
    int64_t elements = 1;
    for (int64_t size : header.shape) {
      elements *= size;
    }
    parameters += elements;
  }
  return type;
}

RankedTensorType WeightTable::find(StringRef name, llvm::ArrayRef<NamedDim> dims) {
  Type type = check(name, dims);
  llvm::SmallVector<int64_t> shape = llvm::map_to_vector(dims, [](const NamedDim &dim) { return dim.size; });
  return RankedTensorType::get(shape, type ? type : Float32Type::get(&context));
}

RankedTensorType WeightTable::findStacked(StringRef pattern, int64_t experts, llvm::ArrayRef<NamedDim> dims) {
  auto [prefix, suffix] = pattern.split("{}");
  llvm::SmallVector<int64_t> shape{experts};
  llvm::append_range(shape, llvm::map_range(dims, [](const NamedDim &dim) { return dim.size; }));
  // The first expert that is there decides the type; one expert of another type is named for all of them.
  Type common;
  StringRef commonDtype;
  int64_t commonExpert = 0;
  bool isMixed = false;
  for (int64_t expert = 0; expert < experts; ++expert) {
    std::string name = (prefix + Twine(expert) + suffix).str();
    Type type = check(name, dims);
    if (!type) {
      continue;
    }
    StringRef dtype = tensors.find(name)->second.dtype;
    if (!common) {
      common = type;
      commonDtype = dtype;
      commonExpert = expert;
    } else if (type != common && !isMixed) {
      isMixed = true;
      faults.push_back("tensor '" + name + "' has dtype " + dtype.str() + ", but expert " +
                       std::to_string(commonExpert) + " has " + commonDtype.str() +
                       "; the experts of a layer must share one dtype");
    }
  }
  return RankedTensorType::get(shape, common ? common : Float32Type::get(&context));
}

/// "'a', 'b' and 3 more".
static std::string listNames(llvm::ArrayRef<std::string> names) {
  std::string result;
  for (const std::string &name : names.take_front(kMaxListed)) {
    result += (result.empty() ? "'" : ", '") + name + "'";
  }
  return result + (names.size() > kMaxListed ? " and " + std::to_string(names.size() - kMaxListed) + " more" : "");
}

llvm::Error WeightTable::finish(bool allowUnused, std::vector<std::string> &notes) const {
  std::vector<std::string> lines(faults.begin(), faults.begin() + std::min(faults.size(), kMaxListed));
  if (faults.size() > kMaxListed) {
    lines.push_back("and " + std::to_string(faults.size() - kMaxListed) + " more tensors like these");
  }
  if (!missing.empty()) {
    lines.push_back(std::to_string(missing.size()) + (missing.size() == 1 ? " tensor is" : " tensors are") +
                    " missing in the checkpoint: " + listNames(missing) + "; is the download complete, and is " +
                    config.str() + " of the same model?");
  }
  for (const auto &[dtype, entry] : foreignTypes) {
    std::string others = entry.second > 1 ? " (and " + std::to_string(entry.second - 1) + " others)" : "";
    lines.push_back(
        "tensor '" + entry.first + "'" + others + " has dtype " + dtype.str() +
        ", which is not supported (supported: F32, BF16, F16, F64); use a checkpoint that is not quantized");
  }
  std::vector<std::string> unused;
  for (StringRef name : tensors.keys()) {
    // Old checkpoints store the frequencies that RoPE is computed from.
    if (!used.contains(name) && !name.ends_with("rotary_emb.inv_freq")) {
      unused.push_back(name.str());
    }
  }
  if (!unused.empty()) {
    llvm::sort(unused);
    std::string text = std::to_string(unused.size()) + (unused.size() == 1 ? " tensor is" : " tensors are") +
                       " not used by the model: " + listNames(unused);
    if (allowUnused) {
      notes.push_back(text);
    } else {
      lines.push_back(text + "; " + config.str() +
                      " does not describe this checkpoint fully (--allow-unused-tensors imports anyway)");
    }
  }
  return lines.empty() ? llvm::Error::success() : makeError(llvm::join(lines, "\n"));
}
