// Eigenvalues and eigenvectors of small symmetric tridiagonal matrices, by implicit QL with
// Wilkinson's shift (Golub and Welsch 1969, with further rows carried along).
#pragma once

#include <cstddef>
#include <vector>

namespace losscape {

struct TridiagonalEigen {
  std::vector<double> values;  // [m], ascending
  // Row r of S, where column i belongs to value i: [m, m] for all rows, [1, m] for the last one.
  std::vector<double> rows;
};

enum class EigenRows { kLast, kAll };

// alpha[m]: diagonal; beta[m - 1]: couples j and j + 1. O(m^2) with the last row, 3 m^3 FLOP with
// all of them. Throws Error{ERR_RANGE} when a value does not settle, as with a NaN.
TridiagonalEigen SolveTridiagonal(const double* alpha, const double* beta, size_t m,
                                  EigenRows rows);

}  // namespace losscape
