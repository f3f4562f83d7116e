#include "native/cpu/onednn.h"

#include <oneapi/dnnl/dnnl.h>

#include "native/runtime/error.h"

namespace losscape {
namespace {

dnnl_cpu_isa_t MaxIsa(SimdLevel level) {
  switch (level) {
    case SimdLevel::kScalar:
    case SimdLevel::kSse4:
      return dnnl_cpu_isa_sse41;
    case SimdLevel::kAvx2:
      return dnnl_cpu_isa_avx2;
    case SimdLevel::kAvx512:
    case SimdLevel::kOther:
      return dnnl_cpu_isa_all;
  }
  return dnnl_cpu_isa_all;
}

}  // namespace

std::string OneDnnVersion() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

void LimitOneDnn(SimdLevel level) {
  // A library built without the switch reports `unimplemented`: it then keeps its own choice, and
  // only speed differs.
  const dnnl_status_t status = dnnl_set_max_cpu_isa(MaxIsa(level));
  if (status != dnnl_success && status != dnnl_unimplemented) {
    throw Error(Code::kNative, "LOSSCAPE_SIMD: oneDNN was in use before the limit was set.");
  }
}

void OneDnnGemm(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate) {
  const dnnl_status_t status =
      dnnl_sgemm(size.transA ? 'T' : 'N', size.transB ? 'T' : 'N', size.m, size.n, size.k, 1.0f, a,
                 size.transA ? size.m : size.k, b, size.transB ? size.k : size.n,
                 accumulate ? 1.0f : 0.0f, y, size.n);
  if (status == dnnl_out_of_memory) {
    throw Error(Code::kOutOfMemory, "matmul: no memory for the packed operands of a product of ",
                size.m, " x ", size.k, " by ", size.k, " x ", size.n, ".");
  }
  if (status != dnnl_success) {
    throw Error(Code::kNative, "matmul: dnnl_sgemm returned status ", static_cast<int>(status),
                " for a product of ", size.m, " x ", size.k, " by ", size.k, " x ", size.n, ".");
  }
}

}  // namespace losscape
