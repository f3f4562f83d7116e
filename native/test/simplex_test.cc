#include <algorithm>
#include <functional>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

// By sorting: rho = max{t : z_(t) > (sum_{u<=t} z_(u) - 1) / t}.
Numbers Oracle(const Numbers& x, int64_t columns) {
  Numbers y(x.size());
  for (size_t row = 0; row < x.size(); row += columns) {
    Numbers sorted(x.begin() + row, x.begin() + row + columns);
    std::sort(sorted.begin(), sorted.end(), std::greater<double>());
    double sum = 0, lambda = 0;
    for (int64_t t = 0; t < columns; ++t) {
      sum += sorted[t];
      const double candidate = (sum - 1) / static_cast<double>(t + 1);
      if (sorted[t] > candidate) lambda = candidate;
    }
    for (int64_t c = 0; c < columns; ++c) y[row + c] = std::max(x[row + c] - lambda, 0.0);
  }
  return y;
}

Numbers Project(DType dtype, const Shape& shape, const Numbers& x, int threads = 1) {
  return KernelRun("simplex_project").In(dtype, shape, x).Out(dtype, shape).Run(threads)[0];
}

Numbers Tangent(DType dtype, const Shape& shape, const Numbers& y, const Numbers& dx,
                int threads = 1) {
  Shape all = shape;
  all.insert(all.begin(), static_cast<int64_t>(dx.size() / std::max<size_t>(1, y.size())));
  return KernelRun("simplex_project_jvp")
      .In(dtype, shape, y)
      .In(dtype, all, dx)
      .Out(dtype, all)
      .Run(threads)[0];
}

Numbers TangentOracle(const Numbers& y, const Numbers& dx, int64_t columns) {
  Numbers out(dx.size());
  for (size_t row = 0; row < dx.size(); row += columns) {
    const double* point = &y[row % y.size()];
    double sum = 0, count = 0;
    for (int64_t c = 0; c < columns; ++c) {
      if (point[c] > 0) {
        sum += dx[row + c];
        ++count;
      }
    }
    for (int64_t c = 0; c < columns; ++c) {
      out[row + c] = point[c] > 0 ? dx[row + c] - sum / count : 0;
    }
  }
  return out;
}

TEST(SimplexMatchesSorting) {
  Source source(51);
  ForEachTarget([&] {
    for (const Shape& shape : {Shape{1}, Shape{7}, Shape{3, 1}, Shape{1, 2}, Shape{35, 5},
                               Shape{2, 3, 12}, Shape{1000, 12}, Shape{5, 197}, Shape{3, 4097}}) {
      const int64_t columns = shape.back();
      for (double scale : {1e-4, 0.3, 10.0}) {
        const Numbers x = source.Normal(Volume(shape), scale);
        const Numbers expected = Oracle(x, columns);
        const Numbers dx = source.Normal(3 * Volume(shape));
        const Numbers moved = TangentOracle(expected, dx, columns);
        for (DType dtype : {DType::kF32, DType::kF64}) {
          // A rounding of entries of at most 1, of x - max (scale) before that.
          const double epsilon = dtype == DType::kF32 ? 3e-7 : 3e-15;
          for (int threads = 1; threads <= 3; ++threads) {
            const Numbers y = Project(dtype, shape, x, threads);
            CHECK(LargestDifference(y, expected) < epsilon * (1 + scale));
            for (int64_t row = 0; row < Volume(shape); row += columns) {
              long double sum = 0;
              for (int64_t c = 0; c < columns; ++c) {
                CHECK(y[row + c] >= 0);
                sum += y[row + c];
              }
              CHECK_NEAR(static_cast<double>(sum - 1), 0, 10 * epsilon);
            }
            // f32 holds the support of `expected` exactly, if not its values.
            CHECK(LargestDifference(Tangent(dtype, shape, expected, dx, threads), moved) <
                  20 * epsilon);
          }
        }
      }
    }
  });
}

TEST(SimplexOfSpecialRows) {
  const double inf = INFINITY;
  ForEachTarget([&] {
    for (DType dtype : {DType::kF32, DType::kF64}) {
      const Numbers x = {0,    -inf, 0,    NAN,  0, 0, inf, 0, 0, -inf, -inf, -inf,
                         1e30, 1e30, -1e9, 0.25, 1, 1, 5,   3, 1, 0.5,  0.25, 0.25};
      const Numbers y = Project(dtype, {8, 3}, x);
      const Numbers expected = {0.5, 0,   0.5, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN,  NAN,
                                0.5, 0.5, 0,   0,   0.5, 0.5, 1,   0,   0,   0.5, 0.25, 0.25};
      CHECK(LargestDifference(y, expected) < 1e-7);
      const Numbers point = {0.5, 0.5, 0, NAN, NAN, NAN};
      const Numbers dx = {3, 1, NAN, 1, 2, 3};
      CHECK(LargestDifference(Tangent(dtype, {2, 3}, point, dx), {1, -1, 0, NAN, NAN, NAN}) == 0);
    }
  });
}

TEST(SimplexInPlaceAndOfNothing) {
  Source source(52);
  const Numbers x = source.Normal(37 * 9);
  const Numbers y = Project(DType::kF32, {37, 9}, x);
  CHECK(SameNumbers(KernelRun("simplex_project")
                        .In(DType::kF32, {37, 9}, x)
                        .Out(DType::kF32, {37, 9})
                        .Alias(0, 0)
                        .Run(2)[0],
                    y));
  CHECK(Project(DType::kF32, {0, 9}, {}).empty());
  CHECK(KernelRun("simplex_project_jvp")
            .In(DType::kF32, {2, 9}, Numbers(18, 0.5))
            .In(DType::kF32, {0, 2, 9}, {})
            .Out(DType::kF32, {0, 2, 9})
            .Run(1)[0]
            .empty());
  CHECK_THROWS(Project(DType::kF32, {3, 0}, {}), Code::kShape);
  CHECK_THROWS(Project(DType::kI32, {3}, {1, 2, 3}), Code::kDType);
}

}  // namespace
}  // namespace losscape::test
