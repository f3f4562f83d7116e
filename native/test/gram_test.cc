#include "native/cpu/gram.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "native/cpu/combine.h"
#include "native/cpu/hypot.h"
#include "native/cpu/multiply.h"
#include "native/runtime/random.h"
#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

template <typename T>
std::vector<T> Normals(uint64_t stream, size_t n) {
  std::vector<T> x(n);
  FillNormals(11, stream, 0, n, x.data());
  return x;
}

template <typename T>
void CheckGram(size_t n, size_t rows, size_t others) {
  // One element in front, so that nothing is aligned.
  const std::vector<T> a = Normals<T>(1, rows * n + 1), b = Normals<T>(2, others * n + 1);
  std::vector<double> gram(rows * others, 7.0);
  GramRows(a.data() + 1, rows, b.data() + 1, others, n, gram.data(), 1);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < others; ++j) {
      long double sum = 0, bound = 0;
      for (size_t e = 0; e < n; ++e) {
        const long double term = static_cast<long double>(a[1 + i * n + e]) * b[1 + j * n + e];
        sum += term;
        bound += std::fabs(term);
      }
      // Chains of a block's columns over the lanes; one lane on the scalar target.
      CHECK_NEAR(gram[i * others + j], static_cast<double>(sum),
                 600 * DBL_EPSILON * static_cast<double>(bound));
    }
  }
  for (int threads : {2, 3}) {
    std::vector<double> again(gram.size());
    GramRows(a.data() + 1, rows, b.data() + 1, others, n, again.data(), threads);
    CHECK(gram.empty() || std::memcmp(again.data(), gram.data(), gram.size() * 8) == 0);
  }
}

TEST(GramRowsIsF64AndIndependentOfThreads) {
  ForEachTarget([] {
    for (size_t n : {1, 7, 64, 513, 3001}) {
      for (size_t rows : {0, 1, 3, 8, 17}) {
        for (size_t others : {0, 1, 3, 8, 17}) {
          CheckGram<float>(n, rows, others);
          CheckGram<double>(n, rows, others);
        }
      }
    }
    // Beyond a panel of rows, and more blocks than the smallest size makes.
    CheckGram<float>(100, 258, 35);
    CheckGram<float>(40001, 5, 5);
  });
}

TEST(GramOfOneBlockIsSymmetric) {
  const size_t n = 5000, rows = 9;
  const std::vector<float> a = Normals<float>(3, rows * n);
  std::vector<double> gram(rows * rows);
  GramRows(a.data(), rows, a.data(), rows, n, gram.data(), 2);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < i; ++j) CHECK(gram[i * rows + j] == gram[j * rows + i]);
  }
}

template <typename T>
void CheckCombine(size_t n, size_t rows, size_t count, bool add) {
  const std::vector<T> basis = Normals<T>(7, rows * n + 1);
  const std::vector<double> c = Normals<double>(8, rows * count);
  std::vector<const T*> pointers;
  for (size_t j = 0; j < rows; ++j) pointers.push_back(basis.data() + 1 + j * n);
  const size_t stride = n + 3;
  const std::vector<T> before = Normals<T>(9, count * stride);
  std::vector<T> out = before;
  CombineRows(pointers.data(), rows, c.data(), count, out.data(), stride, n, 1, add);
  for (int threads : {2, 3}) {
    std::vector<T> again = before;
    CombineRows(pointers.data(), rows, c.data(), count, again.data(), stride, n, threads, add);
    CHECK(out.empty() || std::memcmp(out.data(), again.data(), out.size() * sizeof(T)) == 0);
  }
  const double eps = sizeof(T) == 4 ? FLT_EPSILON : 1e-14;
  double worst = 0;
  for (size_t k = 0; k < count; ++k) {
    for (size_t i = 0; i < n; ++i) {
      double sum = add ? static_cast<double>(before[k * stride + i]) : 0;
      double bound = std::fabs(sum);
      for (size_t j = 0; j < rows; ++j) {
        const double term = c[k * rows + j] * static_cast<double>(pointers[j][i]);
        sum += term;
        bound += std::fabs(term);
      }
      worst = std::max(worst, std::fabs(out[k * stride + i] - sum) / (bound + 1e-30));
    }
    for (size_t i = n; i < stride; ++i) CHECK(out[k * stride + i] == before[k * stride + i]);
  }
  CHECK(worst <= eps);
}

TEST(CombineRowsAddsAndTakesAnyCount) {
  ForEachTarget([] {
    for (size_t n : {1, 7, 513, 1500}) {
      for (size_t rows : {0, 1, 3, 8, 17}) {
        for (size_t count : {0, 1, 2, 3, 8, 17}) {
          for (bool add : {false, true}) {
            CheckCombine<float>(n, rows, count, add);
            CheckCombine<double>(n, rows, count, add);
          }
        }
      }
    }
  });
}

TEST(CombineRowsOverflowsToInfinity) {
  ForEachTarget([] {
    const std::vector<float> row(9, 1e30f);
    const float* rows[] = {row.data()};
    const double factor = -1e30;
    std::vector<float> out(9);
    CombineRows(rows, 1, &factor, 1, out.data(), 9, 9, 1);
    CHECK(out == std::vector<float>(9, -INFINITY));
  });
}

template <typename T>
void CheckMultiply() {
  for (size_t n : {0, 1, 3, 17, 100, 40001}) {
    const std::vector<T> a = Normals<T>(4, n), b = Normals<T>(5, n), y = Normals<T>(6, n);
    for (int threads : {1, 3}) {
      std::vector<T> product(n), sum = y, inPlace = a;
      Multiply(a.data(), b.data(), product.data(), n, false, threads);
      Multiply(a.data(), b.data(), sum.data(), n, true, threads);
      Multiply(inPlace.data(), b.data(), inPlace.data(), n, false, threads);
      double worst = 0;
      for (size_t i = 0; i < n; ++i) {
        const double exact = static_cast<double>(a[i]) * static_cast<double>(b[i]);
        const double expected = static_cast<double>(y[i]) + exact;
        worst = std::max(worst, std::fabs(product[i] - exact) / (1e-30 + std::fabs(exact)));
        worst = std::max(
            worst, std::fabs(sum[i] - expected) / (1e-30 + std::fabs(exact) + std::fabs(y[i])));
        CHECK(inPlace[i] == product[i]);
      }
      CHECK(worst <= (sizeof(T) == 4 ? FLT_EPSILON : DBL_EPSILON));
    }
  }
}

TEST(MultiplyMatchesPlainLoops) {
  ForEachTarget([] {
    CheckMultiply<float>();
    CheckMultiply<double>();
  });
}

template <typename T>
void CheckHypot() {
  constexpr size_t kRows = 5, kPad = 3;
  // The ends of the range: squares of neither are numbers of T.
  const T low = std::numeric_limits<T>::min() * 8, high = std::numeric_limits<T>::max() / 8;
  for (size_t n : {0, 1, 3, 17, 100, 40001}) {
    const size_t stride = n + kPad;
    std::vector<T> x = Normals<T>(4, kRows * stride), before = Normals<T>(5, n);
    for (size_t i = 0; i < n; ++i) {
      const T scale = i % 4 == 0 ? low : i % 4 == 1 ? high : T{1};
      for (size_t j = 0; j < kRows; ++j) x[j * stride + i] *= i % 4 == 3 ? T{0} : scale / 8;
      before[i] = i % 4 == 3 ? T{0} : std::fabs(before[i]) * scale / 8;
    }
    std::vector<T> one = before;
    HypotRows(x.data(), kRows, stride, one.data(), n, 1);
    double worst = 0;
    for (size_t i = 0; i < n; ++i) {
      long double sum = static_cast<long double>(before[i]) * before[i];
      for (size_t j = 0; j < kRows; ++j) {
        sum += static_cast<long double>(x[j * stride + i]) * x[j * stride + i];
      }
      const long double expected = std::sqrt(sum);
      if (expected == 0) {
        CHECK(one[i] == 0);
      } else {
        worst = std::max(worst, static_cast<double>(std::fabs(one[i] - expected) / expected));
      }
    }
    CHECK(worst <= 8 * std::numeric_limits<T>::epsilon());
    std::vector<T> three = before;
    HypotRows(x.data(), kRows, stride, three.data(), n, 3);
    CHECK(one == three);
  }
}

TEST(HypotKeepsTheWholeRange) {
  ForEachTarget([] {
    CheckHypot<float>();
    CheckHypot<double>();
  });
}

}  // namespace
}  // namespace losscape::test
