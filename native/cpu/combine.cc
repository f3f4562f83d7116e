#include "native/cpu/combine.h"

#include <algorithm>
#include <vector>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/combine.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef LOSSCAPE_CPU_COMBINE_ONCE
#define LOSSCAPE_CPU_COMBINE_ONCE
namespace losscape {
namespace {

// Combinations made together: each load of V serves so many.
constexpr size_t kTogether = 4;

}  // namespace
}  // namespace losscape
#endif  // LOSSCAPE_CPU_COMBINE_ONCE

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// sums[kTogether][size] over columns [at, at + size); coefficients [rows][kTogether].
template <typename T>
HWY_INLINE void CombineTile(const T* const* basis, size_t rows, const double* coefficients,
                            size_t at, size_t size, double* sums) {
  const hn::ScalableTag<double> d;
  const size_t lanes = hn::Lanes(d);
  std::fill_n(sums, kTogether * size, 0.0);
  for (size_t j = 0; j < rows; ++j) {
    const T* HWY_RESTRICT v = basis[j] + at;
    const double* c = coefficients + j * kTogether;
    const auto c0 = hn::Set(d, c[0]), c1 = hn::Set(d, c[1]);
    const auto c2 = hn::Set(d, c[2]), c3 = hn::Set(d, c[3]);
    size_t i = 0;
    for (; i + lanes <= size; i += lanes) {
      auto x = hn::Zero(d);
      if constexpr (sizeof(T) == 4) {
        x = hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, decltype(d)>(), v + i));
      } else {
        x = hn::LoadU(d, v + i);
      }
      double* s = sums + i;
      hn::StoreU(hn::MulAdd(c0, x, hn::LoadU(d, s)), d, s);
      hn::StoreU(hn::MulAdd(c1, x, hn::LoadU(d, s + size)), d, s + size);
      hn::StoreU(hn::MulAdd(c2, x, hn::LoadU(d, s + 2 * size)), d, s + 2 * size);
      hn::StoreU(hn::MulAdd(c3, x, hn::LoadU(d, s + 3 * size)), d, s + 3 * size);
    }
    for (; i < size; ++i) {
      for (size_t k = 0; k < kTogether; ++k) sums[k * size + i] += c[k] * static_cast<double>(v[i]);
    }
  }
}

void CombineF32(const float* const* basis, size_t rows, const double* coefficients, size_t at,
                size_t size, double* sums) {
  CombineTile(basis, rows, coefficients, at, size, sums);
}
void CombineF64(const double* const* basis, size_t rows, const double* coefficients, size_t at,
                size_t size, double* sums) {
  CombineTile(basis, rows, coefficients, at, size, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(CombineF32);
HWY_EXPORT(CombineF64);

namespace {

// Columns whose rows stay in the second-level cache for all combinations, and whose sums stay in
// the first.
constexpr size_t kTile = 512;

}  // namespace

template <typename T>
void CombineRows(const T* const* basis, size_t rows, const double* coefficients, size_t count,
                 T* out, size_t stride, size_t n, int threads) {
  const size_t groups = (count + kTogether - 1) / kTogether;
  std::vector<double> packed(groups * rows * kTogether, 0.0);  // [groups, rows, kTogether]
  for (size_t k = 0; k < count; ++k) {
    for (size_t j = 0; j < rows; ++j) {
      packed[((k / kTogether) * rows + j) * kTogether + k % kTogether] = coefficients[k * rows + j];
    }
  }
  const size_t tiles = (n + kTile - 1) / kTile;
  ParallelFor(threads, static_cast<int64_t>(tiles), 1, [&](int64_t begin, int64_t end, int) {
    double sums[kTogether * kTile];
    for (size_t tile = static_cast<size_t>(begin); tile < static_cast<size_t>(end); ++tile) {
      const size_t at = tile * kTile;
      const size_t size = std::min(kTile, n - at);
      for (size_t g = 0; g < groups; ++g) {
        const double* c = packed.data() + g * rows * kTogether;
        if constexpr (sizeof(T) == 4) {
          HWY_DYNAMIC_DISPATCH(CombineF32)(basis, rows, c, at, size, sums);
        } else {
          HWY_DYNAMIC_DISPATCH(CombineF64)(basis, rows, c, at, size, sums);
        }
        const size_t last = std::min(count, (g + 1) * kTogether);
        for (size_t k = g * kTogether; k < last; ++k) {
          const double* sum = sums + (k % kTogether) * size;
          std::transform(sum, sum + size, out + k * stride + at,
                         [](double x) { return static_cast<T>(x); });
        }
      }
    }
  });
}

template void CombineRows(const float* const*, size_t, const double*, size_t, float*, size_t,
                          size_t, int);
template void CombineRows(const double* const*, size_t, const double*, size_t, double*, size_t,
                          size_t, int);

}  // namespace losscape
#endif  // HWY_ONCE
