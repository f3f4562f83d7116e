#include <algorithm>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

double LogSumExp(const double* x, int64_t n) {
  const double max = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - max);
  return max + std::log(sum);
}

Numbers RunSoftmax(bool log, DType dtype, const Shape& shape, const Numbers& x, int threads) {
  return KernelRun("softmax")
      .Number("log", {log ? 1.0 : 0.0})
      .In(dtype, shape, x)
      .Out(dtype, shape)
      .Run(threads)[0];
}

Numbers RunLogSumExp(DType dtype, const Shape& shape, const Numbers& x, int threads) {
  return KernelRun("logsumexp")
      .In(dtype, shape, x)
      .Out(dtype, Shape(shape.begin(), shape.end() - 1))
      .Run(threads)[0];
}

TEST(SoftmaxMatchesPlainLoops) {
  Source source(31);
  ForEachTarget([&] {
    for (const Shape& shape : {Shape{1}, Shape{7}, Shape{1, 1}, Shape{3, 10}, Shape{1000, 10},
                               Shape{17, 33}, Shape{2, 3, 100}, Shape{5, 4097}, Shape{33, 5}}) {
      for (double scale : {1.0, 30.0}) {
        const int64_t columns = shape.back(), rows = Volume(shape) / columns;
        const Numbers x = source.Normal(rows * columns, scale);
        Numbers softmax(x.size()), log(x.size()), lse(rows);
        for (int64_t r = 0; r < rows; ++r) {
          lse[r] = LogSumExp(&x[r * columns], columns);
          for (int64_t c = 0; c < columns; ++c) {
            log[r * columns + c] = x[r * columns + c] - lse[r];
            softmax[r * columns + c] = std::exp(log[r * columns + c]);
          }
        }
        for (DType dtype : {DType::kF32, DType::kF64}) {
          // Sums of C terms in f32 and an exponential of two units in the last place.
          const double epsilon = dtype == DType::kF32 ? 1e-6 : 1e-14;
          for (int threads = 1; threads <= 3; ++threads) {
            const Numbers y = RunSoftmax(false, dtype, shape, x, threads);
            for (size_t i = 0; i < y.size(); ++i) {
              // x - m is rounded, too: an error of |x - m| units in the last place.
              const double relative = epsilon * (3 + 0.1 * std::fabs(log[i]));
              CHECK_NEAR(y[i], softmax[i], relative * softmax[i] + 1e-37);
            }
            const double size = epsilon * (1 + 5 * scale);
            CHECK(LargestDifference(RunSoftmax(true, dtype, shape, x, threads), log) < size);
            CHECK(LargestDifference(RunLogSumExp(dtype, shape, x, threads), lse) < size);
          }
        }
      }
    }
  });
}

TEST(SoftmaxOfLargeNumbersStaysFinite) {
  for (DType dtype : {DType::kF32, DType::kF64}) {
    const Numbers y = RunSoftmax(false, dtype, {2, 3}, {1e30, 1e30, -1e30, -3e38, -3e38, -3e38}, 1);
    const Numbers expected = {0.5, 0.5, 0, 1 / 3.0, 1 / 3.0, 1 / 3.0};
    CHECK(LargestDifference(y, expected) < 1e-7);
  }
}

TEST(SoftmaxOfSpecialNumbers) {
  const double inf = INFINITY;
  ForEachTarget([&] {
    for (DType dtype : {DType::kF32, DType::kF64}) {
      const Numbers x = {0, -inf, 0, NAN, 0, 0, inf, 0, 0, -inf, -inf, -inf, inf, NAN, 0, 0, 0, 0};
      const Numbers y = RunSoftmax(false, dtype, {6, 3}, x, 1);
      const Numbers log = RunSoftmax(true, dtype, {6, 3}, x, 1);
      const Numbers lse = RunLogSumExp(dtype, {6, 3}, x, 1);
      CHECK(LargestDifference({y.begin(), y.begin() + 3}, {0.5, 0, 0.5}) < 1e-7);
      CHECK(log[1] == -inf);
      for (int i = 3; i < 15; ++i) {
        CHECK(std::isnan(y[i]));
        CHECK(std::isnan(log[i]));
      }
      CHECK_NEAR(y[16], 1 / 3.0, 1e-7);
      CHECK_NEAR(lse[0], std::log(2), 1e-6);
      CHECK(std::isnan(lse[1]));
      CHECK(lse[2] == inf);
      CHECK(lse[3] == -inf);
      CHECK(std::isnan(lse[4]));
      CHECK_NEAR(lse[5], std::log(3), 1e-6);
    }
  });
}

TEST(SoftmaxInPlaceAndEmpty) {
  Source source(32);
  const Numbers x = source.Normal(300);
  for (double log : {0.0, 1.0}) {
    KernelRun run("softmax");
    run.Number("log", {log}).In(DType::kF32, {30, 10}, x).Out(DType::kF32, {30, 10});
    const Numbers apart = run.Run(2)[0];
    run.Alias(0, 0);
    CHECK(SameNumbers(run.Run(2)[0], apart));
  }
  CHECK(RunSoftmax(false, DType::kF32, {0, 4}, {}, 2).empty());
  CHECK(RunSoftmax(false, DType::kF32, {4, 0}, {}, 2).empty());
  CHECK(SameNumbers(RunLogSumExp(DType::kF32, {2, 0}, {}, 2), {-INFINITY, -INFINITY}));
}

}  // namespace
}  // namespace losscape::test
