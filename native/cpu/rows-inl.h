// Row-wise kernels with a row in each lane: a tile holds `lanes` rows of x [rows, C] transposed, so
// that sums over C need no horizontal steps and short rows fill whole vectors.

#ifndef LOSSCAPE_CPU_ROWS
#define LOSSCAPE_CPU_ROWS

#include <cstddef>
#include <cstdint>

#include "native/runtime/parallel.h"

namespace losscape {

// Bytes of a tile of C columns, whatever the vector length: no vector of ours is longer than this.
constexpr size_t kTileRowBytes = 64;

inline size_t TileBytes(int64_t columns) { return static_cast<size_t>(columns) * kTileRowBytes; }

// Splits rows so that a thread gets at least `work` elements, in multiples of every lane count.
template <class F>
void ParallelRows(int threads, int64_t rows, int64_t columns, int64_t work, F&& body) {
  constexpr int64_t kLanes = kTileRowBytes / sizeof(float);
  const int64_t grain = (work / (columns > 0 ? columns : 1) / kLanes + 1) * kLanes;
  ParallelFor(threads, rows, grain, body);
}

}  // namespace losscape

#endif  // LOSSCAPE_CPU_ROWS

#if defined(LOSSCAPE_CPU_ROWS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_ROWS_INL
#undef LOSSCAPE_CPU_ROWS_INL
#else
#define LOSSCAPE_CPU_ROWS_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <limits>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sums over C run in chains of this many terms, which are then added: the error of one chain of
// thousands of f32 terms would show.
constexpr int64_t kChain = 64;

// At most kTileRowBytes, so that scratch can be planned without knowing the target.
template <typename T>
using RowTag = hn::CappedTag<T, kTileRowBytes / sizeof(T)>;

#if HWY_TARGET == HWY_SCALAR
constexpr bool kHasFour = false;
#else
constexpr bool kHasFour = true;
#endif

// to [4, 4] = from [4, 4] transposed, rows `strideFrom` and `strideTo` floats apart.
HWY_INLINE void TransposeFour(const float* from, int64_t strideFrom, float* to, int64_t strideTo) {
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<double, 2> pairs;
  const auto r0 = hn::LoadU(d, from);
  const auto r1 = hn::LoadU(d, from + strideFrom);
  const auto r2 = hn::LoadU(d, from + 2 * strideFrom);
  const auto r3 = hn::LoadU(d, from + 3 * strideFrom);
  const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, r0, r1));
  const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, r2, r3));
  const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, r0, r1));
  const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, to + strideTo);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, to + 2 * strideTo);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, to + 3 * strideTo);
#else
  for (int r = 0; r < 4; ++r) {
    for (int c = 0; c < 4; ++c) to[c * strideTo + r] = from[r * strideFrom + c];
  }
#endif
}

// tile [C, lanes] of x [rows, C]; lanes behind `rows` repeat the last row.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void LoadTile(D d, const T* HWY_RESTRICT x, int64_t rows, int64_t columns,
                         T* HWY_RESTRICT tile) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if constexpr (kHasFour && std::is_same_v<T, float>) {
    if (rows == lanes && columns >= 4) {
      for (int64_t l = 0; l < lanes; l += 4) {
        for (int64_t c = 0; c < columns; c += 4) {
          // The last four overlap the ones before.
          const int64_t at = std::min(c, columns - 4);
          TransposeFour(x + l * columns + at, columns, tile + at * lanes + l, lanes);
        }
      }
      return;
    }
  }
  for (int64_t l = 0; l < lanes; ++l) {
    const T* row = x + (l < rows ? l : rows - 1) * columns;
    for (int64_t c = 0; c < columns; ++c) tile[c * lanes + l] = row[c];
  }
}

// x [rows, C] from tile [C, lanes].
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void StoreTile(D d, const T* HWY_RESTRICT tile, int64_t rows, int64_t columns,
                          T* HWY_RESTRICT x) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if constexpr (kHasFour && std::is_same_v<T, float>) {
    if (rows == lanes && columns >= 4) {
      for (int64_t l = 0; l < lanes; l += 4) {
        for (int64_t c = 0; c < columns; c += 4) {
          const int64_t at = std::min(c, columns - 4);
          TransposeFour(tile + at * lanes + l, lanes, x + l * columns + at, columns);
        }
      }
      return;
    }
  }
  for (int64_t l = 0; l < rows; ++l) {
    T* row = x + l * columns;
    for (int64_t c = 0; c < columns; ++c) row[c] = tile[c * lanes + l];
  }
}

// The largest of each row; NaN is passed over.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> TileMax(D d, const T* tile, int64_t columns) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto max = hn::Set(d, -std::numeric_limits<T>::infinity());
  for (int64_t c = 0; c < columns; ++c) {
    const auto x = hn::Load(d, tile + c * lanes);
    max = hn::IfThenElse(hn::Gt(x, max), x, max);
  }
  return max;
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
