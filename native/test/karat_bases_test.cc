#include <algorithm>
#include <string>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

struct Basis {
  const char* kind;
  Numbers numbers;
  int64_t features;
  const char* base = "zero";
  int64_t Count() const { return features + (base[0] != 'z'); }
};

const Basis kBases[] = {
    {"chebyshev", {1}, 1},       {"chebyshev", {7}, 7},      {"chebyshev", {3}, 3, "silu"},
    {"rbf", {2, -1, 1}, 2},      {"rbf", {9, -3, 2}, 9},     {"rbf", {4, -2, 2}, 4, "identity"},
    {"bspline", {1, 1, 2}, 2},   {"bspline", {2, 4, 3}, 6},  {"bspline", {3, 5, 1.5}, 8, "gelu"},
    {"bspline", {5, 10, 4}, 15}, {"bspline", {15, 2, 1}, 17}};

double Spline(int k, double s) {
  if (!(s >= 0 && s < k + 1)) return 0;
  if (k == 0) return 1;
  return (s * Spline(k - 1, s) + (k + 1 - s) * Spline(k - 1, s - 1)) / k;
}

double Feature(const Basis& basis, int64_t j, double x) {
  const Numbers& n = basis.numbers;
  const std::string kind = basis.kind;
  if (j == basis.features) {
    if (basis.base[0] == 'i') return x;
    return basis.base[0] == 's' ? x / (1 + std::exp(-x)) : 0.5 * x * std::erfc(-x * std::sqrt(0.5));
  }
  if (kind == "chebyshev") return std::cos(static_cast<double>(j + 1) * std::acos(std::tanh(x)));
  if (kind == "rbf") {
    const double h = (n[2] - n[1]) / (n[0] - 1);
    const double u = (x - n[1]) / h - static_cast<double>(j);
    return std::exp(-u * u);
  }
  const double s = (x + n[2]) * n[1] / (2 * n[2]) + n[0] - static_cast<double>(j);
  return Spline(static_cast<int>(n[0]), s);
}

// With one key k = 1 and the identity as coefficients, z_n = f(q_n), and its derivative along q.
Numbers Run(const Basis& basis, DType dtype, int order, const Numbers& x, int threads = 1) {
  const int64_t n = static_cast<int64_t>(x.size()), J = basis.Count();
  Numbers identity(J * J), zero(J * J), none = {0}, ones(n, 1);
  for (int64_t j = 0; j < J; ++j) identity[j * J + j] = 1;
  const char* names[] = {"karat_latent", "karat_latent_jvp", "karat_latent_jvp_jvp"};
  KernelRun run(names[order]);
  run.String("basis", basis.kind).Number("basisNumbers", basis.numbers);
  run.String("base", basis.base).String("layout", "bhnd");
  run.Number("scale", {1}).Number("masked", {0});
  run.In(dtype, {1, 1, n, 1}, x).In(dtype, {1, 1, 1, 1}, {1}).In(dtype, {1, 1, J, 1, J}, identity);
  for (int i = 0; i < order; ++i) {
    run.In(dtype, {1, 1, 1, n, 1}, ones).In(dtype, {1, 1, 1, 1, 1}, none);
    run.In(dtype, {1, 1, 1, J, 1, J}, zero);
  }
  if (order == 0) return run.Out(dtype, {1, 1, n, J}).Run(threads)[0];
  return run.Out(dtype, {1, 1, 1, n, J}).Run(threads)[0];
}

TEST(KaratBasesMatchTheirDefinitions) {
  Source source(71);
  const Numbers x = source.Normal(43, 2);
  ForEachTarget([&] {
    for (const Basis& basis : kBases) {
      const int64_t J = basis.Count();
      Numbers expected;
      for (double value : x) {
        for (int64_t j = 0; j < J; ++j) expected.push_back(Feature(basis, j, value));
      }
      for (int threads = 1; threads <= 3; ++threads) {
        CHECK(LargestDifference(Run(basis, DType::kF64, 0, x, threads), expected) < 1e-12);
        CHECK(LargestDifference(Run(basis, DType::kF32, 0, x, threads), expected) < 1e-5);
      }
    }
  });
}

TEST(KaratBasesHaveTheirDerivatives) {
  Source source(72);
  const double h = 1e-6;
  const Numbers x = source.Normal(37, 1.5);
  auto moved = [&](double step) {
    Numbers y = x;
    for (double& value : y) value += step;
    return y;
  };
  ForEachTarget([&] {
    for (const Basis& basis : kBases) {
      for (int order = 1; order <= 2; ++order) {
        const Numbers plus = Run(basis, DType::kF64, order - 1, moved(h));
        const Numbers minus = Run(basis, DType::kF64, order - 1, moved(-h));
        const Numbers exact = Run(basis, DType::kF64, order, x);
        double size = 1;
        for (double value : exact) size = std::max(size, std::fabs(value));
        for (size_t i = 0; i < exact.size(); ++i) {
          // A third derivative times h where there is a kink, else h^2.
          CHECK_NEAR(exact[i], (plus[i] - minus[i]) / (2 * h), 1e-5 * size);
        }
        CHECK(LargestDifference(Run(basis, DType::kF32, order, x), exact) < 3e-5 * size);
      }
    }
  });
}

TEST(KaratSplinesSumToOne) {
  Numbers x;
  for (int i = 0; i < 200; ++i) x.push_back(-2 + 0.02 * i);
  for (double order = 1; order <= 15; ++order) {
    const Basis basis{"bspline", {order, 6, 2}, static_cast<int64_t>(order) + 6};
    const Numbers y = Run(basis, DType::kF64, 0, x);
    for (size_t n = 0; n < x.size(); ++n) {
      double sum = 0;
      for (int64_t j = 0; j < basis.features; ++j) sum += y[n * basis.features + j];
      CHECK_NEAR(sum, 1, 1e-13);
    }
  }
}

TEST(KaratBasesFarAway) {
  ForEachTarget([&] {
    for (const Basis& basis : kBases) {
      if (basis.base[0] != 'z') continue;
      const bool chebyshev = basis.kind[0] == 'c';
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int order = 0; order <= 2; ++order) {
          const Numbers y = Run(basis, dtype, order, {1e3, -1e3, 1e25, NAN, 0.5});
          const int64_t J = basis.Count();
          for (int64_t j = 0; j < J; ++j) {
            const bool constant = chebyshev && order == 0;
            CHECK(y[j] == (constant ? 1 : 0));
            CHECK(y[J + j] == (constant ? (j % 2 == 0 ? -1 : 1) : 0));
            CHECK(y[2 * J + j] == y[j]);
            CHECK(std::isnan(y[3 * J + j]));
            CHECK(!std::isnan(y[4 * J + j]));
          }
        }
      }
    }
  });
}

TEST(KaratBasesRefuseTheirNumbers) {
  const Basis bad[] = {{"chebyshev", {0}, 1},       {"rbf", {1, 0, 1}, 1},
                       {"rbf", {3, 1, 1}, 3},       {"bspline", {0, 3, 1}, 3},
                       {"bspline", {16, 3, 1}, 19}, {"bspline", {3, 3, 0}, 6},
                       {"bspline", {3, 3}, 6},      {"bspline", {3, NAN, 1}, 6}};
  for (const Basis& basis : bad) {
    CHECK_THROWS(Run(basis, DType::kF32, 0, {0.5}), Code::kProgram);
  }
}

}  // namespace
}  // namespace losscape::test
