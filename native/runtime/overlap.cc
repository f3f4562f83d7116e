#include "native/runtime/overlap.h"

#include <cmath>

namespace losscape {

double ProductNorm(const std::vector<double>& alpha, const std::vector<double>& beta, size_t k) {
  return std::hypot(std::hypot(alpha[k], beta[k]), k > 0 ? beta[k - 1] : 0.0);
}

double ProductNorm(const std::vector<double>& beta, const NewColumn& column) {
  return std::hypot(std::hypot(column.alpha, column.beta), beta.empty() ? 0.0 : beta.back());
}

std::vector<double> PredictOverlaps(const OverlapEstimate& estimate,
                                    const std::vector<double>& alpha,
                                    const std::vector<double>& beta, const NewColumn& column,
                                    double removed) {
  const size_t j = alpha.size();
  const std::vector<double>& now = estimate.current;
  const std::vector<double>& before = estimate.previous;
  const double newest = ProductNorm(beta, column);
  std::vector<double> next(j + 1, removed);
  for (size_t k = 0; k + 1 < j; ++k) {
    double sum =
        beta[k] * now[k + 1] + (alpha[k] - column.alpha) * now[k] - beta[j - 1] * before[k];
    if (k > 0) sum += beta[k - 1] * now[k - 1];
    // With the sign of the rest: errors are taken not to cancel.
    sum += std::copysign(estimate.noise * (ProductNorm(alpha, beta, k) + newest), sum);
    next[k] = sum / column.beta;
  }
  return next;
}

double PredictOverlap(const ConvergedRitz& ritz, double noise, const std::vector<double>& beta,
                      const NewColumn& column) {
  const double coupling = beta.empty() ? 0.0 : beta.back();
  double sum = (ritz.value - column.alpha) * ritz.overlap - coupling * ritz.previous;
  sum += std::copysign(noise * (std::fabs(ritz.value) + ProductNorm(beta, column)), sum);
  return sum / column.beta;
}

}  // namespace losscape
