// Dot products between the rows of two blocks of vectors.
//
//   out[i][j] = sum_e a[i][e] b[j][e]        sums in f64
//
// Reads a once per 32 rows of b. Bound by reading up to four rows of b on two AVX2 cores, by
// arithmetic (2 countA countB n FLOP in f64) beyond. Sums of fixed blocks are added in order, so
// that the bits do not depend on the thread count.
#pragma once

#include <cstddef>

namespace losscape {

// a: [countA, n], b: [countB, n], out: [countA, countB]; a may be b.
template <typename T>
void GramRows(const T* a, size_t countA, const T* b, size_t countB, size_t n, double* out,
              int threads);

extern template void GramRows(const float*, size_t, const float*, size_t, size_t, double*, int);
extern template void GramRows(const double*, size_t, const double*, size_t, size_t, double*, int);

}  // namespace losscape
