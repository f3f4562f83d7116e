#include "native/blas/blas.h"

#include <climits>
#include <cstddef>
#include <new>
#include <vector>

#define EXPORT __attribute__((visibility("default")))

// Declared here rather than taken from cblas.h, whose place and content vary between builds.
extern "C" {
void cblas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha,
                 const double* a, int lda, const double* b, int ldb, double beta, double* c,
                 int ldc);
void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                 const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w,
             double* work, const int* lwork, int* iwork, const int* liwork, int* info,
             size_t jobz_length, size_t uplo_length);
void openblas_set_num_threads(int threads);
char* openblas_get_config();
char* openblas_get_corename();
}

namespace {

constexpr int kRowMajor = 101;
constexpr int kNoTrans = 111;
constexpr int kTrans = 112;

template <typename... Sizes>
bool Fit(Sizes... sizes) {
  return ((sizes <= INT_MAX) && ...);
}

template <typename T, typename Gemm>
int RunGemm(Gemm gemm, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, T alpha,
            const T* a, int64_t lda, const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  if (!Fit(m, n, k, lda, ldb, ldc)) return LOSSCAPE_BLAS_TOO_LARGE;
  gemm(kRowMajor, trans_a ? kTrans : kNoTrans, trans_b ? kTrans : kNoTrans, static_cast<int>(m),
       static_cast<int>(n), static_cast<int>(k), alpha, a, static_cast<int>(lda), b,
       static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
  return 0;
}

}  // namespace

extern "C" {

EXPORT int losscape_blas_abi() { return LOSSCAPE_BLAS_ABI; }

EXPORT int losscape_blas_dgemm(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k,
                               double alpha, const double* a, int64_t lda, const double* b,
                               int64_t ldb, double beta, double* c, int64_t ldc) {
  return RunGemm(cblas_dgemm, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

EXPORT int losscape_blas_sgemm(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k,
                               float alpha, const float* a, int64_t lda, const float* b,
                               int64_t ldb, float beta, float* c, int64_t ldc) {
  return RunGemm(cblas_sgemm, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

EXPORT int losscape_blas_dsyevd(int64_t n, int vectors, double* a, double* w) {
  if (n == 0) return 0;
  // Workspaces that LAPACK's documentation asks for; lwork is a 32-bit integer too.
  const int64_t lwork = vectors ? 1 + 6 * n + 2 * n * n : 2 * n + 1;
  const int64_t liwork = vectors ? 3 + 5 * n : 1;
  if (n > 46340 || !Fit(lwork, liwork)) return LOSSCAPE_BLAS_TOO_LARGE;
  try {
    std::vector<double> work(static_cast<size_t>(lwork));
    std::vector<int> iwork(static_cast<size_t>(liwork));
    const int size = static_cast<int>(n);
    const int work_size = static_cast<int>(lwork);
    const int iwork_size = static_cast<int>(liwork);
    int info = 0;
    // The lower triangle of a row-major matrix is the upper one of LAPACK's column-major view;
    // its eigenvector columns come back as our rows.
    dsyevd_(vectors ? "V" : "N", "U", &size, a, &size, w, work.data(), &work_size, iwork.data(),
            &iwork_size, &info, 1, 1);
    return info;
  } catch (const std::bad_alloc&) {
    return LOSSCAPE_BLAS_OUT_OF_MEMORY;
  }
}

EXPORT void losscape_blas_set_threads(int threads) { openblas_set_num_threads(threads); }

EXPORT const char* losscape_blas_version() { return openblas_get_config(); }

EXPORT const char* losscape_blas_core() { return openblas_get_corename(); }
}
