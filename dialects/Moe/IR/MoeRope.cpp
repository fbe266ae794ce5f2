//===- MoeRope.cpp - Rotary frequencies of every RoPE kind ------------------===//

#include "dialects/Moe/IR/MoeRope.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

LogicalResult RopeAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError, RopeKind kind, FloatAttr theta,
                               int64_t dim, int64_t offset, bool interleaved, FloatAttr factor, int64_t originalContext,
                               FloatAttr betaFast, FloatAttr betaSlow, bool truncate, FloatAttr attentionFactor,
                               FloatAttr lowFreqFactor, FloatAttr highFreqFactor, DenseF64ArrayAttr dimFactors) {
  // rope_attr_c1
  if (dim <= 0 || dim % 2 != 0 || offset < 0) {
    return emitError() << "rope dim (" << dim << ") must be positive and even, offset (" << offset << ") not negative";
  }
  // rope_attr_c2
  for (auto [name, value] :
       {std::pair("theta", theta), std::pair("factor", factor), std::pair("attention_factor", attentionFactor)}) {
    if (!(value.getValueAsDouble() > 0) || !std::isfinite(value.getValueAsDouble())) {
      return emitError() << "rope " << name << " (" << value << ") must be positive and finite";
    }
  }
  // rope_attr_c3
  bool needsContext = kind == RopeKind::Llama3 || kind == RopeKind::Yarn || kind == RopeKind::Dynamic;
  if (needsContext && originalContext <= 0) {
    return emitError() << "rope kind " << stringifyRopeKind(kind) << " needs a positive original_context, but it is "
                       << originalContext;
  }
  // rope_attr_c4
  double low = lowFreqFactor.getValueAsDouble(), high = highFreqFactor.getValueAsDouble();
  if (kind == RopeKind::Llama3 && !(low > 0 && high > low && std::isfinite(high))) {
    return emitError() << "rope low_freq_factor (" << lowFreqFactor
                       << ") must be positive and less than high_freq_factor (" << highFreqFactor << ")";
  }
  // rope_attr_c5
  double fast = betaFast.getValueAsDouble(), slow = betaSlow.getValueAsDouble();
  if (kind == RopeKind::Yarn && !(slow > 0 && fast >= slow && std::isfinite(fast))) {
    return emitError() << "rope beta_slow (" << betaSlow << ") must be positive and at most beta_fast (" << betaFast
                       << ")";
  }
  if (kind == RopeKind::Yarn && !(theta.getValueAsDouble() > 1)) {
    return emitError() << "rope theta (" << theta << ") must exceed 1 for kind yarn";
  }
  // rope_attr_c6
  int64_t count = dimFactors ? dimFactors.size() : 0, expected = kind == RopeKind::LongRope ? dim / 2 : 0;
  if (count != expected) {
    return emitError() << "rope kind " << stringifyRopeKind(kind) << " of dim " << dim << " takes " << expected
                       << " dim_factors, but has " << count;
  }
  if (dimFactors && !llvm::all_of(dimFactors.asArrayRef(), [](double f) { return f > 0 && std::isfinite(f); })) {
    return emitError() << "rope dim_factors (" << dimFactors << ") must be positive and finite";
  }
  return success();
}

/// The dim whose wavelength makes `rotations` turns within `context` positions (YaRN, arXiv 2309.00071, section 3.2).
static double yarnDim(double rotations, double dim, double theta, double context) {
  return dim * std::log(context / (rotations * 2 * M_PI)) / (2 * std::log(theta));
}

llvm::SmallVector<double> moe::computeInverseFrequencies(RopeAttr rope) {
  const int64_t half = rope.getDim() / 2;
  const double dim = static_cast<double>(rope.getDim()), factor = rope.getFactor().getValueAsDouble();
  const double context = static_cast<double>(rope.getOriginalContext());
  llvm::SmallVector<double> result(half);
  for (int64_t i = 0; i < half; ++i) {
    result[i] = std::pow(rope.getTheta().getValueAsDouble(), -2.0 * static_cast<double>(i) / dim);
  }
  switch (rope.getKind()) {
  case RopeKind::Default:
  case RopeKind::Dynamic:
    break;
  case RopeKind::Linear:
    for (double &f : result) {
      f /= factor;
    }
    break;
  case RopeKind::Llama3:
    for (double &f : result) {
      double wavelength = 2 * M_PI / f, low = rope.getLowFreqFactor().getValueAsDouble(),
             high = rope.getHighFreqFactor().getValueAsDouble();
      if (wavelength > context / low) {
        f /= factor;
      } else if (wavelength >= context / high) {
        double smooth = (context / wavelength - low) / (high - low);
        f *= (1 - smooth) / factor + smooth;
      }
    }
    break;
  case RopeKind::Yarn: {
    double low = yarnDim(rope.getBetaFast().getValueAsDouble(), dim, rope.getTheta().getValueAsDouble(), context);
    double high = yarnDim(rope.getBetaSlow().getValueAsDouble(), dim, rope.getTheta().getValueAsDouble(), context);
    if (rope.getTruncate()) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1);
    if (low == high) {
      high += 0.001;
    }
    for (int64_t i = 0; i < half; ++i) {
      double ramp = std::min(std::max((static_cast<double>(i) - low) / (high - low), 0.0), 1.0);
      result[i] = result[i] / factor * ramp + result[i] * (1 - ramp);
    }
    break;
  }
  case RopeKind::LongRope:
    for (int64_t i = 0; i < half; ++i) {
      result[i] /= rope.getDimFactors()[i];
    }
    break;
  }
  return result;
}
