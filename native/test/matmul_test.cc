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

// Terms and batches: a or b shared by the batch or not, the depth cut anywhere.
TEST(SmallGemmSumMatchesPlainLoops) {
  Source source(5);
  const int64_t depths[][2] = {{30, 30}, {10, 130}, {200, 70}, {256, 1}, {0, 9}, {300, 0}};
  ForEachTarget([&] {
    for (const Case& size : {Case{13, 30, 0}, Case{30, 10, 0}, Case{7, 64, 0}, Case{2, 3, 0}}) {
      for (const auto& depth : depths) {
        for (int flags = 0; flags < 64; flags += 1 + flags % 3) {
          const bool transA = flags & 1, accumulate = flags & 2;
          const int64_t count = 3;
          GemmTerm<double> terms[kGemmTerms];
          GemmTerm<float> narrow[kGemmTerms];
          std::vector<Numbers> operands;
          std::vector<std::vector<float>> rounded;
          for (int t = 0; t < kGemmTerms; ++t) {
            for (int64_t elements : {size.m * depth[t], size.n * depth[t]}) {
              operands.push_back(source.Normal(count * elements + 1));
              rounded.emplace_back(operands.back().begin(), operands.back().end());
            }
          }
          for (int t = 0; t < kGemmTerms; ++t) {
            const int64_t stepA = flags & (4 << t) ? size.m * depth[t] : 0;
            const int64_t stepB = flags & (16 << t) ? size.n * depth[t] : 0;
            const bool transB = (flags >> t) & 1;
            terms[t] = {
                operands[2 * t].data(), operands[2 * t + 1].data(), depth[t], transB, stepA, stepB};
            narrow[t] = {
                rounded[2 * t].data(), rounded[2 * t + 1].data(), depth[t], transB, stepA, stepB};
          }
          const GemmBatch batch{count, size.m, size.n, transA};
          const Numbers c = source.Normal(count * size.m * size.n);
          Product expected;
          for (int64_t i = 0; i < count; ++i) {
            const double* addend = accumulate ? c.data() + i * size.m * size.n : nullptr;
            Product sum = Oracle(size.m, size.n, 0, false, false, nullptr, nullptr, addend);
            for (const GemmTerm<double>& term : terms) {
              const Product one = Oracle(size.m, size.n, term.k, transA, term.transB,
                                         term.a + i * term.stepA, term.b + i * term.stepB, nullptr);
              for (size_t e = 0; e < sum.y.size(); ++e) {
                sum.y[e] += one.y[e];
                sum.bound[e] += one.bound[e];
              }
            }
            expected.y.insert(expected.y.end(), sum.y.begin(), sum.y.end());
            expected.bound.insert(expected.bound.end(), sum.bound.begin(), sum.bound.end());
          }
          std::vector<float> before;
          for (int threads : {1, 2, 3, 8}) {
            std::vector<float> y(c.begin(), c.end());
            Numbers y64(c);
            if (!accumulate) std::fill(y.begin(), y.end(), NAN);
            if (!accumulate) std::fill(y64.begin(), y64.end(), NAN);
            SmallGemmSum(batch, narrow, kGemmTerms, y.data(), accumulate, threads);
            SmallGemmSum(batch, terms, kGemmTerms, y64.data(), accumulate, threads);
            CHECK(WorstRatio(Numbers(y.begin(), y.end()), expected) < 2e-7 * 300);
            CHECK(WorstRatio(y64, expected) < 4e-16 * 300);
            if (threads > 1) CHECK(y == before);
            before = y;
          }
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

// Small ones as one call, large ones one after another, with other flags per product.
TEST(MatmulPairAddsTwoProducts) {
  Source source(6);
  struct Pair {
    Shape a, b, a2, b2;  // leading axes
    int64_t m, n, k, k2;
  };
  const Pair cases[] = {
      {{}, {}, {}, {}, 20, 30, 7, 50},           {{4}, {}, {}, {4}, 25, 30, 30, 30},
      {{4}, {4}, {}, {4}, 10, 30, 500, 500},     {{4}, {}, {4}, {4}, 50, 10, 30, 8},
      {{2, 3}, {3}, {2, 1}, {3}, 12, 20, 9, 11}, {{3}, {}, {}, {3}, 60, 200, 70, 90},
  };
  for (const Pair& test : cases) {
    const size_t rank =
        std::max(std::max(test.a.size(), test.b.size()), std::max(test.a2.size(), test.b2.size()));
    Shape batch(rank, 1);
    auto at = [rank](const Shape& shape, size_t axis) {
      const size_t missing = rank - shape.size();
      return axis < missing ? int64_t{1} : shape[axis - missing];
    };
    for (const Shape* shape : {&test.a, &test.b, &test.a2, &test.b2}) {
      for (size_t axis = 0; axis < rank; ++axis) {
        batch[axis] = std::max(batch[axis], at(*shape, axis));
      }
    }
    auto offset = [&](const Shape& shape, int64_t i, int64_t matrix) {
      int64_t from = 0, step = matrix;
      for (size_t axis = rank; axis-- > 0; i /= batch[axis]) {
        if (at(shape, axis) > 1) from += i % batch[axis] * step;
        step *= at(shape, axis);
      }
      return from;
    };
    auto with = [](Shape shape, bool trans, int64_t rows, int64_t columns) {
      shape.push_back(trans ? columns : rows);
      shape.push_back(trans ? rows : columns);
      return shape;
    };
    const int64_t count = Volume(batch);
    const Numbers a = source.Normal(Volume(test.a) * test.m * test.k);
    const Numbers b = source.Normal(Volume(test.b) * test.k * test.n);
    const Numbers a2 = source.Normal(Volume(test.a2) * test.m * test.k2);
    const Numbers b2 = source.Normal(Volume(test.b2) * test.k2 * test.n);
    const Numbers c = source.Normal(count * test.m * test.n);
    for (int flags = 0; flags < 32; ++flags) {
      const bool tA = flags & 1, tB = flags & 2, tA2 = flags & 4, tB2 = flags & 8;
      const bool addend = flags & 16;
      Product expected;
      for (int64_t i = 0; i < count; ++i) {
        Product sum =
            Oracle(test.m, test.n, test.k, tA, tB, a.data() + offset(test.a, i, test.m * test.k),
                   b.data() + offset(test.b, i, test.k * test.n),
                   addend ? c.data() + i * test.m * test.n : nullptr);
        const Product one = Oracle(test.m, test.n, test.k2, tA2, tB2,
                                   a2.data() + offset(test.a2, i, test.m * test.k2),
                                   b2.data() + offset(test.b2, i, test.k2 * test.n), nullptr);
        for (size_t e = 0; e < sum.y.size(); ++e) {
          expected.y.push_back(sum.y[e] + one.y[e]);
          expected.bound.push_back(sum.bound[e] + one.bound[e]);
        }
      }
      for (DType dtype : {DType::kF32, DType::kF64}) {
        KernelRun run("matmul_pair");
        run.Number("transA", {double(tA)}).Number("transB", {double(tB)});
        run.Number("transA2", {double(tA2)}).Number("transB2", {double(tB2)});
        run.In(dtype, with(test.a, tA, test.m, test.k), a);
        run.In(dtype, with(test.b, tB, test.k, test.n), b);
        run.In(dtype, with(test.a2, tA2, test.m, test.k2), a2);
        run.In(dtype, with(test.b2, tB2, test.k2, test.n), b2);
        Shape shape(batch);
        shape.push_back(test.m);
        shape.push_back(test.n);
        if (addend) run.In(dtype, shape, c);
        run.Out(dtype, shape);
        if (addend && (flags & 1)) run.Alias(4, 0);
        const Numbers y = run.Run(1 + flags % 3)[0];
        CHECK(y.size() == expected.y.size());
        CHECK(WorstRatio(y, expected) < (dtype == DType::kF32 ? 2e-7 : 4e-16) * 500);
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
