#include "native/runtime/semi_orthogonal.h"

#include <algorithm>
#include <cmath>

#include "native/cpu/combine.h"
#include "native/cpu/vector.h"
#include "native/runtime/tridiagonal.h"

namespace losscape {
namespace {

// Share of w that may be left by one pass; below it rounding of what was removed counts too.
constexpr double kCancellation = 0.1;

double LargestMagnitude(const std::vector<double>& values) {
  double largest = 0;
  for (double value : values) {
    if (std::isnan(value)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::fabs(value));
  }
  return largest;
}

}  // namespace

template <typename T>
SemiOrthogonalizer<T>::SemiOrthogonalizer(size_t storage, size_t maxRows, bool selective)
    : storage_(storage),
      selective_(selective),
      threshold_(std::sqrt(static_cast<double>(std::numeric_limits<T>::epsilon()))),
      // Rounding of n elements to storage is random in an overlap, and sums are f64.
      floor_(std::max(std::numeric_limits<T>::epsilon() *
                          std::min(1.0, 4 / std::sqrt(static_cast<double>(storage))),
                      2 * std::numeric_limits<double>::epsilon())),
      ritz_(storage, selective ? maxRows : 0) {}

template <typename T>
GramSchmidtNorms SemiOrthogonalizer<T>::Probe(const Basis<T>& basis, const Tridiagonal& t, T* w,
                                              std::vector<double>& removed,
                                              OverlapEstimate* estimate, int threads) {
  const size_t j = t.alpha.size();
  const GramSchmidtNorms norms =
      kernel_.Twice(basis.rows(), j + 1, w, basis.stride(), removed.data(), threads);
  estimate->noise = std::max(estimate->noise, floor_);
  for (size_t k = 0; k + 1 < j; ++k) {
    const double scale = ProductNorm(t.alpha, t.beta, k) + norms.before;
    // A few samples: the largest of a run is some three times as large.
    if (scale > 0) estimate->noise = std::max(estimate->noise, 3 * std::fabs(removed[k]) / scale);
  }
  return norms;
}

template <typename T>
GramSchmidtNorms SemiOrthogonalizer<T>::Local(const Basis<T>& basis, size_t j, T* w,
                                              std::vector<double>& removed, int threads) {
  const T* const* rows = basis.rows() + (j - 1);
  GramSchmidtNorms norms =
      kernel_.Once(rows, 2, w, basis.stride(), removed.data() + (j - 1), threads);
  if (norms.after < kCancellation * norms.before) {
    double more[2];
    norms.after = kernel_.Once(rows, 2, w, basis.stride(), more, threads).after;
    removed[j - 1] += more[0];
    removed[j] += more[1];
  }
  return norms;
}

// Off found->size() rows; *overlap: the largest one found, relative to ||w||.
template <typename T>
GramSchmidtNorms SemiOrthogonalizer<T>::Purge(const T* const* rows, T* w,
                                              std::vector<double>* found, double* overlap,
                                              int threads) {
  const size_t count = found->size(), n = PadToBasis(storage_);
  GramSchmidtNorms norms = kernel_.Once(rows, count, w, n, found->data(), threads);
  *overlap = norms.before > 0 ? LargestMagnitude(*found) / norms.before : 0;
  // A pass leaves the square of the overlaps: too much where the estimate came late.
  std::vector<double> more(count);
  for (int pass = 0; pass < 2 && norms.after > 0; ++pass) {
    if (*overlap <= 10 * threshold_ && norms.after > kCancellation * norms.before) break;
    const GramSchmidtNorms again = kernel_.Once(rows, count, w, n, more.data(), threads);
    for (size_t k = 0; k < count; ++k) (*found)[k] += more[k];
    norms.after = again.after;
    if (again.after > kCancellation * again.before) break;
  }
  return norms;
}

// Off the rows whose estimates are above eps^(3/4) (Simon's intervals); off all of them when more
// was there than had been expected. Returns the norm of what is left.
template <typename T>
double SemiOrthogonalizer<T>::PurgeRows(const Basis<T>& basis, T* w, double predicted,
                                        std::vector<double>* overlaps, std::vector<double>& removed,
                                        OverlapEstimate* estimate, int threads) {
  const size_t rows = overlaps->size();
  double least = threshold_ * std::sqrt(threshold_);
  for (;;) {
    std::vector<size_t> chosen;
    std::vector<const T*> pointers;
    for (size_t k = 0; k < rows; ++k) {
      if (k + 2 < rows && std::fabs((*overlaps)[k]) < least) continue;
      chosen.push_back(k);
      pointers.push_back(basis.row(k));
    }
    std::vector<double> found(chosen.size());
    double overlap = 0;
    const double left = Purge(pointers.data(), w, &found, &overlap, threads).after;
    for (size_t k = 0; k < chosen.size(); ++k) {
      removed[chosen[k]] += chosen[k] + 2 < rows ? 0 : found[k];
      (*overlaps)[chosen[k]] = floor_;
    }
    if (!(overlap > predicted && overlap > threshold_) || least == 0) return left;
    // It tells of more noise than was seen so far.
    estimate->noise = std::min(1.0, estimate->noise * overlap / predicted);
    least = 0;
  }
}

template <typename T>
std::vector<ConvergedRitz> SemiOrthogonalizer<T>::Converged(const Tridiagonal& t,
                                                            const NewColumn& column,
                                                            const OverlapEstimate& estimate) const {
  std::vector<double> alpha = t.alpha;
  alpha.push_back(column.alpha);
  const size_t m = alpha.size();
  const TridiagonalEigen eigen = SolveTridiagonal(alpha.data(), t.beta.data(), m, EigenRows::kLast);
  const double norm = std::max(std::fabs(eigen.values[0]), std::fabs(eigen.values[m - 1]));
  // Paige: the next vector's overlap with a Ritz vector is noise ||A|| / (beta |s|).
  const double least = estimate.noise / threshold_ * norm;
  std::vector<ConvergedRitz> found;
  for (size_t i = 0; i < m; ++i) {
    if (column.beta * std::fabs(eigen.rows[i]) >= least) continue;
    found.push_back({static_cast<int64_t>(m), static_cast<int64_t>(i), eigen.values[i], 0, 0});
  }
  // Each one that is held stands for the nearest; copies stand for as many.
  for (const ConvergedRitz& held : estimate.ritz) {
    const auto distance = [&held](const ConvergedRitz& r) {
      return std::fabs(r.value - held.value);
    };
    const auto nearest = std::min_element(
        found.begin(), found.end(),
        [&](const ConvergedRitz& a, const ConvergedRitz& b) { return distance(a) < distance(b); });
    if (nearest != found.end() && distance(*nearest) <= 2 * least) found.erase(nearest);
  }
  return found;
}

template <typename T>
void SemiOrthogonalizer<T>::Materialize(const Basis<T>& basis, const std::vector<double>& alpha,
                                        const std::vector<double>& beta,
                                        const OverlapEstimate& estimate, int threads) {
  ritz_.Reserve(estimate.ritz.size());
  size_t solved = 0;
  TridiagonalEigen eigen;
  for (; ready_ < estimate.ritz.size(); ++ready_) {
    const ConvergedRitz& ritz = estimate.ritz[ready_];
    const size_t m = static_cast<size_t>(ritz.at);
    if (solved != m) eigen = SolveTridiagonal(alpha.data(), beta.data(), m, EigenRows::kAll);
    solved = m;
    std::vector<double> s(m);
    for (size_t r = 0; r < m; ++r) s[r] = eigen.rows[r * m + static_cast<size_t>(ritz.index)];
    T* y = ritz_.row(ready_);
    CombineRows(basis.rows(), m, s.data(), 1, y, storage_, storage_, threads);
    Scale(1 / Norm(y, storage_, threads), y, y, storage_, threads);
    // One pass against all of them at once asks for orthogonal rows.
    std::vector<double> removed(ready_);
    for (int pass = 0; pass < 2 && ready_ > 0; ++pass) {
      kernel_.Once(ritz_.rows(), ready_, y, ritz_.stride(), removed.data(), threads);
    }
    const double left = Norm(y, storage_, threads);
    // Nothing new: a row of zeros takes nothing off.
    Scale(left > 0.1 ? 1 / left : 0, y, y, storage_, threads);
  }
}

template <typename T>
GramSchmidtNorms SemiOrthogonalizer<T>::Orthogonalize(const Basis<T>& basis, const Tridiagonal& t,
                                                      T* w, std::vector<double>& removed,
                                                      OverlapEstimate* estimate,
                                                      bool* reorthogonalized, int threads) {
  const size_t j = t.alpha.size();
  ready_ = std::min(ready_, estimate->ritz.size());
  if (j < kProbeSteps) {
    kernel_.Truncate(j);
    const GramSchmidtNorms norms = Probe(basis, t, w, removed, estimate, threads);
    estimate->previous = std::move(estimate->current);
    estimate->current.assign(j + 1, floor_);
    *reorthogonalized = j > 1;
    return norms;
  }
  GramSchmidtNorms norms = Local(basis, j, w, removed, threads);
  *reorthogonalized = false;
  if (!std::isfinite(norms.before) || !std::isfinite(norms.after)) return norms;

  const NewColumn column{removed[j], norms.after};
  std::vector<double> overlaps = PredictOverlaps(*estimate, t.alpha, t.beta, column, floor_);
  double predicted = LargestMagnitude(overlaps);
  if (selective_) {
    std::vector<double> along;
    for (ConvergedRitz& ritz : estimate->ritz) {
      along.push_back(PredictOverlap(ritz, estimate->noise, t.beta, column));
      ritz.previous = ritz.overlap;
      ritz.overlap = along.back();
    }
    predicted = LargestMagnitude(along);
    std::vector<double> alpha = t.alpha;
    alpha.push_back(column.alpha);
    const std::vector<ConvergedRitz> found = Converged(t, column, *estimate);
    estimate->ritz.insert(estimate->ritz.end(), found.begin(), found.end());
    Materialize(basis, alpha, t.beta, *estimate, threads);
    if (!found.empty()) {
      predicted = std::numeric_limits<double>::infinity();
      estimate->pending = false;
    }
  }

  const bool due = !(predicted <= threshold_);
  if (due || estimate->pending) {
    if (selective_) {
      double overlap = 0;
      std::vector<double> found(estimate->ritz.size());
      if (!found.empty()) {
        norms.after = Purge(ritz_.rows(), w, &found, &overlap, threads).after;
      }
      for (ConvergedRitz& ritz : estimate->ritz) ritz.overlap = floor_;
    } else {
      norms.after = PurgeRows(basis, w, predicted, &overlaps, removed, estimate, threads);
    }
    estimate->pending = !estimate->pending;
    *reorthogonalized = true;
  }
  estimate->previous = std::move(estimate->current);
  estimate->current = std::move(overlaps);
  return norms;
}

template <typename T>
void SemiOrthogonalizer<T>::Replaced(OverlapEstimate* estimate) const {
  std::fill(estimate->current.begin(), estimate->current.end(), floor_);
  for (ConvergedRitz& ritz : estimate->ritz) ritz.overlap = floor_;
  estimate->pending = true;
}

template class SemiOrthogonalizer<float>;
template class SemiOrthogonalizer<double>;

}  // namespace losscape
