#include "native/cpu/combine.h"

#include <algorithm>
#include <vector>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/combine.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.h.
#include "native/cpu/wide-inl.h"

#ifndef LOSSCAPE_CPU_COMBINE_ONCE
#define LOSSCAPE_CPU_COMBINE_ONCE
namespace losscape {
namespace {

// Combinations made together: each load of V serves so many.
constexpr size_t kTogether = 4;
// Rows of V between loads and stores of the sums, and streams for the prefetchers to follow.
constexpr size_t kRows = 8;

}  // namespace
}  // namespace losscape
#endif  // LOSSCAPE_CPU_COMBINE_ONCE

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// sums[c][i] += coefficients[j][c] basis[j][i] for C combinations, kVectors vectors of columns at
// i; eight chains hide the latency of the multiply-adds. coefficients: [rows][kTogether].
template <size_t C, size_t kVectors, typename T>
HWY_INLINE void CombineColumns(const T* const* basis, size_t rows, const double* coefficients,
                               size_t at, size_t i, double* HWY_RESTRICT sums, size_t size) {
  const Wide d;
  const size_t lanes = hn::Lanes(d);
  const size_t second = kVectors > 1 ? lanes : 0;
  double* s0 = sums + i;
  double* s1 = s0 + (C > 1 ? size : 0);
  double* s2 = s0 + (C > 2 ? 2 * size : 0);
  double* s3 = s0 + (C > 3 ? 3 * size : 0);
  auto a0 = hn::LoadU(d, s0), b0 = hn::LoadU(d, s0 + second);
  auto a1 = hn::LoadU(d, s1), b1 = hn::LoadU(d, s1 + second);
  auto a2 = hn::LoadU(d, s2), b2 = hn::LoadU(d, s2 + second);
  auto a3 = hn::LoadU(d, s3), b3 = hn::LoadU(d, s3 + second);
  for (size_t j = 0; j < rows; ++j) {
    const T* HWY_RESTRICT v = basis[j] + at + i;
    const double* HWY_RESTRICT c = coefficients + j * kTogether;
    const auto x = LoadWide(d, v);
    [[maybe_unused]] const auto y = LoadWide(d, v + second);
    const auto c0 = hn::Set(d, c[0]);
    a0 = hn::MulAdd(c0, x, a0);
    if constexpr (kVectors > 1) b0 = hn::MulAdd(c0, y, b0);
    if constexpr (C > 1) {
      const auto c1 = hn::Set(d, c[1]);
      a1 = hn::MulAdd(c1, x, a1);
      if constexpr (kVectors > 1) b1 = hn::MulAdd(c1, y, b1);
    }
    if constexpr (C > 2) {
      const auto c2 = hn::Set(d, c[2]);
      a2 = hn::MulAdd(c2, x, a2);
      if constexpr (kVectors > 1) b2 = hn::MulAdd(c2, y, b2);
    }
    if constexpr (C > 3) {
      const auto c3 = hn::Set(d, c[3]);
      a3 = hn::MulAdd(c3, x, a3);
      if constexpr (kVectors > 1) b3 = hn::MulAdd(c3, y, b3);
    }
  }
  const auto store = [&](auto a, auto b, double* s) HWY_ATTR {
    hn::StoreU(a, d, s);
    if constexpr (kVectors > 1) hn::StoreU(b, d, s + lanes);
  };
  store(a0, b0, s0);
  if constexpr (C > 1) store(a1, b1, s1);
  if constexpr (C > 2) store(a2, b2, s2);
  if constexpr (C > 3) store(a3, b3, s3);
}

// sums[C][size] over columns [at, at + size).
template <size_t C, typename T>
HWY_INLINE void CombineTile(const T* const* basis, size_t rows, const double* coefficients,
                            size_t at, size_t size, double* sums) {
  const size_t lanes = hn::Lanes(Wide());
  for (size_t j = 0; j < rows; j += kRows) {
    const size_t some = std::min(kRows, rows - j);
    const double* c = coefficients + j * kTogether;
    size_t i = 0;
    for (; i + 2 * lanes <= size; i += 2 * lanes) {
      CombineColumns<C, 2>(basis + j, some, c, at, i, sums, size);
    }
    for (; i + lanes <= size; i += lanes) {
      CombineColumns<C, 1>(basis + j, some, c, at, i, sums, size);
    }
    for (; i < size; ++i) {
      for (size_t r = 0; r < some; ++r) {
        const double v = static_cast<double>(basis[j + r][at + i]);
        for (size_t k = 0; k < C; ++k) sums[k * size + i] += c[r * kTogether + k] * v;
      }
    }
  }
}

HWY_INLINE void Widen(const double* from, double* to, size_t n) { std::copy_n(from, n, to); }
HWY_INLINE void Widen(const float* from, double* to, size_t n) {
  const Wide d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) hn::StoreU(LoadWide(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = static_cast<double>(from[i]);
}

HWY_INLINE void Narrow(const double* from, double* to, size_t n) { std::copy_n(from, n, to); }
HWY_INLINE void Narrow(const double* from, float* to, size_t n) {
  const Wide d;
  const hn::Rebind<float, Wide> narrow;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    hn::StoreU(math::ToFloat(narrow, hn::LoadU(d, from + i)), narrow, to + i);
  }
  for (; i < n; ++i) to[i] = static_cast<float>(from[i]);
}

// Columns [at, at + size) of `count` combinations, at most kTogether. sums: scratch.
template <typename T>
HWY_INLINE void Combine(const T* const* basis, size_t rows, const double* coefficients,
                        size_t count, size_t at, size_t size, bool add, T* out, size_t stride,
                        double* sums) {
  if (add) {
    for (size_t k = 0; k < count; ++k) Widen(out + k * stride + at, sums + k * size, size);
  } else {
    std::fill_n(sums, count * size, 0.0);
  }
  if (count == 1) CombineTile<1>(basis, rows, coefficients, at, size, sums);
  if (count == 2) CombineTile<2>(basis, rows, coefficients, at, size, sums);
  if (count == 3) CombineTile<3>(basis, rows, coefficients, at, size, sums);
  if (count == 4) CombineTile<4>(basis, rows, coefficients, at, size, sums);
  for (size_t k = 0; k < count; ++k) Narrow(sums + k * size, out + k * stride + at, size);
}

void CombineF32(const float* const* basis, size_t rows, const double* coefficients, size_t count,
                size_t at, size_t size, bool add, float* out, size_t stride, double* sums) {
  Combine(basis, rows, coefficients, count, at, size, add, out, stride, sums);
}
void CombineF64(const double* const* basis, size_t rows, const double* coefficients, size_t count,
                size_t at, size_t size, bool add, double* out, size_t stride, double* sums) {
  Combine(basis, rows, coefficients, count, at, size, add, out, stride, sums);
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

// Products below which a second thread costs more than it saves.
constexpr size_t kParallel = size_t{1} << 17;

}  // namespace

template <typename T>
void CombineRows(const T* const* basis, size_t rows, const double* coefficients, size_t count,
                 T* out, size_t stride, size_t n, int threads, bool add) {
  const size_t groups = (count + kTogether - 1) / kTogether;
  std::vector<double> packed(groups * rows * kTogether, 0.0);  // [groups, rows, kTogether]
  for (size_t k = 0; k < count; ++k) {
    for (size_t j = 0; j < rows; ++j) {
      packed[((k / kTogether) * rows + j) * kTogether + k % kTogether] = coefficients[k * rows + j];
    }
  }
  const size_t tiles = (n + kTile - 1) / kTile;
  if (rows * count * n < kParallel) threads = 1;
  ParallelFor(threads, static_cast<int64_t>(tiles), 1, [&](int64_t begin, int64_t end, int) {
    double sums[kTogether * kTile];
    for (size_t tile = static_cast<size_t>(begin); tile < static_cast<size_t>(end); ++tile) {
      const size_t at = tile * kTile;
      const size_t size = std::min(kTile, n - at);
      for (size_t g = 0; g < groups; ++g) {
        const double* c = packed.data() + g * rows * kTogether;
        const size_t together = std::min(kTogether, count - g * kTogether);
        T* to = out + g * kTogether * stride;
        if constexpr (sizeof(T) == 4) {
          HWY_DYNAMIC_DISPATCH(CombineF32)
          (basis, rows, c, together, at, size, add, to, stride, sums);
        } else {
          HWY_DYNAMIC_DISPATCH(CombineF64)
          (basis, rows, c, together, at, size, add, to, stride, sums);
        }
      }
    }
  });
}

template void CombineRows(const float* const*, size_t, const double*, size_t, float*, size_t,
                          size_t, int, bool);
template void CombineRows(const double* const*, size_t, const double*, size_t, double*, size_t,
                          size_t, int, bool);

}  // namespace losscape
#endif  // HWY_ONCE
