// The loops of simplex.cc, compiled once per SIMD target.

#if defined(LOSSCAPE_CPU_SIMPLEX_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_SIMPLEX_INL
#undef LOSSCAPE_CPU_SIMPLEX_INL
#else
#define LOSSCAPE_CPU_SIMPLEX_INL
#endif

#include <algorithm>
#include <limits>

#include "native/cpu/math-inl.h"
#include "native/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

// Sum of x - shift over the entries above `threshold`, and their number, of each row of a tile.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V SumAbove(D d, const T* tile, int64_t columns, V threshold, V shift, V& count) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V one = hn::Set(d, T{1});
  V sum = hn::Zero(d);
  count = hn::Zero(d);
  for (int64_t c = 0; c < columns;) {
    V chain = hn::Zero(d);
    for (const int64_t stop = std::min(columns, c + kChain); c < stop; ++c) {
      const V x = hn::Load(d, tile + c * lanes);
      const auto above = hn::Gt(x, threshold);
      chain = hn::Add(chain, hn::IfThenElseZero(above, hn::Sub(x, shift)));
      count = hn::Add(count, hn::IfThenElseZero(above, one));
    }
    sum = hn::Add(sum, chain);
  }
  return sum;
}

// Rows [begin, end) of x [rows, C]; tile: scratch of TileBytes(C).
//
// Michelot's iteration on z = x - max x: A = {z > -1} holds the support; lambda = (sum_A z - 1)/|A|
// is at most the threshold sought, so entries below it leave A, until none does.
template <typename T>
void SimplexRows(const T* x, T* y, int64_t columns, int64_t begin, int64_t end, T* tile) {
  using D = RowTag<T>;
  using V = hn::Vec<D>;
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V zero = hn::Zero(d), one = hn::Set(d, T{1});
  for (int64_t row = begin; row < end; row += lanes) {
    const int64_t rows = std::min(lanes, end - row);
    LoadTile(d, x + row * columns, rows, columns, tile);
    const V max = TileMax(d, tile, columns);
    V poison = zero;
    for (int64_t c = 0; c < columns; ++c) {
      T* at = tile + c * lanes;
      const V z = hn::Sub(hn::Load(d, at), max);
      // NaN, +inf and rows of -inf only; an entry at -inf among finite ones merely gets 0.
      poison = hn::Add(poison, hn::IfThenZeroElse(hn::Eq(z, z), z));
      hn::Store(z, d, at);
    }
    V lambda = hn::Set(d, T{-1});
    V count = hn::Set(d, T{-1});
    while (true) {
      V members;
      const V sum = SumAbove(d, tile, columns, lambda, zero, members);
      // Rounding must not readmit an entry: then the number of members falls or all is done.
      const V next = hn::Div(hn::Sub(sum, one), members);
      lambda = hn::IfThenElse(hn::Gt(next, lambda), next, lambda);
      if (hn::AllTrue(d, hn::Or(hn::Eq(members, count), hn::Eq(members, zero)))) break;
      count = members;
    }
    // lambda has the rounding error of a sum of |A| numbers of size 1; y has |A| entries that sum
    // to 1, so what is missing there gives the next digits.
    V members;
    const V sum = SumAbove(d, tile, columns, lambda, lambda, members);
    const V missing = hn::Div(hn::Sub(sum, one), members);
    for (int64_t c = 0; c < columns; ++c) {
      T* at = tile + c * lanes;
      const V value = hn::Sub(hn::Sub(hn::Load(d, at), lambda), missing);
      hn::Store(hn::Add(hn::IfThenElseZero(hn::Gt(value, zero), value), poison), d, at);
    }
    StoreTile(d, tile, rows, columns, y + row * columns);
  }
}

// Rows [begin, end) of y [rows, C] and of each of `tangents` dx [R, rows, C]; tiles: scratch of
// 2 TileBytes(C).
template <typename T>
void SimplexTangentRows(const T* y, const T* dx, T* out, int64_t columns, int64_t allRows,
                        int64_t tangents, int64_t begin, int64_t end, T* tiles) {
  using D = RowTag<T>;
  using V = hn::Vec<D>;
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V zero = hn::Zero(d), one = hn::Set(d, T{1});
  T* point = tiles;
  T* tangent = tiles + TileBytes(columns) / sizeof(T);
  for (int64_t row = begin; row < end; row += lanes) {
    const int64_t rows = std::min(lanes, end - row);
    LoadTile(d, y + row * columns, rows, columns, point);
    for (int64_t r = 0; r < tangents; ++r) {
      const int64_t offset = (r * allRows + row) * columns;
      LoadTile(d, dx + offset, rows, columns, tangent);
      V sum = zero, count = zero;
      for (int64_t c = 0; c < columns;) {
        V chain = zero;
        for (const int64_t stop = std::min(columns, c + kChain); c < stop; ++c) {
          const auto active = hn::Gt(hn::Load(d, point + c * lanes), zero);
          chain = hn::Add(chain, hn::IfThenElseZero(active, hn::Load(d, tangent + c * lanes)));
          count = hn::Add(count, hn::IfThenElseZero(active, one));
        }
        sum = hn::Add(sum, chain);
      }
      const V mean = hn::Div(sum, count);
      for (int64_t c = 0; c < columns; ++c) {
        T* at = tangent + c * lanes;
        const V p = hn::Load(d, point + c * lanes);
        const V moved = hn::Sub(hn::Load(d, at), mean);
        const V rest = hn::IfThenZeroElse(hn::Eq(p, p), p);  // NaN stays
        hn::Store(hn::IfThenElse(hn::Gt(p, zero), moved, rest), d, at);
      }
      StoreTile(d, tangent, rows, columns, out + offset);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
