// Replaces the first rows of a basis by combinations of all its rows, in place.
//
//   V[k] <- sum_j coefficients[k * rows + j] V[j],  k < count        in f64, rounded once
//
// Reads the basis once and needs one tile of columns beside it, per thread.
#pragma once

#include <cstddef>

namespace losscape {

// basis[rows]: rows of at least n elements; count <= rows.
template <typename T>
void RotateRows(T* const* basis, size_t rows, const double* coefficients, size_t count, size_t n,
                int threads);

}  // namespace losscape
