// Elementwise norms over rows.
//
//   y_i = sqrt(y_i^2 + sum_j x_ji^2)        right over the whole range of T
//
// Squares of f32 are in f64, which holds them all; those of f64 are scaled by the largest element.
// Bound by memory: rows + 2 reads and writes of n elements.
#pragma once

#include <cstddef>

namespace losscape {

// x: rows of n, `stride` elements apart; y >= 0.
template <typename T>
void HypotRows(const T* x, size_t rows, size_t stride, T* y, size_t n, int threads);

}  // namespace losscape
