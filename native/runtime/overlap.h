// Estimates of how far Lanczos vectors have lost their orthogonality, without looking at them.
//
// Rounding and noise of the products let the overlaps omega[j][k] = V[j] V[k] grow as Ritz vectors
// converge. Simon's recurrence follows them through T alone:
//
//   beta[j] omega[j+1][k] = beta[k] omega[j][k+1] + (alpha[k] - alpha[j]) omega[j][k]
//                         + beta[k-1] omega[j][k-1] - beta[j-1] omega[j-1][k]
//                         +- noise (||A V[k]|| + ||A V[j]||)
//
// While all stay below sqrt(eps), T is the projection of A to rounding (semi-orthogonality).
// Sources: Simon 1984; Parlett and Scott 1979 (overlaps with converged Ritz vectors only).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace losscape {

// A Ritz vector that has converged: number `index`, ascending, of the first `at` columns of T.
struct ConvergedRitz {
  int64_t at = 0;
  int64_t index = 0;
  double value = 0;
  double overlap = 0;   // estimated, of the current Lanczos vector with it
  double previous = 0;  // of the one before
};

// After `steps` columns of T.
struct OverlapEstimate {
  std::vector<double> current;   // [steps]: of row `steps` with row k
  std::vector<double> previous;  // [steps - 1]: of row steps - 1 with row k
  // Error of a product's overlap, relative to ||A V[k]|| + ||A V[j]||.
  double noise = 0;
  // The vector before was reorthogonalised: the next one must be, because both enter the
  // recurrence.
  bool pending = false;
  std::vector<ConvergedRitz> ritz;
};

// A column of T that is not in the vectors yet.
struct NewColumn {
  double alpha;
  double beta;
};

// ||A V[k]|| as T has it.
double ProductNorm(const std::vector<double>& alpha, const std::vector<double>& beta, size_t k);
double ProductNorm(const std::vector<double>& beta, const NewColumn& column);

// [steps + 1]: overlaps of the vector that follows the new column; the last two rows, which every
// step removes, are given `removed`.
std::vector<double> PredictOverlaps(const OverlapEstimate& estimate,
                                    const std::vector<double>& alpha,
                                    const std::vector<double>& beta, const NewColumn& column,
                                    double removed);

// The same for a Ritz vector: A y = value y.
double PredictOverlap(const ConvergedRitz& ritz, double noise, const std::vector<double>& beta,
                      const NewColumn& column);

}  // namespace losscape
