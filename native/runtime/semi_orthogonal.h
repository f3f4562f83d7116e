// Reorthogonalisation of Lanczos vectors only when their estimated overlaps ask for it.
//
// Every step orthogonalises against the last two vectors. When an overlap is estimated above
// sqrt(eps) of the storage, the vector and its successor are reorthogonalised as well: against the
// rows whose overlaps are above eps^(3/4) (partial), or against the Ritz vectors that have
// converged (selective), along which alone orthogonality is lost.
#pragma once

#include <limits>
#include <vector>

#include "native/cpu/gram_schmidt.h"
#include "native/runtime/basis.h"
#include "native/runtime/overlap.h"

namespace losscape {

// T without its newest column.
struct Tridiagonal {
  const std::vector<double>& alpha;
  const std::vector<double>& beta;
};

template <typename T>
class SemiOrthogonalizer {
 public:
  // `selective`: against converged Ritz vectors; at most `maxRows` of them.
  SemiOrthogonalizer(size_t storage, size_t maxRows, bool selective);

  // Orthogonalises w, the product of row j = alpha.size(), against rows 0 .. j. removed[j + 1]:
  // what was taken off, as far as known. Updates the estimate; returns whether more than the last
  // two rows took part in *reorthogonalized.
  GramSchmidtNorms Orthogonalize(const Basis<T>& basis, const Tridiagonal& t, T* w,
                                 std::vector<double>& removed, OverlapEstimate* estimate,
                                 bool* reorthogonalized, int threads);

  // The vector after the newest column was replaced by one orthogonal to all rows.
  void Replaced(OverlapEstimate* estimate) const;

  // Forgets what it knows of rows and Ritz vectors: before another run or state.
  void Reset() {
    ready_ = 0;
    kernel_.Truncate(0);
  }
  size_t Bytes() const { return ritz_.Bytes(); }

 private:
  // Steps that are fully reorthogonalised, because that is cheap and shows the noise of products.
  static constexpr size_t kProbeSteps = 5;

  GramSchmidtNorms Probe(const Basis<T>& basis, const Tridiagonal& t, T* w,
                         std::vector<double>& removed, OverlapEstimate* estimate, int threads);
  GramSchmidtNorms Local(const Basis<T>& basis, size_t j, T* w, std::vector<double>& removed,
                         int threads);
  GramSchmidtNorms Purge(const T* const* rows, T* w, std::vector<double>* found, double* overlap,
                         int threads);
  double PurgeRows(const Basis<T>& basis, T* w, double predicted, std::vector<double>* overlaps,
                   std::vector<double>& removed, OverlapEstimate* estimate, int threads);
  // Ritz vectors of T, with its newest column, that have converged and are not held yet.
  std::vector<ConvergedRitz> Converged(const Tridiagonal& t, const NewColumn& column,
                                       const OverlapEstimate& estimate) const;
  // Makes the vectors that the estimate names and that are not in memory, from rows and T.
  void Materialize(const Basis<T>& basis, const std::vector<double>& alpha,
                   const std::vector<double>& beta, const OverlapEstimate& estimate, int threads);

  size_t storage_;
  bool selective_;
  double threshold_;
  double floor_;
  Basis<T> ritz_;
  size_t ready_ = 0;  // rows of ritz_ that hold the first vectors of the estimate
  GramSchmidt<T> kernel_;
};

extern template class SemiOrthogonalizer<float>;
extern template class SemiOrthogonalizer<double>;

}  // namespace losscape
