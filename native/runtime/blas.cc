#include "native/runtime/blas.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string>

#include "native/runtime/error.h"
#include "native/runtime/simd.h"

namespace losscape {
namespace {

constexpr char kCoreTypeVariable[] = "OPENBLAS_CORETYPE";

std::string LibraryPath() {
  if (const char* chosen = std::getenv("LOSSCAPE_BLAS")) return chosen;
  Dl_info here;
  if (!dladdr(reinterpret_cast<const void*>(&OpenBlas), &here) || !here.dli_fname) {
    return "liblosscape_blas.so";
  }
  const std::string self = here.dli_fname;
  const size_t slash = self.rfind('/');
  return (slash == std::string::npos ? "./" : self.substr(0, slash + 1)) + "liblosscape_blas.so";
}

template <typename Function>
void Resolve(void* library, const std::string& path, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (!function) {
    throw Error(Code::kNative, "The BLAS helper ", path, " has no ", name,
                ": it belongs to another version of losscape. Rebuild with `npm run build`.");
  }
}

Blas Open() {
  const std::string path = LibraryPath();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) {
    const char* reason = dlerror();
    throw Error(Code::kNative, "The BLAS helper could not be opened (", reason ? reason : path,
                "). Rebuild with `npm run build`, or install libopenblas-openmp-dev first.");
  }
  decltype(&losscape_blas_abi) abi;
  Resolve(library, path, "losscape_blas_abi", abi);
  if (abi() != LOSSCAPE_BLAS_ABI) {
    throw Error(Code::kNative, "The BLAS helper ", path, " has interface version ", abi(),
                ", expected ", LOSSCAPE_BLAS_ABI, ". Rebuild with `npm run build`.");
  }
  Blas blas;
  Resolve(library, path, "losscape_blas_dgemm", blas.dgemm);
  Resolve(library, path, "losscape_blas_sgemm", blas.sgemm);
  Resolve(library, path, "losscape_blas_dsyevd", blas.dsyevd);
  Resolve(library, path, "losscape_blas_set_threads", blas.set_threads);
  Resolve(library, path, "losscape_blas_version", blas.version);
  Resolve(library, path, "losscape_blas_core", blas.core);
  return blas;
}

}  // namespace

void ChooseBlasCore() {
  static const bool chosen = [] {
    const char* type = BlasCoreType();
    return type && setenv(kCoreTypeVariable, type, 0) == 0;
  }();
  static_cast<void>(chosen);
}

const Blas& OpenBlas() {
  static const Blas blas = Open();
  return blas;
}

void CheckBlas(int status, const char* what) {
  if (status == 0) return;
  if (status == LOSSCAPE_BLAS_OUT_OF_MEMORY) {
    throw Error(Code::kOutOfMemory, what, ": no memory for the workspace.");
  }
  if (status == LOSSCAPE_BLAS_TOO_LARGE) {
    throw Error(Code::kShape, what, ": a size is beyond the 32-bit integers of OpenBLAS.");
  }
  throw Error(Code::kNotFinite, what, ": no convergence (LAPACK info ", status,
              "); the matrix holds NaN or infinity.");
}

const char* BlasCoreType() {
  // OpenBLAS 0.3.21 does not know server CPUs newer than itself and falls back to kernels that are
  // five to eight times slower, although SkylakeX is right for every CPU with AVX-512.
  switch (GetSimd().level) {
    case SimdLevel::kAvx512:
      return "SkylakeX";
    case SimdLevel::kAvx2:
      return GetSimd().limited ? "Haswell" : nullptr;
    case SimdLevel::kSse4:
    case SimdLevel::kScalar:
      return GetSimd().limited ? "Nehalem" : nullptr;
    case SimdLevel::kOther:
      return nullptr;
  }
  return nullptr;
}

}  // namespace losscape
