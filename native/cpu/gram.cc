#include "native/cpu/gram.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/gram.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.h.
#include "native/cpu/wide-inl.h"

#ifndef LOSSCAPE_CPU_GRAM_ONCE
#define LOSSCAPE_CPU_GRAM_ONCE
namespace losscape {
namespace {

// Part of a product that one call computes: rows of a against rows of b, over columns that end at
// `end`; the next row is `stride` elements further in both.
template <typename T>
struct GramPart {
  const T* a;
  size_t countA;
  const T* b;
  size_t countB;
  size_t stride;
  size_t begin, end;
};

// f64 numbers of b that a tile holds: half of a second-level cache of 256 KB.
constexpr size_t kTileNumbers = 16384;

}  // namespace
}  // namespace losscape
#endif  // LOSSCAPE_CPU_GRAM_ONCE

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 12 sums, 3 rows of a and one of b fill the 16 registers of AVX2; 12 chains also hide the latency
// of two multiply-adds per cycle.
constexpr size_t kRowsA = 3;
constexpr size_t kRowsB = 4;

// sums[r][c] += a[r] b[c] over `size` columns, a multiple of the lanes; R rows by C rows.
// sums: rows of `pitch`; b: rows of `width`.
template <size_t R, size_t C, typename T>
HWY_INLINE void DotRows(const T* HWY_RESTRICT a, size_t stride, const double* HWY_RESTRICT b,
                        size_t width, size_t size, double* HWY_RESTRICT sums, size_t pitch) {
  const Wide d;
  const T* HWY_RESTRICT a1 = a + (R > 1 ? stride : 0);
  const T* HWY_RESTRICT a2 = a + (R > 2 ? 2 * stride : 0);
  auto s00 = hn::Zero(d), s01 = s00, s02 = s00, s03 = s00;
  auto s10 = s00, s11 = s00, s12 = s00, s13 = s00;
  auto s20 = s00, s21 = s00, s22 = s00, s23 = s00;
  for (size_t i = 0; i < size; i += hn::Lanes(d)) {
    const auto p0 = LoadWide(d, a + i);
    [[maybe_unused]] const auto p1 = LoadWide(d, a1 + i);
    [[maybe_unused]] const auto p2 = LoadWide(d, a2 + i);
    const auto q0 = hn::LoadU(d, b + i);
    s00 = hn::MulAdd(p0, q0, s00);
    if constexpr (R > 1) s10 = hn::MulAdd(p1, q0, s10);
    if constexpr (R > 2) s20 = hn::MulAdd(p2, q0, s20);
    if constexpr (C > 1) {
      const auto q1 = hn::LoadU(d, b + width + i);
      s01 = hn::MulAdd(p0, q1, s01);
      if constexpr (R > 1) s11 = hn::MulAdd(p1, q1, s11);
      if constexpr (R > 2) s21 = hn::MulAdd(p2, q1, s21);
    }
    if constexpr (C > 2) {
      const auto q2 = hn::LoadU(d, b + 2 * width + i);
      s02 = hn::MulAdd(p0, q2, s02);
      if constexpr (R > 1) s12 = hn::MulAdd(p1, q2, s12);
      if constexpr (R > 2) s22 = hn::MulAdd(p2, q2, s22);
    }
    if constexpr (C > 3) {
      const auto q3 = hn::LoadU(d, b + 3 * width + i);
      s03 = hn::MulAdd(p0, q3, s03);
      if constexpr (R > 1) s13 = hn::MulAdd(p1, q3, s13);
      if constexpr (R > 2) s23 = hn::MulAdd(p2, q3, s23);
    }
  }
  const auto add = [d](auto v, double* to) HWY_ATTR { *to += hn::GetLane(hn::SumOfLanes(d, v)); };
  const auto row = [&](auto v0, auto v1, auto v2, auto v3, double* to) HWY_ATTR {
    add(v0, to);
    if constexpr (C > 1) add(v1, to + 1);
    if constexpr (C > 2) add(v2, to + 2);
    if constexpr (C > 3) add(v3, to + 3);
  };
  row(s00, s01, s02, s03, sums);
  if constexpr (R > 1) row(s10, s11, s12, s13, sums + pitch);
  if constexpr (R > 2) row(s20, s21, s22, s23, sums + 2 * pitch);
}

// R rows of a against all rows of b.
template <size_t R, typename T>
HWY_INLINE void DotGroup(const T* a, size_t stride, const double* b, size_t countB, size_t width,
                         size_t size, double* sums) {
  size_t j = 0;
  for (; j + kRowsB <= countB; j += kRowsB) {
    DotRows<R, kRowsB>(a, stride, b + j * width, width, size, sums + j, countB);
  }
  const double* rest = b + j * width;
  if (countB - j == 3) DotRows<R, 3>(a, stride, rest, width, size, sums + j, countB);
  if (countB - j == 2) DotRows<R, 2>(a, stride, rest, width, size, sums + j, countB);
  if (countB - j == 1) DotRows<R, 1>(a, stride, rest, width, size, sums + j, countB);
}

template <size_t R, typename T>
HWY_INLINE void DotTile(const T* a, size_t stride, const double* b, size_t countB, size_t width,
                        size_t size, double* sums) {
  const size_t lanes = hn::Lanes(Wide());
  const size_t whole = size / lanes * lanes;
  DotGroup<R>(a, stride, b, countB, width, whole, sums);
  if (whole == size) return;
  // What is left of the rows, filled up with zeros as b is.
  constexpr size_t kLanes = HWY_MAX_BYTES / sizeof(double);
  HWY_ALIGN T tail[R * kLanes] = {};
  for (size_t r = 0; r < R; ++r) {
    std::copy(a + r * stride + whole, a + r * stride + size, tail + r * kLanes);
  }
  DotGroup<R>(tail, kLanes, b + whole, countB, width, lanes, sums);
}

// sums [countA, countB] += the part; scratch: kTileNumbers.
template <typename T>
HWY_INLINE void Gram(const GramPart<T>& part, double* HWY_RESTRICT scratch, double* sums) {
  const size_t width = kTileNumbers / part.countB / 64 * 64;
  for (size_t at = part.begin; at < part.end; at += width) {
    const size_t size = std::min(width, part.end - at);
    const size_t padded = std::min(width, (size + 63) / 64 * 64);
    for (size_t j = 0; j < part.countB; ++j) {
      const T* HWY_RESTRICT from = part.b + j * part.stride + at;
      double* HWY_RESTRICT to = scratch + j * width;
      for (size_t e = 0; e < size; ++e) to[e] = static_cast<double>(from[e]);
      std::fill(to + size, to + padded, 0.0);
    }
    const T* a = part.a + at;
    size_t i = 0;
    for (; i + kRowsA <= part.countA; i += kRowsA) {
      DotTile<kRowsA>(a + i * part.stride, part.stride, scratch, part.countB, width, size,
                      sums + i * part.countB);
    }
    const T* rest = a + i * part.stride;
    double* to = sums + i * part.countB;
    if (part.countA - i == 2) {
      DotTile<2>(rest, part.stride, scratch, part.countB, width, size, to);
    } else if (part.countA - i == 1) {
      DotTile<1>(rest, part.stride, scratch, part.countB, width, size, to);
    }
  }
}

void GramF32(const GramPart<float>& part, double* scratch, double* sums) {
  Gram(part, scratch, sums);
}
void GramF64(const GramPart<double>& part, double* scratch, double* sums) {
  Gram(part, scratch, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(GramF32);
HWY_EXPORT(GramF64);

namespace {

// Rows that share partial sums: those of all blocks stay small beside the vectors.
constexpr size_t kPanelA = 256;
constexpr size_t kPanelB = 32;

// Products below which a second thread costs more than it saves.
constexpr size_t kParallel = size_t{1} << 17;

// Columns between partial sums, by n alone: the bits must not depend on the threads.
size_t BlockColumns(size_t n) {
  return std::min<size_t>(16384, std::max<size_t>(512, (n / 32 + 63) / 64 * 64));
}

struct alignas(64) Line {
  double values[8];
};

}  // namespace

template <typename T>
void GramRows(const T* a, size_t countA, const T* b, size_t countB, size_t n, double* out,
              int threads) {
  const size_t columns = BlockColumns(n);
  const size_t blocks = (n + columns - 1) / columns;
  std::vector<double> partial;
  std::vector<Line> scratch(static_cast<size_t>(std::max(1, threads)) * kTileNumbers / 8);
  for (size_t i = 0; i < countA; i += kPanelA) {
    for (size_t j = 0; j < countB; j += kPanelB) {
      const size_t rows = std::min(kPanelA, countA - i);
      const size_t others = std::min(kPanelB, countB - j);
      partial.assign(blocks * rows * others, 0.0);
      const int team = rows * others * n < kParallel ? 1 : threads;
      ParallelFor(team, static_cast<int64_t>(blocks), 1,
                  [&](int64_t begin, int64_t end, int thread) {
                    double* tile = scratch[static_cast<size_t>(thread) * kTileNumbers / 8].values;
                    for (size_t k = static_cast<size_t>(begin); k < static_cast<size_t>(end); ++k) {
                      const GramPart<T> part{a + i * n,
                                             rows,
                                             b + j * n,
                                             others,
                                             n,
                                             k * columns,
                                             std::min(n, (k + 1) * columns)};
                      double* sums = partial.data() + k * rows * others;
                      if constexpr (std::is_same_v<T, float>) {
                        HWY_DYNAMIC_DISPATCH(GramF32)(part, tile, sums);
                      } else {
                        HWY_DYNAMIC_DISPATCH(GramF64)(part, tile, sums);
                      }
                    }
                  });
      for (size_t r = 0; r < rows; ++r) {
        double* to = out + (i + r) * countB + j;
        std::fill_n(to, others, 0.0);
        for (size_t k = 0; k < blocks; ++k) {
          const double* sums = partial.data() + (k * rows + r) * others;
          for (size_t c = 0; c < others; ++c) to[c] += sums[c];
        }
      }
    }
  }
}

template void GramRows(const float*, size_t, const float*, size_t, size_t, double*, int);
template void GramRows(const double*, size_t, const double*, size_t, size_t, double*, int);

}  // namespace losscape
#endif  // HWY_ONCE
