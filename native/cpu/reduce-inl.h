// Inner loops of reduce.cc, compiled once per SIMD target.

#ifndef LOSSCAPE_CPU_REDUCE_TABLE
#define LOSSCAPE_CPU_REDUCE_TABLE

#include <cstdint>
#include <limits>
#include <type_traits>

namespace losscape {

enum class ReduceKind { kSum, kMax, kMin };

// What a reduction keeps while it runs: sums are f64 whatever the operand.
template <typename T, ReduceKind kKind>
using Accumulator = std::conditional_t<kKind == ReduceKind::kSum, double, T>;

template <typename T, ReduceKind kKind>
constexpr Accumulator<T, kKind> ReduceIdentity() {
  if constexpr (kKind == ReduceKind::kSum) {
    return 0;
  } else if constexpr (std::numeric_limits<T>::has_infinity) {
    const T infinity = std::numeric_limits<T>::infinity();
    return kKind == ReduceKind::kMax ? -infinity : infinity;
  } else {
    return kKind == ReduceKind::kMax ? std::numeric_limits<T>::min()
                                     : std::numeric_limits<T>::max();
  }
}

// NaN wins and stays.
template <typename T, ReduceKind kKind, typename A = Accumulator<T, kKind>, typename Value>
inline A ReduceTwo(A a, Value b) {
  if constexpr (kKind == ReduceKind::kSum) return a + b;
  if constexpr (kKind == ReduceKind::kMax) return (b > a || b != b) ? b : a;
  return (b < a || b != b) ? b : a;
}

template <typename T, ReduceKind kKind>
struct ReduceLoops {
  using A = Accumulator<T, kKind>;
  // Folds x [n] into one number.
  A (*row)(const T* x, int64_t n);
  // accumulator [width] folds in `rows` rows of x, `stride` elements apart.
  void (*columns)(const T* x, int64_t rows, int64_t stride, int64_t width, A* accumulator);
};

}  // namespace losscape

#endif  // LOSSCAPE_CPU_REDUCE_TABLE

#if defined(LOSSCAPE_CPU_REDUCE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_REDUCE_INL
#undef LOSSCAPE_CPU_REDUCE_INL
#else
#define LOSSCAPE_CPU_REDUCE_INL
#endif

#include <hwy/highway.h>

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Loads as the accumulator's type: f32 is promoted where sums are f64.
template <class D>
HWY_INLINE hn::Vec<D> LoadAs(D d, const hn::TFromD<D>* x) {
  return hn::LoadU(d, x);
}
template <class D, std::enable_if_t<sizeof(hn::TFromD<D>) == 8, int> = 0>
HWY_INLINE hn::Vec<D> LoadAs(D d, const float* x) {
  const hn::Rebind<float, D> half;
  return hn::PromoteTo(d, hn::LoadU(half, x));
}
// The first n lanes only; the rest is unspecified.
template <class D, typename T>
HWY_INLINE hn::Vec<D> LoadFirst(D d, const T* x, int64_t n) {
  HWY_ALIGN T line[HWY_MAX_BYTES / sizeof(T)] = {};
  for (int64_t i = 0; i < n; ++i) line[i] = x[i];
  return LoadAs(d, line);
}

constexpr int64_t kWide = 256;  // columns

template <ReduceKind kKind, class V>
HWY_INLINE V Combine(V a, V b) {
  if constexpr (kKind == ReduceKind::kSum) return hn::Add(a, b);
  if constexpr (kKind == ReduceKind::kMax) {
    return hn::IfThenElse(hn::Or(hn::Gt(b, a), hn::IsNaN(b)), b, a);
  }
  if constexpr (kKind == ReduceKind::kMin) {
    return hn::IfThenElse(hn::Or(hn::Lt(b, a), hn::IsNaN(b)), b, a);
  }
}

template <typename T, ReduceKind kKind>
Accumulator<T, kKind> Row(const T* x, int64_t n) {
  using A = Accumulator<T, kKind>;
  const hn::ScalableTag<A> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  A total = ReduceIdentity<T, kKind>();
  int64_t i = 0;
  if (n >= lanes) {
    // Four chains hide the latency of an addition.
    V s0 = hn::Set(d, total), s1 = s0, s2 = s0, s3 = s0;
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
      s0 = Combine<kKind>(s0, LoadAs(d, x + i));
      s1 = Combine<kKind>(s1, LoadAs(d, x + i + lanes));
      s2 = Combine<kKind>(s2, LoadAs(d, x + i + 2 * lanes));
      s3 = Combine<kKind>(s3, LoadAs(d, x + i + 3 * lanes));
    }
    for (; i + lanes <= n; i += lanes) s0 = Combine<kKind>(s0, LoadAs(d, x + i));
    s0 = Combine<kKind>(Combine<kKind>(s0, s1), Combine<kKind>(s2, s3));
    HWY_ALIGN A line[HWY_MAX_BYTES / sizeof(A)] = {};
    hn::Store(s0, d, line);
    for (int64_t j = 0; j < lanes; ++j) total = ReduceTwo<T, kKind>(total, line[j]);
  }
  for (; i < n; ++i) total = ReduceTwo<T, kKind>(total, x[i]);
  return total;
}

// kVectors vectors of columns stay in registers over all rows; the last vector has `last` lanes.
template <typename T, ReduceKind kKind, int kVectors, class D, typename A = hn::TFromD<D>>
HWY_NOINLINE void Strip(D d, const T* x, int64_t rows, int64_t stride, int64_t last,
                        A* accumulator) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    sum[v] = v + 1 < kVectors ? hn::LoadU(d, accumulator + v * lanes)
                              : LoadFirst(d, accumulator + v * lanes, last);
  }
  // Whole vectors may read into the next row (its lanes are dropped); the last row must not.
  int64_t r = 0;
  const int64_t end = last == lanes ? rows : stride >= lanes ? rows - 1 : 0;
  for (; r < end; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[v] = Combine<kKind>(sum[v], LoadAs(d, x + v * lanes));
    x += stride;
  }
  for (; r < rows; ++r) {
    for (int v = 0; v + 1 < kVectors; ++v) {
      sum[v] = Combine<kKind>(sum[v], LoadAs(d, x + v * lanes));
    }
    const int v = kVectors - 1;
    sum[v] = Combine<kKind>(sum[v], LoadFirst(d, x + v * lanes, last));
    x += stride;
  }
  for (int v = 0; v + 1 < kVectors; ++v) hn::StoreU(sum[v], d, accumulator + v * lanes);
  HWY_ALIGN A line[HWY_MAX_BYTES / sizeof(A)] = {};
  hn::Store(sum[kVectors - 1], d, line);
  for (int64_t j = 0; j < last; ++j) accumulator[(kVectors - 1) * lanes + j] = line[j];
}

// Whole vectors of wide rows, four rows at a time: reads run along the rows, which the hardware
// prefetches, where strips would touch two lines of every row. Adds in the same order as a strip.
template <typename T, ReduceKind kKind, class D, typename A = hn::TFromD<D>>
HWY_NOINLINE void WideRows(D d, const T* x, int64_t rows, int64_t stride, int64_t width,
                           A* accumulator) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * stride) {
    for (int64_t j = 0; j < width; j += lanes) {
      auto sum = hn::LoadU(d, accumulator + j);
      sum = Combine<kKind>(sum, LoadAs(d, x + j));
      sum = Combine<kKind>(sum, LoadAs(d, x + j + stride));
      sum = Combine<kKind>(sum, LoadAs(d, x + j + 2 * stride));
      sum = Combine<kKind>(sum, LoadAs(d, x + j + 3 * stride));
      hn::StoreU(sum, d, accumulator + j);
    }
  }
  for (; r < rows; ++r, x += stride) {
    for (int64_t j = 0; j < width; j += lanes) {
      const auto sum = hn::LoadU(d, accumulator + j);
      hn::StoreU(Combine<kKind>(sum, LoadAs(d, x + j)), d, accumulator + j);
    }
  }
}

template <typename T, ReduceKind kKind>
void Columns(const T* x, int64_t rows, int64_t stride, int64_t width,
             Accumulator<T, kKind>* accumulator) {
  using A = Accumulator<T, kKind>;
  const hn::ScalableTag<A> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (rows == 0) return;
  int64_t column = 0;
  if (width >= kWide) {
    column = width / lanes * lanes;
    WideRows<T, kKind>(d, x, rows, stride, column, accumulator);
  }
  while (column < width) {
    const int64_t left = std::min(width - column, 8 * lanes);
    const int64_t vectors = (left + lanes - 1) / lanes;
    const int64_t last = left - (vectors - 1) * lanes;
    const T* from = x + column;
    A* to = accumulator + column;
    switch (vectors) {
      case 1:
        Strip<T, kKind, 1>(d, from, rows, stride, last, to);
        break;
      case 2:
        Strip<T, kKind, 2>(d, from, rows, stride, last, to);
        break;
      case 3:
        Strip<T, kKind, 3>(d, from, rows, stride, last, to);
        break;
      case 4:
        Strip<T, kKind, 4>(d, from, rows, stride, last, to);
        break;
      case 5:
      case 6:
      case 7: {
        // A multiple of four now, the rest in the next round.
        Strip<T, kKind, 4>(d, from, rows, stride, lanes, to);
        column += 4 * lanes;
        continue;
      }
      default:
        Strip<T, kKind, 8>(d, from, rows, stride, last, to);
    }
    column += left;
  }
}

template <typename T, ReduceKind kKind>
ReduceLoops<T, kKind> Loops() {
  return {&Row<T, kKind>, &Columns<T, kKind>};
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
