//===- Dense.cpp - Eigen, compiled for AVX2 -------------------------------===//
//
// Nothing of the standard library is used here: its inline functions, compiled
// for AVX2, could be the ones that the linker keeps for the whole program.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/calibrate/Dense.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>

namespace {

using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

} // namespace

void moerun::addProducts(const float *a, const float *b, int64_t tokens, int64_t width, int64_t begin, int64_t end,
                         double *sums) {
  const Eigen::Map<const MatrixF> left(a, tokens, width), right(b, tokens, width);
  Eigen::Map<MatrixD> total(sums, width, width);
  MatrixF block;
  for (int64_t token = 0; token < tokens; token += kTokensPerBlock) {
    const int64_t rows = tokens - token < kTokensPerBlock ? tokens - token : kTokensPerBlock;
    block.noalias() = left.middleRows(token, rows).transpose() * right.block(token, begin, rows, end - begin);
    total.middleCols(begin, end - begin) += block.cast<double>();
  }
}

void moerun::multiplyRows(const float *x, const float *m, int64_t begin, int64_t end, int64_t width, float *y) {
  const Eigen::Map<const MatrixF> left(x + begin * width, end - begin, width), right(m, width, width);
  Eigen::Map<MatrixF>(y + begin * width, end - begin, width).noalias() = left * right;
}

bool moerun::solveRidge(double *gram, const double *const *crosses, int64_t count, int64_t width, double ridge,
                        float *const *maps) {
  Eigen::Map<MatrixD> matrix(gram, width, width);
  const double lambda = ridge * matrix.diagonal().mean();
  if (!(lambda > 0) || !matrix.allFinite()) {
    return false;
  }
  matrix.diagonal().array() += lambda;
  const Eigen::LLT<MatrixD> factors(matrix);
  if (factors.info() != Eigen::Success) {
    return false;
  }
  MatrixD side;
  for (int64_t i = 0; i < count; ++i) {
    side = Eigen::Map<const MatrixD>(crosses[i], width, width);
    side.diagonal().array() += lambda;
    factors.solveInPlace(side);
    if (!side.allFinite()) {
      return false;
    }
    Eigen::Map<MatrixF>(maps[i], width, width) = side.cast<float>();
  }
  return true;
}
