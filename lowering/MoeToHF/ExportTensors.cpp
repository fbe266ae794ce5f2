//===- ExportTensors.cpp - The tensors of an export, and their bytes --------===//

#include "lowering/MoeToHF/ExportTensors.h"
#include "dialects/Moe/IR/MoeRope.h"
#include "passes/Json/JsonFile.h"
#include <cmath>
#include <cstring>

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static int64_t widthOf(Type element) { return element.getIntOrFloatBitWidth() / 8; }

int64_t ExportTensor::bytes() const {
  int64_t elements = 1;
  for (int64_t dim : shape) {
    elements *= dim;
  }
  return elements * widthOf(element);
}

static ExportTensor makeTensor(const Twine &name, Value value) {
  RankedTensorType type = typeOf(value);
  return {name.str(), value, type.getElementType(), SmallVector<int64_t>(type.getShape()), 0, {}};
}

std::vector<ExportTensor> moe::listHFTensors(const ExportGraph &graph) {
  std::vector<ExportTensor> tensors;
  auto add = [&](const Twine &name, Value value) {
    if (value) {
      tensors.push_back(makeTensor(name, value));
    }
  };
  auto project = [&](const Twine &name, Value weight, Value bias) {
    add(name + ".weight", weight);
    add(name + ".bias", bias);
  };
  add("model.embed_tokens.weight", graph.embedding);
  for (auto [index, layer] : llvm::enumerate(graph.layers)) {
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    add(prefix + "input_layernorm.weight", layer.attentionNorm);
    project(prefix + "self_attn.q_proj", layer.q, layer.qBias);
    project(prefix + "self_attn.k_proj", layer.k, layer.kBias);
    project(prefix + "self_attn.v_proj", layer.v, layer.vBias);
    project(prefix + "self_attn.o_proj", layer.o, layer.oBias);
    add(prefix + "post_attention_layernorm.weight", layer.ffnNorm);
    project(prefix + "mlp.gate_proj", layer.gate, layer.gateBias);
    project(prefix + "mlp.up_proj", layer.up, layer.upBias);
    project(prefix + "mlp.down_proj", layer.down, layer.downBias);
  }
  add("model.norm.weight", graph.finalNorm);
  add("lm_head.weight", graph.head);
  return tensors;
}

/// What llama.cpp divides each frequency by; nothing where the plain ones are meant.
static std::vector<float> frequencyFactors(RopeAttr rope) {
  std::vector<float> factors;
  bool differs = false;
  const double theta = rope.getTheta().getValueAsDouble();
  for (auto [i, frequency] : llvm::enumerate(computeInverseFrequencies(rope))) {
    const double plain = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rope.getDim()));
    differs |= std::abs(plain / frequency - 1) > 1e-12;
    factors.push_back(static_cast<float>(plain / frequency));
  }
  return differs ? factors : std::vector<float>();
}

std::vector<ExportTensor> moe::listGgufTensors(const ExportGraph &graph) {
  std::vector<ExportTensor> tensors;
  Type f32 = Float32Type::get(graph.embedding.getContext());
  auto add = [&](const Twine &name, Value value) {
    if (value) {
      tensors.push_back(makeTensor(name, value));
    }
  };
  // Its kernels multiply by vectors in f32 only.
  auto addNorm = [&](const Twine &name, Value value) {
    add(name, value);
    if (value) {
      tensors.back().element = f32;
    }
  };
  auto addPaired = [&](const Twine &name, Value value, int64_t heads) {
    add(name, value);
    if (value) {
      tensors.back().pairedHeads = heads;
    }
  };
  add("token_embd.weight", graph.embedding);
  if (std::vector<float> factors = frequencyFactors(graph.rope); !factors.empty()) {
    const auto count = static_cast<int64_t>(factors.size());
    tensors.push_back({"rope_freqs.weight", Value(), f32, {count}, 0, std::move(factors)});
  }
  for (auto [index, layer] : llvm::enumerate(graph.layers)) {
    const std::string prefix = "blk." + std::to_string(index) + ".";
    addNorm(prefix + "attn_norm.weight", layer.attentionNorm);
    addPaired(prefix + "attn_q.weight", layer.q, layer.heads);
    addPaired(prefix + "attn_k.weight", layer.k, layer.kvHeads);
    add(prefix + "attn_v.weight", layer.v);
    add(prefix + "attn_output.weight", layer.o);
    addNorm(prefix + "ffn_norm.weight", layer.ffnNorm);
    add(prefix + "ffn_gate.weight", layer.gate);
    add(prefix + "ffn_up.weight", layer.up);
    add(prefix + "ffn_down.weight", layer.down);
  }
  addNorm("output_norm.weight", graph.finalNorm);
  add("output.weight", graph.head);
  return tensors;
}

//===----------------------------------------------------------------------===//
// Bytes
//===----------------------------------------------------------------------===//

/// The rows of `bytes` with those of each head in pairs: row 2i from i, row 2i + 1 from i + D/2.
static Error writePaired(const ExportTensor &tensor, StringRef bytes, llvm::function_ref<Error(StringRef)> sink) {
  const size_t rows = static_cast<size_t>(tensor.shape[0]), rowBytes = bytes.size() / rows;
  const size_t headRows = rows / static_cast<size_t>(tensor.pairedHeads);
  std::string head(headRows * rowBytes, '\0');
  for (size_t first = 0; first < rows; first += headRows) {
    for (size_t row = 0; row < headRows; ++row) {
      const size_t from = first + row / 2 + (row % 2) * (headRows / 2);
      std::memcpy(head.data() + row * rowBytes, bytes.data() + from * rowBytes, rowBytes);
    }
    if (Error error = sink(head)) {
      return error;
    }
  }
  return Error::success();
}

void moe::storeInF32(std::vector<ExportTensor> &tensors) {
  for (ExportTensor &tensor : tensors) {
    if (widthOf(tensor.element) == 2) {
      tensor.element = Float32Type::get(tensor.element.getContext());
    }
  }
}

/// Every number of a 16-bit type as f32, which holds all of them, by its bits.
static std::vector<float> makeWideningTable(Type element) {
  const llvm::fltSemantics &semantics = cast<FloatType>(element).getFloatSemantics();
  std::vector<float> table;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    llvm::APFloat number(semantics, llvm::APInt(16, bits));
    bool losesInfo;
    number.convert(llvm::APFloat::IEEEsingle(), llvm::APFloat::rmNearestTiesToEven, &losesInfo);
    table.push_back(number.convertToFloat());
  }
  return table;
}

/// Elements of a 16-bit type as f32, piece by piece.
static Error writeWide(StringRef bytes, ArrayRef<float> table, llvm::function_ref<Error(StringRef)> sink) {
  constexpr size_t kPiece = 1 << 20;
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    StringRef piece = bytes.substr(at, kPiece);
    std::string wide(piece.size() * 2, '\0');
    for (size_t i = 0; i < piece.size() / 2; ++i) {
      uint16_t bits;
      std::memcpy(&bits, piece.data() + 2 * i, sizeof(bits));
      std::memcpy(wide.data() + 4 * i, &table[bits], sizeof(float));
    }
    if (Error error = sink(wide)) {
      return error;
    }
  }
  return Error::success();
}

Error moe::writeTensor(const ExportTensor &tensor, WeightBytes &weights, llvm::function_ref<Error(StringRef)> sink) {
  if (!tensor.value) {
    return sink(
        StringRef(reinterpret_cast<const char *>(tensor.contents.data()), tensor.contents.size() * sizeof(float)));
  }
  Expected<StringRef> bytes = weights.read(tensor.value);
  if (!bytes) {
    return bytes.takeError();
  }
  const Type stored = typeOf(tensor.value).getElementType();
  const int64_t expected = tensor.bytes() / widthOf(tensor.element) * widthOf(stored);
  if (static_cast<int64_t>(bytes->size()) != expected) {
    return makeError("tensor '" + tensor.name + "' has " + Twine(bytes->size()) + " bytes, but its shape makes it " +
                     Twine(expected));
  }
  std::vector<float> table;
  auto convert = [&](StringRef piece) { return writeWide(piece, table, sink); };
  llvm::function_ref<Error(StringRef)> last = sink;
  if (stored != tensor.element) {
    assert(tensor.element.isF32() && widthOf(stored) == 2 && "nothing else is converted");
    table = makeWideningTable(stored);
    last = convert;
  }
  return tensor.pairedHeads != 0 ? writePaired(tensor, *bytes, last) : last(*bytes);
}
