#include "native/runtime/blas.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "native/runtime/simd.h"
#include "native/test/test.h"

namespace losscape {
namespace {

// c = op(a) op(b) written out, a [m, k] or [k, m], b [k, n] or [n, k].
template <typename T>
std::vector<T> Product(int trans_a, int trans_b, int m, int n, int k, const std::vector<T>& a,
                       const std::vector<T>& b) {
  std::vector<T> c(m * n, 0);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      for (int l = 0; l < k; ++l) {
        c[i * n + j] +=
            (trans_a ? a[l * m + i] : a[i * k + l]) * (trans_b ? b[j * k + l] : b[l * n + j]);
      }
    }
  }
  return c;
}

template <typename T>
std::vector<T> Ramp(int count) {
  std::vector<T> values(count);
  for (int i = 0; i < count; ++i) values[i] = static_cast<T>((i * 7) % 11 - 5);
  return values;
}

// Small integers, so every sum is exact whatever its order.
template <typename T, typename Gemm>
void CheckGemm(Gemm gemm) {
  const int m = 5, n = 7, k = 9;
  const std::vector<T> a = Ramp<T>(m * k), b = Ramp<T>(k * n);
  for (int trans_a : {0, 1}) {
    for (int trans_b : {0, 1}) {
      std::vector<T> c(m * n, 1);
      CHECK(gemm(trans_a, trans_b, m, n, k, T{2}, a.data(), trans_a ? m : k, b.data(),
                 trans_b ? k : n, T{3}, c.data(), n) == 0);
      const std::vector<T> expected = Product(trans_a, trans_b, m, n, k, a, b);
      for (int i = 0; i < m * n; ++i) CHECK(c[i] == 2 * expected[i] + 3);
    }
  }
}

TEST(blas_dgemm_is_row_major_and_accumulates) { CheckGemm<double>(OpenBlas().dgemm); }

TEST(blas_sgemm_is_row_major_and_accumulates) { CheckGemm<float>(OpenBlas().sgemm); }

TEST(blas_refuses_sizes_beyond_32_bits) {
  double x = 0;
  const int status = OpenBlas().dgemm(0, 0, int64_t{1} << 31, 1, 1, 1.0, &x, 1, &x, 1, 0.0, &x, 1);
  CHECK(status == LOSSCAPE_BLAS_TOO_LARGE);
  CHECK_THROWS(CheckBlas(status, "dgemm"), Code::kShape);
  CHECK(OpenBlas().dsyevd(1 << 16, 1, &x, &x) == LOSSCAPE_BLAS_TOO_LARGE);
  CHECK_THROWS(CheckBlas(3, "dsyevd"), Code::kNotFinite);
}

// The second difference matrix has eigenvalues 2 - 2 cos(pi j / (n + 1)).
TEST(blas_dsyevd_gives_ascending_values_and_vectors_as_rows) {
  const int n = 24;
  std::vector<double> a(n * n, 0), w(n);
  for (int i = 0; i < n; ++i) {
    a[i * n + i] = 2;
    if (i > 0) a[i * n + i - 1] = -1;  // the lower triangle alone is read
  }
  CHECK(OpenBlas().dsyevd(n, 1, a.data(), w.data()) == 0);
  for (int j = 0; j < n; ++j) {
    CHECK_NEAR(w[j], 2 - 2 * std::cos(M_PI * (j + 1) / (n + 1)), 1e-13);
    for (int i = 0; i < n; ++i) {
      const double left = i > 0 ? a[j * n + i - 1] : 0;
      const double right = i + 1 < n ? a[j * n + i + 1] : 0;
      CHECK_NEAR(2 * a[j * n + i] - left - right, w[j] * a[j * n + i], 1e-13);
    }
  }
}

// Whatever this machine is: the kernels in use are those that were asked for.
TEST(blas_uses_the_core_type_that_was_chosen) {
  const std::string core = OpenBlas().core();
  const char* forced = std::getenv("OPENBLAS_CORETYPE");
  if (forced) {
    CHECK(core == forced);
  } else if (BlasCoreType()) {
    CHECK(core == BlasCoreType());
  } else {
    CHECK(GetSimd().level != SimdLevel::kAvx512);
  }
  CHECK(std::string(OpenBlas().version()).find("OPENMP") != std::string::npos);
}

}  // namespace
}  // namespace losscape
