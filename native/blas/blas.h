// C ABI of liblosscape_blas: OpenBLAS in a library of its own, because it chooses its kernels in
// its constructor and the choice has to be corrected before that (native/runtime/blas.h). Matrices
// are row-major. Functions return 0, LAPACK's positive info, or one of the codes below.
#pragma once

#include <cstdint>

#define LOSSCAPE_BLAS_ABI 1
#define LOSSCAPE_BLAS_TOO_LARGE (-1)      // a size does not fit OpenBLAS's 32-bit integers
#define LOSSCAPE_BLAS_OUT_OF_MEMORY (-2)  // no memory for the workspace

extern "C" {

int losscape_blas_abi();

// c [m, n] = alpha op(a) op(b) + beta c; op transposes when trans is 1.
// a [m, k] ([k, m] when transposed), b [k, n] ([n, k]); ld: elements between rows.
int losscape_blas_dgemm(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, double alpha,
                        const double* a, int64_t lda, const double* b, int64_t ldb, double beta,
                        double* c, int64_t ldc);
int losscape_blas_sgemm(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                        const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
                        float* c, int64_t ldc);

// Eigenvalues w [n], ascending, of the symmetric a [n, n] (lower triangle read). With `vectors`,
// row i of a becomes the eigenvector of w[i]; a is destroyed otherwise.
int losscape_blas_dsyevd(int64_t n, int vectors, double* a, double* w);

void losscape_blas_set_threads(int threads);

// Build configuration, and the kernel set in use ("SkylakeX", "Zen", ...).
const char* losscape_blas_version();
const char* losscape_blas_core();
}
