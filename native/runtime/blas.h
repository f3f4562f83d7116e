// OpenBLAS, opened at first use from liblosscape_blas.so beside the binary that contains this code.
#pragma once

#include "native/blas/blas.h"

namespace losscape {

struct Blas {
  decltype(&losscape_blas_dgemm) dgemm;
  decltype(&losscape_blas_sgemm) sgemm;
  decltype(&losscape_blas_dsyevd) dsyevd;
  decltype(&losscape_blas_set_threads) set_threads;
  decltype(&losscape_blas_version) version;
  decltype(&losscape_blas_core) core;
};

// Sets OPENBLAS_CORETYPE to BlasCoreType() where the user has not set it, for OpenBLAS's
// constructor to read. Once per process and before other threads run: setenv races with every
// getenv. The addon and the native tests call it when they start.
void ChooseBlasCore();

// Opens the library in the first call; LOSSCAPE_BLAS names another file than the one beside us.
// Throws Error{ERR_NATIVE} when it cannot be opened or belongs to another version.
const Blas& OpenBlas();

// Throws for a status that one of the functions above returned: ERR_OUT_OF_MEMORY, ERR_SHAPE (too
// large), or ERR_NOT_FINITE (LAPACK did not converge, which finite matrices do). `what` opens the
// message.
void CheckBlas(int status, const char* what);

// The OPENBLAS_CORETYPE that this machine needs, or nullptr where OpenBLAS's own choice is right.
const char* BlasCoreType();

}  // namespace losscape
