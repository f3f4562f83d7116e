// Matrix products that are too small for a library: y [m, n] = op(a) op(b) [+ y], dense row-major.
//
// op(a) [m, k] is stored [k, m] when transA; op(b) [k, n] is stored [n, k] when transB. Panels of b
// are packed on the stack, a is read in place, and rows or columns of y are split over the threads,
// so that an element's sum has the same order for every thread count. 2 m n k FLOP.
//
// A sum of two products stays in registers, and a panel of a shared b is packed once for a batch.
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

// y [count, m, n], one matrix after another.
struct GemmBatch {
  int64_t count;
  int64_t m;
  int64_t n;
  bool transA;
};

template <typename T>
struct GemmTerm {
  const T* a;
  const T* b;
  int64_t k;
  bool transB;
  int64_t stepA;  // elements to the matrix of the next product; 0 where all share one
  int64_t stepB;
};

constexpr int kGemmTerms = 2;

// y[i] = sum over the terms of op(a[i]) op(b[i]) [+ y[i]], of 1 to kGemmTerms terms.
void SmallGemmSum(const GemmBatch& batch, const GemmTerm<float>* terms, int count, float* y,
                  bool accumulate, int threads);
void SmallGemmSum(const GemmBatch& batch, const GemmTerm<double>* terms, int count, double* y,
                  bool accumulate, int threads);

}  // namespace losscape
