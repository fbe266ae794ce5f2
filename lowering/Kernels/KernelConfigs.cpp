//===- KernelConfigs.cpp - The names of kernels ---------------------------===//

#include "lowering/Kernels/KernelConfigs.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::kernels;

std::string mlir::moe::kernels::typeName(Type type) {
  std::string name;
  llvm::raw_string_ostream(name) << type;
  return name;
}

std::string Matmul::name() const {
  std::string name = experts ? "experts" : "linear";
  if (experts) {
    name += tokenRows ? "_up" : "_down";
  }
  name += many ? "_many" : "_few";
  name += "_" + typeName(x) + "_" + typeName(weight) + "_" + typeName(out);
  if (segments > 1) {
    name += "_x" + std::to_string(segments);
  }
  if (gated) {
    name += "_gated" + (up == weight ? std::string() : "_" + typeName(up));
  }
  if (activation) {
    name += "_" + stringifyActivation(*activation).str();
  }
  if (bias) {
    name += "_bias_" + typeName(bias);
  }
  if (upBias) {
    name += "_upbias_" + typeName(upBias);
  }
  if (residual) {
    name += "_residual";
  }
  if (!kDivisible) {
    name += kOdd ? "_kodd" : "_ktail";
  }
  if (!nDivisible) {
    name += "_ntail";
  }
  return name;
}

std::string Embedding::name() const { return "embedding_" + typeName(table) + "_" + typeName(out); }

std::string Add::name() const { return "add_" + typeName(lhs) + "_" + typeName(rhs) + "_" + typeName(out); }

std::string RMSNorm::name() const {
  return "rms_norm_" + typeName(x) + "_" + typeName(weight) + "_" + typeName(out) + "_" +
         stringifyScaleRounding(rounding).str();
}

std::string Rope::name() const { return "rope_" + typeName(x) + (interleaved ? "_interleaved" : ""); }

std::string CacheWrite::name() const { return "cache_write_" + typeName(x) + "_" + typeName(cache); }

std::string Attention::name() const {
  std::string name = std::string("attention_") + (many ? "many_" : "few_") + typeName(x) + "_" + typeName(cache) +
                     "_d" + std::to_string(keyDim);
  if (valueDim != keyDim) {
    name += "_v" + std::to_string(valueDim);
  }
  if (splits > 0) {
    return name + "_splits" + std::to_string(splits);
  }
  if (sinks) {
    name += "_sinks_" + typeName(sinks);
  }
  return name;
}

std::string JoinSplits::name() const {
  std::string name = "join_splits" + std::to_string(splits) + "_" + typeName(out) + "_v" + std::to_string(valueDim);
  return sinks ? name + "_sinks_" + typeName(sinks) : name;
}

std::string SortByExpert::name() const {
  return "sort_by_expert" + (tileRows ? "_tiles" + std::to_string(tileRows) : std::string());
}

std::string Route::name() const {
  std::string name = "route_" + stringifyScore(score).str() + "_" + stringifyRenormalize(renormalize).str();
  if (bias) {
    name += "_bias_" + typeName(bias);
  }
  if (grouped) {
    name += "_groups_" + stringifyGroupScore(groupScore).str();
  }
  if (severalRouters) {
    name += "_routers";
  }
  return name;
}

std::string Combine::name() const {
  return "combine_" + typeName(y) + "_" + typeName(out) + (residual ? "_residual" : "");
}

std::string ScaleRows::name() const {
  return std::string(alongRow ? "scale_columns_" : "scale_rows_") + typeName(in) + "_" + typeName(by) +
         (over ? "_over_" + typeName(over) : "") + "_" + typeName(out);
}

std::string SumRows::name() const {
  std::string name = "sum";
  for (Type type : ins) {
    name += "_" + typeName(type);
  }
  return name + "_to_" + typeName(out);
}

std::string FloorRows::name() const { return "floor_" + typeName(in) + "_" + typeName(out); }

std::string Product::name() const { return "product_" + typeName(lhs) + "_" + typeName(rhs) + "_" + typeName(out); }
