#include "native/cpu/machine_rates.h"

#include "native/runtime/error.h"
#include "native/test/test.h"

namespace losscape {
namespace {

// Bounds that any machine of this century meets and no broken clock or unit does.
TEST(copy_bandwidth_is_plausible) {
  const double rate = CopyBandwidth(size_t{8} << 20, 1);
  CHECK(rate > 1e8);
  CHECK(rate < 1e13);
}

TEST(gemm_rate_is_plausible_in_both_precisions) {
  const double single = GemmRate(256, DType::kF32, 1);
  const double twice = GemmRate(256, DType::kF64, 1);
  CHECK(single > 1e7);
  CHECK(single < 1e14);
  CHECK(twice > 1e7);
  CHECK(twice < 1e14);
}

TEST(machine_rates_refuse_what_they_cannot_measure) {
  CHECK_THROWS(CopyBandwidth(4095, 1), Code::kArgument);
  CHECK_THROWS(CopyBandwidth(4096, 0), Code::kArgument);
  CHECK_THROWS(GemmRate(0, DType::kF32, 1), Code::kArgument);
  CHECK_THROWS(GemmRate(16, DType::kI32, 1), Code::kDType);
}

}  // namespace
}  // namespace losscape
