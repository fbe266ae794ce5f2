//===- MoeRope.cpp - Rotary frequencies of every RoPE kind ------------------===//

#include "dialects/Moe/IR/MoeRope.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

LogicalResult RopeAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError, RopeKind kind, FloatAttr theta,
                               int64_t dim, int64_t offset, bool interleaved, FloatAttr factor, int64_t originalContext,
                               FloatAttr betaFast, FloatAttr betaSlow, bool truncate, FloatAttr attentionFactor,
                               FloatAttr lowFreqFactor, FloatAttr highFreqFactor, DenseF64ArrayAttr dimFactors) {
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
      double wavelength = 2 * M_PI / f, low = rope.getLowFreqFactor().getValueAsDouble(), high = rope.getHighFreqFactor().getValueAsDouble();
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
