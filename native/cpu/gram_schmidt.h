// Orthogonalises a vector against the rows of a basis V [count, n] by classical Gram-Schmidt.
//
//   one pass:    c = V w;  w -= V^T c
//   two passes:  d = V (w - V^T c) = c - (V V^T) c, so  c = V w;  w -= V^T (c + d)
//
// Bound by reading V. The second pass needs no reads of its own: V V^T is kept, and its newest
// column V v costs none either, because it is taken while V is read for c. Two sweeps, where two
// passes one after the other take four. The identity hides what rounding adds to w, which is
// harmless until most of w cancels: when less than a tenth of it is left, the second pass is made
// explicitly as well (two more sweeps).
//
// Arithmetic is f64 and w is rounded once, whatever the basis is stored in (f32 chains cost two
// digits of orthogonality and save nothing: memory is the limit). Sums of fixed blocks are added in
// order, so that the bits do not depend on the thread count. Sources: Giraud, Langou, Rozloznik,
// van den Eshof 2005 (twice is enough); Bielich, Langou et al. 2022 (delayed reorthogonalisation).
#pragma once

#include <cstddef>
#include <vector>

namespace losscape {

// Rows and w start on 64-byte boundaries and have n elements, n a multiple of this; the elements
// that pad a vector to it are zero.
constexpr size_t kBasisElements = 64;

constexpr size_t PadToBasis(size_t n) {
  return (n + kBasisElements - 1) / kBasisElements * kBasisElements;
}

struct GramSchmidtNorms {
  double before;  // ||w|| as it came
  double after;   // ||w|| as it went
};

// Between calls of Twice rows may only be appended, except after Truncate.
template <typename T>
class GramSchmidt {
 public:
  // Two passes. coefficients[count]: what was removed in all.
  GramSchmidtNorms Twice(const T* const* rows, size_t count, T* w, size_t n, double* coefficients,
                         int threads);
  // One pass.
  GramSchmidtNorms Once(const T* const* rows, size_t count, T* w, size_t n, double* coefficients,
                        int threads);
  // coefficients = V w
  void Project(const T* const* rows, size_t count, const T* w, size_t n, double* coefficients,
               int threads);
  // Forgets V V^T beyond the first `rows` rows: before those change. What is missing is taken again
  // by the next Twice, row by row.
  void Truncate(size_t rows) {
    if (rows < gram_.size()) gram_.resize(rows);
  }

 private:
  struct alignas(64) Line {
    double values[8];
  };

  void Dots(const T* const* rows, size_t count, const T* w, const T* newest, size_t n, int threads);
  double Remove(const T* const* rows, size_t count, T* w, size_t n, const double* coefficients,
                int threads);

  std::vector<std::vector<double>> gram_;  // row k: V[0..k] V[k]
  std::vector<double> partial_;            // [blocks, 2 count + 1]
  std::vector<double> dots_;               // [count] V w, [count] V newest, ||w||^2
  std::vector<Line> scratch_;              // [threads, columns of a block] of f64
};

extern template class GramSchmidt<float>;
extern template class GramSchmidt<double>;

}  // namespace losscape
