//===- Dense.h - The arithmetic of repair maps ------------------*- C++ -*-===//
//
// Products and solves of dense matrices, by Eigen, behind plain pointers: the one
// file that includes Eigen is compiled for AVX2, which every package asks for,
// and so shares no inline function with the rest of the program.
//
// Matrices are row-major. Products over tokens are f32 within a block of
// kTokensPerBlock tokens and are added up in f64.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TOOLS_MOERUN_CALIBRATE_DENSE_H
#define MOE_TOOLS_MOERUN_CALIBRATE_DENSE_H

#include <cstdint>

namespace moerun {

constexpr int64_t kTokensPerBlock = 256;

/// sums[:, begin .. end) += a^T b[:, begin .. end); a, b: [tokens, width], sums: [width, width].
void addProducts(const float *a, const float *b, int64_t tokens, int64_t width, int64_t begin, int64_t end,
                 double *sums);

/// y = x m for rows begin .. end; x, y: [rows, width], m: [width, width].
void multiplyRows(const float *x, const float *m, int64_t begin, int64_t end, int64_t width, float *y);

/// For each of `count` right sides: (gram + lambda I)^-1 (cross + lambda I), lambda = ridge * mean diagonal of `gram`:
/// the map that takes x to y best, x^T x = gram, x^T y = cross, pulled to the identity. `gram` is overwritten. False if
/// it is zero, not finite or not positive definite.
bool solveRidge(double *gram, const double *const *crosses, int64_t count, int64_t width, double ridge,
                float *const *maps);

} // namespace moerun

#endif // MOE_TOOLS_MOERUN_CALIBRATE_DENSE_H
