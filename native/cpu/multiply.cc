#include "native/cpu/multiply.h"

#include <algorithm>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/multiply.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.h.
#include "native/cpu/wide-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
HWY_INLINE void MultiplyRange(const T* a, const T* b, T* y, size_t n, bool add) {
  const Wide d;
  const size_t lanes = hn::Lanes(d);
  const auto one = [d, add](const T* p, const T* q, T* to) HWY_ATTR {
    const auto x = LoadWide(d, p);
    const auto z = LoadWide(d, q);
    StoreWide(d, add ? hn::MulAdd(x, z, LoadWide(d, to)) : hn::Mul(x, z), to);
  };
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) one(a + i, b + i, y + i);
  if (i == n) return;
  // The tail has the arithmetic of the rest, so that where a range ends does not matter.
  constexpr size_t kLanes = HWY_MAX_BYTES / sizeof(double);
  HWY_ALIGN T tail[3][kLanes] = {};
  std::copy(a + i, a + n, tail[0]);
  std::copy(b + i, b + n, tail[1]);
  std::copy(y + i, y + n, tail[2]);
  one(tail[0], tail[1], tail[2]);
  std::copy(tail[2], tail[2] + (n - i), y + i);
}

void MultiplyF32(const float* a, const float* b, float* y, size_t n, bool add) {
  MultiplyRange(a, b, y, n, add);
}
void MultiplyF64(const double* a, const double* b, double* y, size_t n, bool add) {
  MultiplyRange(a, b, y, n, add);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(MultiplyF32);
HWY_EXPORT(MultiplyF64);

namespace {

// Elements for one thread at least.
constexpr int64_t kGrain = 16384;

}  // namespace

template <typename T>
void Multiply(const T* a, const T* b, T* y, size_t n, bool add, int threads) {
  ParallelFor(threads, static_cast<int64_t>(n), kGrain, [&](int64_t begin, int64_t end, int) {
    const size_t size = static_cast<size_t>(end - begin);
    if constexpr (sizeof(T) == 4) {
      HWY_DYNAMIC_DISPATCH(MultiplyF32)(a + begin, b + begin, y + begin, size, add);
    } else {
      HWY_DYNAMIC_DISPATCH(MultiplyF64)(a + begin, b + begin, y + begin, size, add);
    }
  });
}

template void Multiply(const float*, const float*, float*, size_t, bool, int);
template void Multiply(const double*, const double*, double*, size_t, bool, int);

}  // namespace losscape
#endif  // HWY_ONCE
