#include "native/cpu/average.h"

#include <algorithm>
#include <cstdint>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/average.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
HWY_INLINE void AverageRange(T share, const T* x, T* average, size_t n) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  const auto one = [d, share](const T* from, T* to) HWY_ATTR {
    const auto old = hn::LoadU(d, to);
    hn::StoreU(hn::MulAdd(hn::Set(d, share), hn::Sub(hn::LoadU(d, from), old), old), d, to);
  };
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) one(x + i, average + i);
  if (i == n) return;
  // The tail has the arithmetic of the rest, so that where a range ends does not matter.
  constexpr size_t kLanes = HWY_MAX_BYTES / sizeof(T);
  HWY_ALIGN T tail[2][kLanes] = {};
  std::copy(x + i, x + n, tail[0]);
  std::copy(average + i, average + n, tail[1]);
  one(tail[0], tail[1]);
  std::copy(tail[1], tail[1] + (n - i), average + i);
}

void AverageF32(float share, const float* x, float* average, size_t n) {
  AverageRange(share, x, average, n);
}
void AverageF64(double share, const double* x, double* average, size_t n) {
  AverageRange(share, x, average, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(AverageF32);
HWY_EXPORT(AverageF64);

namespace {

// Elements for one thread at least.
constexpr int64_t kGrain = 16384;

}  // namespace

template <typename T>
void MoveAverage(double decay, const T* x, T* average, size_t n, int threads) {
  const T share = static_cast<T>(1 - decay);
  ParallelFor(threads, static_cast<int64_t>(n), kGrain, [&](int64_t begin, int64_t end, int) {
    const size_t size = static_cast<size_t>(end - begin);
    if constexpr (sizeof(T) == 4) {
      HWY_DYNAMIC_DISPATCH(AverageF32)(share, x + begin, average + begin, size);
    } else {
      HWY_DYNAMIC_DISPATCH(AverageF64)(share, x + begin, average + begin, size);
    }
  });
}

template void MoveAverage(double, const float*, float*, size_t, int);
template void MoveAverage(double, const double*, double*, size_t, int);

}  // namespace losscape
#endif  // HWY_ONCE
