// Linear combinations of the rows of a basis: Ritz vectors, updates of blocks.
//
//   out[k] = [out[k] +] sum_j coefficients[k * rows + j] V[j]        in f64, rounded once
//
// Bound by arithmetic (2 count rows n FLOP in f64) from a handful of combinations on, by reading V
// before that: V is read from memory once for all of them, a tile of columns at a time.
#pragma once

#include <cstddef>

namespace losscape {

// basis[rows]: rows of at least n elements; out: [count, stride], apart from the basis.
template <typename T>
void CombineRows(const T* const* basis, size_t rows, const double* coefficients, size_t count,
                 T* out, size_t stride, size_t n, int threads, bool add = false);

}  // namespace losscape
