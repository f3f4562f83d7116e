#include "native/runtime/simd.h"

#include <hwy/targets.h>

#include <cstdlib>

#include "native/cpu/onednn.h"
#include "native/runtime/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/runtime/simd.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

int64_t Target() { return HWY_TARGET; }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {
namespace {

HWY_EXPORT(Target);

struct Level {
  const char* name;
  SimdLevel level;
  int64_t target;
};

#if HWY_ARCH_X86
constexpr Level kLevels[] = {
    {"avx512", SimdLevel::kAvx512, HWY_AVX3},
    {"avx2", SimdLevel::kAvx2, HWY_AVX2},
    {"sse4", SimdLevel::kSse4, HWY_SSE4},
    {"scalar", SimdLevel::kScalar, HWY_EMU128},
};
#else
constexpr Level kLevels[] = {{"scalar", SimdLevel::kScalar, HWY_EMU128}};
#endif

SimdLevel LevelInUse() {
#if HWY_ARCH_X86
  const int64_t supported = hwy::SupportedTargets();
  for (const Level& level : kLevels) {
    if (supported & level.target) return level.level;
  }
  return SimdLevel::kScalar;
#else
  return SimdLevel::kOther;
#endif
}

// Highway numbers its targets so that a lower bit is a better target.
void Lower(const std::string& name) {
  std::string known;
  for (const Level& level : kLevels) {
    if (name == level.name) {
      hwy::DisableTargets(level.target - 1);
      return;
    }
    known += std::string(known.empty() ? "" : ", ") + level.name;
  }
  throw Error(Code::kArgument, "LOSSCAPE_SIMD: expected one of ", known, ", got '", name, "'.");
}

Simd Detect() {
  Simd simd;
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    simd.targets.push_back(hwy::TargetName(target));
  }
  const char* limit = std::getenv("LOSSCAPE_SIMD");
  simd.limited = limit && *limit;
  if (simd.limited) Lower(limit);
  simd.level = LevelInUse();
  // Asking what is supported makes Highway choose again, from everything that the CPU has, whatever
  // was disabled: the choice has to be made last.
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  simd.target = hwy::TargetName(HWY_DYNAMIC_DISPATCH(Target)());
  if (simd.limited) LimitOneDnn(simd.level);
  return simd;
}

}  // namespace

const Simd& GetSimd() {
  static const Simd simd = Detect();
  return simd;
}

}  // namespace losscape
#endif  // HWY_ONCE
