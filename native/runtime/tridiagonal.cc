#include "native/runtime/tridiagonal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "native/runtime/error.h"

namespace losscape {
namespace {

constexpr int kSweeps = 50;
constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

// First index >= l at which the coupling to the next is negligible.
size_t BlockEnd(const std::vector<double>& d, const std::vector<double>& e, size_t l,
                double negligible) {
  size_t k = l;
  for (; k + 1 < d.size(); ++k) {
    const double size = std::fabs(e[k]);
    if (size <= negligible || size <= kEpsilon * (std::fabs(d[k]) + std::fabs(d[k + 1]))) break;
  }
  return k;
}

// One sweep over the unreduced block l .. k, applied to columns (i, i + 1) of all carried rows.
void Sweep(std::vector<double>& d, std::vector<double>& e, size_t l, size_t k,
           std::vector<double>& rows) {
  const size_t m = d.size();
  double g = (d[l + 1] - d[l]) / (2 * e[l]);
  double r = std::hypot(g, 1.0);
  g = d[k] - d[l] + e[l] / (g + std::copysign(r, g));
  double s = 1, c = 1, t = 0;
  for (size_t i = k; i-- > l;) {
    const double f = s * e[i];
    const double b = c * e[i];
    r = std::hypot(f, g);
    e[i + 1] = r;
    if (r == 0) {
      d[i + 1] -= t;
      e[k] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = d[i + 1] - t;
    r = (d[i] - g) * s + 2 * c * b;
    t = s * r;
    d[i + 1] = g + t;
    g = c * r - b;
    for (size_t at = i; at < rows.size(); at += m) {
      const double lower = rows[at], upper = rows[at + 1];
      rows[at + 1] = s * lower + c * upper;
      rows[at] = c * lower - s * upper;
    }
  }
  d[l] -= t;
  e[l] = g;
  e[k] = 0;
}

}  // namespace

TridiagonalEigen SolveTridiagonal(const double* alpha, const double* beta, size_t m,
                                  EigenRows which) {
  std::vector<double> d(alpha, alpha + m), e(m, 0.0);
  if (m > 0) std::copy_n(beta, m - 1, e.begin());
  const size_t carried = which == EigenRows::kAll ? m : std::min<size_t>(m, 1);
  std::vector<double> rows(carried * m, 0.0);
  for (size_t r = 0; r < carried; ++r) rows[r * m + m - carried + r] = 1;

  double norm = 0;
  for (size_t i = 0; i < m; ++i) norm = std::max({norm, std::fabs(d[i]), std::fabs(e[i])});
  // A trailing block of zeros has no diagonal that a coupling could be compared with.
  const double negligible = kEpsilon * kEpsilon * norm;
  for (size_t l = 0; l < m; ++l) {
    for (int sweep = 0;; ++sweep) {
      const size_t k = BlockEnd(d, e, l, negligible);
      if (k == l) break;
      if (sweep == kSweeps) {
        throw Error(Code::kRange, "Eigenvalue ", l, " of a ", m, " x ", m,
                    " tridiagonal matrix did not settle in ", kSweeps, " QL sweeps.");
      }
      Sweep(d, e, l, k, rows);
    }
  }

  std::vector<size_t> order(m);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return d[a] < d[b]; });
  TridiagonalEigen out{std::vector<double>(m), std::vector<double>(rows.size())};
  for (size_t i = 0; i < m; ++i) {
    out.values[i] = d[order[i]];
    for (size_t r = 0; r < carried; ++r) out.rows[r * m + i] = rows[r * m + order[i]];
  }
  return out;
}

}  // namespace losscape
