#include "native/runtime/simd.h"

#include <cstdlib>

#include "native/cpu/onednn.h"
#include "native/test/test.h"

namespace losscape {
namespace {

TEST(simd_target_is_one_of_the_machine) {
  const Simd& simd = GetSimd();
  CHECK(!simd.targets.empty());
  bool found = false;
  for (const std::string& target : simd.targets) found |= target == simd.target;
  CHECK(found);
  CHECK(simd.limited || simd.target == simd.targets.front());
}

TEST(simd_limit_of_the_environment_holds) {
  const char* limit = std::getenv("LOSSCAPE_SIMD");
  const Simd& simd = GetSimd();
  CHECK(simd.limited == (limit && *limit));
  // The name comes from a kernel that ran, not from what Highway says to support.
  if (limit && std::string(limit) == "scalar") {
    CHECK(simd.target == "SCALAR" || simd.target == "EMU128");
  }
  if (limit && std::string(limit) == "sse4") {
    CHECK(simd.level <= SimdLevel::kSse4);
    CHECK(simd.level < SimdLevel::kSse4 || simd.target == "SSE4");
  }
  if (limit && std::string(limit) == "avx2") CHECK(simd.level <= SimdLevel::kAvx2);
}

TEST(simd_onednn_reports_a_version) { CHECK(OneDnnVersion().find('.') != std::string::npos); }

}  // namespace
}  // namespace losscape
