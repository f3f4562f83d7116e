#include <algorithm>

#include "native/cpu/small_gemm.h"
#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

// y = op(a) op(b) [+ c] of one batch of matrices, and the same of absolute values, which bounds the
// rounding: an element's error is at most about K epsilon times it.
struct Product {
  Numbers y, bound;
};

Product Oracle(int64_t m, int64_t n, int64_t k, bool transA, bool transB, const double* a,
               const double* b, const double* c) {
  Product product{Numbers(m * n), Numbers(m * n)};
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = c ? c[i * n + j] : 0, bound = std::fabs(sum);
      for (int64_t p = 0; p < k; ++p) {
        const double term =
            (transA ? a[p * m + i] : a[i * k + p]) * (transB ? b[j * k + p] : b[p * n + j]);
        sum += term;
        bound += std::fabs(term);
      }
      product.y[i * n + j] = sum;
      product.bound[i * n + j] = bound;
    }
  }
  return product;
}

double WorstRatio(const Numbers& y, const Product& product) {
  double worst = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double difference = std::fabs(y[i] - product.y[i]);
    if (difference == 0) continue;
    const double ratio = difference / product.bound[i];
    worst = ratio <= worst ? worst : std::isnan(ratio) ? INFINITY : ratio;
  }
  return worst;
}

struct Case {
  int64_t m, n, k;
};

constexpr Case kCases[] = {{1, 1, 1},     {1, 10, 7},    {5, 1, 9},     {6, 16, 3},   {7, 17, 5},
                           {13, 33, 300}, {64, 30, 100}, {30, 10, 257}, {2, 70, 600}, {100, 31, 2},
                           {12, 8, 1},    {3, 130, 40},  {97, 4, 64}};

TEST(SmallGemmMatchesPlainLoops) {
  Source source(1);
  ForEachTarget([&] {
    for (const Case& size : kCases) {
      for (int trans = 0; trans < 4; ++trans) {
        const GemmSize gemm{size.m, size.n, size.k, (trans & 1) != 0, (trans & 2) != 0};
        const Numbers a = source.Normal(size.m * size.k), b = source.Normal(size.k * size.n);
        const Numbers c = source.Normal(size.m * size.n);
        const bool accumulate = source.Below(2) == 1;
        const Product expected = Oracle(size.m, size.n, size.k, gemm.transA, gemm.transB, a.data(),
                                        b.data(), accumulate ? c.data() : nullptr);
        const std::vector<float> fa(a.begin(), a.end()), fb(b.begin(), b.end());
        std::vector<float> fy(c.begin(), c.end()), before;
        for (int threads = 1; threads <= 3; ++threads) {
          // Without accumulation the old content must not matter.
          std::vector<float> y(fy);
          Numbers y64(c);
          if (!accumulate) std::fill(y.begin(), y.end(), NAN);
          if (!accumulate) std::fill(y64.begin(), y64.end(), NAN);
          SmallGemm(gemm, fa.data(), fb.data(), y.data(), accumulate, threads);
          SmallGemm(gemm, a.data(), b.data(), y64.data(), accumulate, threads);
          CHECK(WorstRatio(Numbers(y.begin(), y.end()), expected) < 2e-7 * (size.k + 2));
          CHECK(WorstRatio(y64, expected) < 4e-16 * (size.k + 2));
          if (threads > 1) CHECK(y == before);
          before = y;
        }
      }
    }
  });
}

TEST(MatmulMatchesPlainLoops) {
  Source source(2);
  for (DType dtype : {DType::kF32, DType::kF64}) {
    const double epsilon = dtype == DType::kF32 ? 2e-7 : 4e-16;
    for (const Case& size : {Case{1, 1, 1}, Case{3, 5, 2}, Case{64, 30, 100}, Case{200, 10, 30},
                             Case{30, 30, 1000}, Case{130, 120, 140}, Case{40, 260, 300}}) {
      for (int trans = 0; trans < 4; ++trans) {
        const bool transA = trans & 1, transB = trans & 2;
        const Numbers a = source.Normal(size.m * size.k), b = source.Normal(size.k * size.n);
        const Numbers c = source.Normal(size.m * size.n);
        for (int mode = 0; mode < 3; ++mode) {  // without c, with c, with c in y's place
          const Product expected = Oracle(size.m, size.n, size.k, transA, transB, a.data(),
                                          b.data(), mode ? c.data() : nullptr);
          KernelRun run("matmul");
          run.Number("transA", {transA ? 1.0 : 0.0}).Number("transB", {transB ? 1.0 : 0.0});
          run.In(dtype, transA ? Shape{size.k, size.m} : Shape{size.m, size.k}, a);
          run.In(dtype, transB ? Shape{size.n, size.k} : Shape{size.k, size.n}, b);
          if (mode) run.In(dtype, {size.m, size.n}, c);
          run.Out(dtype, {size.m, size.n});
          if (mode == 2) run.Alias(2, 0);
          const Numbers y = run.Run(1 + mode)[0];
          CHECK(WorstRatio(y, expected) < epsilon * (size.k + 2));
        }
      }
    }
  }
}

struct BatchCase {
  Shape a, b;  // leading axes
  int64_t m, n, k;
};

TEST(MatmulBroadcastsLeadingAxes) {
  Source source(3);
  const BatchCase cases[] = {
      {{7}, {7}, 5, 6, 4},          {{7}, {}, 5, 6, 4},        {{}, {7}, 5, 6, 4},
      {{2, 1, 3}, {4, 1}, 3, 2, 5}, {{3, 1}, {1, 4}, 9, 8, 7}, {{2, 3}, {2, 1}, 4, 5, 6},
      {{1, 1}, {1}, 4, 5, 6},       {{0}, {}, 4, 5, 6},        {{3}, {3}, 60, 70, 80},
      {{2, 5}, {}, 40, 30, 64},     {{}, {3}, 64, 30, 500},    {{300}, {300}, 2, 3, 4},
  };
  for (const BatchCase& test : cases) {
    for (int trans = 0; trans < 4; ++trans) {
      const bool transA = trans & 1, transB = trans & 2;
      const size_t rank = std::max(test.a.size(), test.b.size());
      Shape batch(rank, 1);
      auto at = [rank](const Shape& shape, size_t axis) {
        const size_t missing = rank - shape.size();
        return axis < missing ? int64_t{1} : shape[axis - missing];
      };
      for (size_t axis = 0; axis < rank; ++axis) {
        batch[axis] = at(test.a, axis) == 1 ? at(test.b, axis) : at(test.a, axis);
      }
      const Numbers a = source.Normal(Volume(test.a) * test.m * test.k);
      const Numbers b = source.Normal(Volume(test.b) * test.k * test.n);
      const int64_t count = Volume(batch);
      const Numbers c = source.Normal(count * test.m * test.n);
      Product expected;
      for (int64_t i = 0; i < count; ++i) {
        int64_t left = i, fromA = 0, fromB = 0, strideA = 1, strideB = 1;
        for (size_t axis = rank; axis-- > 0; left /= batch[axis]) {
          const int64_t index = left % batch[axis];
          if (at(test.a, axis) > 1) fromA += index * strideA;
          if (at(test.b, axis) > 1) fromB += index * strideB;
          strideA *= at(test.a, axis);
          strideB *= at(test.b, axis);
        }
        const Product one =
            Oracle(test.m, test.n, test.k, transA, transB, a.data() + fromA * test.m * test.k,
                   b.data() + fromB * test.k * test.n, c.data() + i * test.m * test.n);
        expected.y.insert(expected.y.end(), one.y.begin(), one.y.end());
        expected.bound.insert(expected.bound.end(), one.bound.begin(), one.bound.end());
      }
      auto with = [](Shape shape, int64_t rows, int64_t columns) {
        shape.push_back(rows);
        shape.push_back(columns);
        return shape;
      };
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int threads = 1; threads <= 3; ++threads) {
          const Numbers y =
              KernelRun("matmul")
                  .Number("transA", {transA ? 1.0 : 0.0})
                  .Number("transB", {transB ? 1.0 : 0.0})
                  .In(dtype, transA ? with(test.a, test.k, test.m) : with(test.a, test.m, test.k),
                      a)
                  .In(dtype, transB ? with(test.b, test.n, test.k) : with(test.b, test.k, test.n),
                      b)
                  .In(dtype, with(batch, test.m, test.n), c)
                  .Out(dtype, with(batch, test.m, test.n))
                  .Run(threads)[0];
          CHECK(y.size() == expected.y.size());
          CHECK(WorstRatio(y, expected) < (dtype == DType::kF32 ? 2e-7 : 4e-16) * (test.k + 2));
        }
      }
    }
  }
}

TEST(MatmulOfEmptySums) {
  const Numbers c = {1, 2, 3, 4, 5, 6};
  for (DType dtype : {DType::kF32, DType::kF64}) {
    CHECK(SameNumbers(KernelRun("matmul")
                          .In(dtype, {2, 0}, {})
                          .In(dtype, {0, 3}, {})
                          .Out(dtype, {2, 3})
                          .Run(2)[0],
                      Numbers(6)));
    CHECK(SameNumbers(KernelRun("matmul")
                          .In(dtype, {2, 0}, {})
                          .In(dtype, {0, 3}, {})
                          .In(dtype, {2, 3}, c)
                          .Out(dtype, {2, 3})
                          .Run(2)[0],
                      c));
    CHECK(KernelRun("matmul")
              .In(dtype, {0, 4}, {})
              .In(dtype, {4, 3}, Numbers(12, 1))
              .Out(dtype, {0, 3})
              .Run(2)[0]
              .empty());
  }
}

TEST(MatmulWidensHalves) {
  Source source(4);
  const int64_t m = 9, n = 12, k = 20;
  // Small integers: products and sums are exact in f32, results fit 11 bits.
  const Numbers a = source.Integers(m * k, -3, 3), b = source.Integers(k * n, -3, 3);
  const Numbers c = source.Integers(m * n, -3, 3);
  const Product expected = Oracle(m, n, k, false, false, a.data(), b.data(), c.data());
  for (DType half : {DType::kF16, DType::kBF16}) {
    for (DType result : {half, DType::kF32}) {
      KernelRun run("matmul");
      run.In(half, {m, k}, a).In(half, {k, n}, b).In(result, {m, n}, c).Out(result, {m, n});
      const double tolerance = result == DType::kBF16 ? 0.5 : 0;
      CHECK(LargestDifference(run.Run(2)[0], expected.y) <= tolerance);
      run.Alias(2, 0);
      CHECK(LargestDifference(run.Run(1)[0], expected.y) <= tolerance);
    }
  }
}

TEST(HalvesRoundToNearestEven) {
  // Every f16 and bf16 survives the way to f32 and back.
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float f16 = FloatFromF16(half), bf16 = FloatFromBf16(half);
    if (!std::isnan(f16)) CHECK(F16FromFloat(f16) == half);
    if (!std::isnan(bf16)) CHECK(Bf16FromFloat(bf16) == half);
    if (std::isnan(f16)) CHECK(std::isnan(FloatFromF16(F16FromFloat(f16))));
    if (std::isnan(bf16)) CHECK(std::isnan(FloatFromBf16(Bf16FromFloat(bf16))));
  }
  CHECK(F16FromFloat(1.0f + 0.00048828125f) == 0x3c00);  // a tie goes to the even 1
  CHECK(F16FromFloat(1.0f + 0.00146484375f) == 0x3c02);  // and up where that is even
  CHECK(F16FromFloat(65519.0f) == 0x7bff);
  CHECK(F16FromFloat(65520.0f) == 0x7c00);
  CHECK(F16FromFloat(2.98023224e-8f) == 0);  // half of the least subnormal
  CHECK(F16FromFloat(2.98023259e-8f) == 1);
  CHECK(Bf16FromFloat(1.00390625f) == 0x3f80);
  CHECK(Bf16FromFloat(1.01171875f) == 0x3f82);
  CHECK(std::isinf(FloatFromBf16(Bf16FromFloat(3.4e38f))));
}

TEST(MatmulPassesNonFiniteNumbersOn) {
  for (DType dtype : {DType::kF32, DType::kF64}) {
    for (int64_t size : {3, 40}) {
      Numbers a(size * size, 1), b(size * size, 1);
      a[size + 1] = NAN;
      b[2] = INFINITY;
      const Numbers y = KernelRun("matmul")
                            .In(dtype, {size, size}, a)
                            .In(dtype, {size, size}, b)
                            .Out(dtype, {size, size})
                            .Run(2)[0];
      for (int64_t i = 0; i < size; ++i) {
        for (int64_t j = 0; j < size; ++j) {
          const double value = y[i * size + j];
          if (i == 1) {
            CHECK(std::isnan(value));
          } else if (j == 2) {
            CHECK(std::isinf(value));
          } else {
            CHECK(value == static_cast<double>(size));
          }
        }
      }
    }
  }
}

TEST(MatmulRefusesShapesThatDoNotFit) {
  const DType f = DType::kF32;
  CHECK_THROWS(KernelRun("matmul").In(f, {2, 3}, {}).In(f, {4, 5}, {}).Out(f, {2, 5}).Make(),
               Code::kShape);
  CHECK_THROWS(KernelRun("matmul").In(f, {2, 3}, {}).In(f, {3, 5}, {}).Out(f, {2, 4}).Make(),
               Code::kShape);
  CHECK_THROWS(KernelRun("matmul").In(f, {3}, {}).In(f, {3, 5}, {}).Out(f, {5}).Make(),
               Code::kShape);
  CHECK_THROWS(
      KernelRun("matmul").In(f, {2, 2, 3}, {}).In(f, {3, 3, 5}, {}).Out(f, {2, 2, 5}).Make(),
      Code::kShape);
  CHECK_THROWS(
      KernelRun("matmul").In(DType::kI32, {2, 3}, {}).In(f, {3, 5}, {}).Out(f, {2, 5}).Make(),
      Code::kDType);
}

}  // namespace
}  // namespace losscape::test
