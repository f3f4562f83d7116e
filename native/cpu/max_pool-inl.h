// The loops of max_pool.cc, compiled once per SIMD target.

#if defined(LOSSCAPE_CPU_MAX_POOL_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_MAX_POOL_INL
#undef LOSSCAPE_CPU_MAX_POOL_INL
#else
#define LOSSCAPE_CPU_MAX_POOL_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "native/cpu/max_pool.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The first of equal elements, and the last NaN if there is any.
template <typename T>
HWY_INLINE void MaxOfWindow(const MaxPoolArgs<T>& args, const T* image, SpatialWindow rows,
                            SpatialWindow columns, T* y, int32_t* chosen) {
  T best = -std::numeric_limits<T>::infinity();
  int64_t at = rows.begin * args.width + columns.begin;
  for (int64_t h = rows.begin; h < rows.end; h += args.down) {
    for (int64_t w = columns.begin; w < columns.end; w += args.across) {
      const int64_t position = h * args.width + w;
      const T value = image[position * args.inner];
      if (value > best || value != value) {
        best = value;
        at = position;
      }
    }
  }
  *y = best;
  *chosen = static_cast<int32_t>(at);
}

// The same for as many channels as a vector holds.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void MaxOfWindows(D d, const MaxPoolArgs<T>& args, const T* image, SpatialWindow rows,
                             SpatialWindow columns, T* y, int32_t* chosen) {
  const hn::RebindToSigned<D> positions;
  using I = hn::TFromD<decltype(positions)>;
  auto best = hn::Set(d, -std::numeric_limits<T>::infinity());
  auto at = hn::Set(positions, static_cast<I>(rows.begin * args.width + columns.begin));
  for (int64_t h = rows.begin; h < rows.end; h += args.down) {
    for (int64_t w = columns.begin; w < columns.end; w += args.across) {
      const int64_t position = h * args.width + w;
      const auto value = hn::LoadU(d, image + position * args.inner);
      const auto take = hn::Or(hn::Gt(value, best), hn::IsNaN(value));
      best = hn::IfThenElse(take, value, best);
      at = hn::IfThenElse(hn::RebindMask(positions, take),
                          hn::Set(positions, static_cast<I>(position)), at);
    }
  }
  hn::StoreU(best, d, y);
  if constexpr (sizeof(I) == sizeof(int32_t)) {
    hn::StoreU(at, positions, chosen);
  } else {
    HWY_ALIGN I line[HWY_MAX_BYTES / sizeof(I)];
    hn::Store(at, positions, line);
    std::copy_n(line, hn::Lanes(positions), chosen);
  }
}

template <typename T>
void MaxPoolRows(const MaxPoolArgs<T>& args, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t rows = static_cast<int64_t>(args.rows->size());
  const int64_t columns = static_cast<int64_t>(args.columns->size());
  const int64_t inner = args.inner;
  for (int64_t at = begin; at < end; ++at) {
    const T* image = args.x + at / rows * args.height * args.width * inner;
    const SpatialWindow row = (*args.rows)[at % rows];
    for (int64_t p = 0; p < columns; ++p) {
      const SpatialWindow column = (*args.columns)[p];
      T* y = args.y + (at * columns + p) * inner;
      int32_t* chosen = args.chosen + (at * columns + p) * inner;
      int64_t c = 0;
      for (; c + lanes <= inner; c += lanes) {
        MaxOfWindows(d, args, image + c, row, column, y + c, chosen + c);
      }
      for (; c < inner; ++c) MaxOfWindow(args, image + c, row, column, y + c, chosen + c);
    }
  }
}

template <typename T>
void MaxPoolTakeRows(const MaxPoolArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t rows = static_cast<int64_t>(args.rows->size());
  const int64_t inner = args.inner;
  const int64_t line = static_cast<int64_t>(args.columns->size()) * inner;
  for (int64_t at = begin; at < end; ++at) {
    const int64_t n = at / rows;
    const T* image = args.x + n * args.height * args.width * inner;
    const int32_t* index = args.index + (n % args.shared * rows + at % rows) * line;
    T* y = args.y + at * line;
    for (int64_t i = 0; i < line; i += inner) {
      for (int64_t c = 0; c < inner; ++c) y[i + c] = image[index[i + c] * inner + c];
    }
  }
}

// A row of x: every position adds up the windows that hold it and chose it, in their order.
// Channels lie side by side, so the choice is a comparison of vectors; nothing is written twice.
template <typename T>
HWY_INLINE void ScatterToRow(const MaxPoolArgs<T>& args, const T* g, const int32_t* index,
                             int64_t h, T* x) {
  const int64_t columns = static_cast<int64_t>(args.columns->size());
  const int64_t inner = args.inner;
  const SpatialWindow rows = (*args.rowsAt)[h];
  for (int64_t w = 0; w < args.width; ++w) {
    const int32_t position = static_cast<int32_t>(h * args.width + w);
    const SpatialWindow own = (*args.columnsAt)[w];
    T* HWY_RESTRICT to = x + w * inner;
    std::fill_n(to, inner, T{0});
    for (int64_t o = rows.begin; o < rows.end; ++o) {
      for (int64_t p = own.begin; p < own.end; ++p) {
        const int64_t offset = (o * columns + p) * inner;
        const T* HWY_RESTRICT from = g + offset;
        const int32_t* HWY_RESTRICT at = index + offset;
        for (int64_t c = 0; c < inner; ++c) to[c] += at[c] == position ? from[c] : T{0};
      }
    }
  }
}

template <typename T>
void MaxPoolScatterRows(const MaxPoolArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t outputs =
      static_cast<int64_t>(args.rows->size()) * static_cast<int64_t>(args.columns->size());
  const int64_t area = args.height * args.width;
  if (args.inner != 1) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t n = at / args.height;
      ScatterToRow(args, args.x + n * outputs * args.inner,
                   args.index + n % args.shared * outputs * args.inner, at % args.height,
                   args.y + at * args.width * args.inner);
    }
    return;
  }
  for (int64_t n = begin; n < end; ++n) {
    const T* g = args.x + n * outputs;
    const int32_t* index = args.index + n % args.shared * outputs;
    T* x = args.y + n * area;
    std::fill_n(x, area, T{0});
    for (int64_t i = 0; i < outputs; ++i) x[index[i]] += g[i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
