#include "native/cpu/hypot.h"

#include <algorithm>
#include <limits>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/hypot.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.h.
#include "native/cpu/wide-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One vector of columns.
template <typename T>
HWY_INLINE void HypotColumns(const T* x, size_t rows, size_t stride, T* y) {
  const Wide d;
  const auto before = LoadWide(d, y);
  if constexpr (sizeof(T) == 4) {
    auto sum = hn::Mul(before, before);
    for (size_t j = 0; j < rows; ++j) {
      const auto v = LoadWide(d, x + j * stride);
      sum = hn::MulAdd(v, v, sum);
    }
    StoreWide(d, hn::Sqrt(sum), y);
  } else {
    // Not zero, so that zeros do not divide by it.
    auto largest = hn::Max(before, hn::Set(d, std::numeric_limits<double>::min()));
    for (size_t j = 0; j < rows; ++j) {
      largest = hn::Max(largest, hn::Abs(LoadWide(d, x + j * stride)));
    }
    const auto first = hn::Div(before, largest);
    auto sum = hn::Mul(first, first);
    for (size_t j = 0; j < rows; ++j) {
      const auto v = hn::Div(LoadWide(d, x + j * stride), largest);
      sum = hn::MulAdd(v, v, sum);
    }
    StoreWide(d, hn::Mul(largest, hn::Sqrt(sum)), y);
  }
}

template <typename T>
HWY_INLINE void HypotRange(const T* x, size_t rows, size_t stride, T* y, size_t n) {
  const size_t lanes = hn::Lanes(Wide());
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) HypotColumns(x + i, rows, stride, y + i);
  if (i == n) return;
  // The tail has the arithmetic of the rest, row by row.
  constexpr size_t kLanes = HWY_MAX_BYTES / sizeof(double);
  HWY_ALIGN T row[kLanes] = {};
  HWY_ALIGN T sum[kLanes] = {};
  std::copy(y + i, y + n, sum);
  for (size_t j = 0; j < rows; ++j) {
    std::copy(x + j * stride + i, x + j * stride + n, row);
    HypotColumns(row, 1, 0, sum);
  }
  std::copy(sum, sum + (n - i), y + i);
}

void HypotF32(const float* x, size_t rows, size_t stride, float* y, size_t n) {
  HypotRange(x, rows, stride, y, n);
}
void HypotF64(const double* x, size_t rows, size_t stride, double* y, size_t n) {
  HypotRange(x, rows, stride, y, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(HypotF32);
HWY_EXPORT(HypotF64);

namespace {

// Elements for one thread at least. A multiple of every vector length: only the end of the vector
// takes the path of tails, so threads do not matter.
constexpr int64_t kGrain = 16384;

}  // namespace

template <typename T>
void HypotRows(const T* x, size_t rows, size_t stride, T* y, size_t n, int threads) {
  const int64_t blocks = (static_cast<int64_t>(n) + kGrain - 1) / kGrain;
  ParallelFor(threads, blocks, 1, [&](int64_t begin, int64_t end, int) {
    const size_t at = static_cast<size_t>(begin * kGrain);
    const size_t size = std::min(n, static_cast<size_t>(end * kGrain)) - at;
    if constexpr (sizeof(T) == 4) {
      HWY_DYNAMIC_DISPATCH(HypotF32)(x + at, rows, stride, y + at, size);
    } else {
      HWY_DYNAMIC_DISPATCH(HypotF64)(x + at, rows, stride, y + at, size);
    }
  });
}

template void HypotRows(const float*, size_t, size_t, float*, size_t, int);
template void HypotRows(const double*, size_t, size_t, double*, size_t, int);

}  // namespace losscape
#endif  // HWY_ONCE
