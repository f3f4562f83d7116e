#include "native/cpu/onednn.h"

#include <oneapi/dnnl/dnnl.h>

#include "native/runtime/error.h"

namespace losscape {
namespace {

dnnl_cpu_isa_t MaxIsa(SimdLevel level) {
  switch (level) {
    case SimdLevel::kScalar:
    case SimdLevel::kSsse3:
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

}  // namespace losscape
