// Matrix products that are too small for a library: y [m, n] = op(a) op(b) [+ y], dense row-major.
//
// op(a) [m, k] is stored [k, m] when transA; op(b) [k, n] is stored [n, k] when transB. Panels of b
// are packed on the stack, a is read in place, and rows or columns of y are split over the threads,
// so that an element's sum has the same order for every thread count. 2 m n k FLOP.
#pragma once

#include <cstdint>

namespace losscape {

struct GemmSize {
  int64_t m;
  int64_t n;
  int64_t k;
  bool transA;
  bool transB;
};

void SmallGemm(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate,
               int threads);
void SmallGemm(const GemmSize& size, const double* a, const double* b, double* y, bool accumulate,
               int threads);

}  // namespace losscape
