// The kernels of small_gemm.cc, compiled once per SIMD target.

#ifndef LOSSCAPE_CPU_SMALL_GEMM_BLOCK
#define LOSSCAPE_CPU_SMALL_GEMM_BLOCK

#include "native/cpu/small_gemm.h"

namespace losscape {

// The part of y that one call computes.
struct GemmBlock {
  int64_t rowBegin;
  int64_t rowEnd;
  int64_t columnBegin;
  int64_t columnEnd;
};

}  // namespace losscape

#endif  // LOSSCAPE_CPU_SMALL_GEMM_BLOCK

#if defined(LOSSCAPE_CPU_SMALL_GEMM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_SMALL_GEMM_INL
#undef LOSSCAPE_CPU_SMALL_GEMM_INL
#else
#define LOSSCAPE_CPU_SMALL_GEMM_INL
#endif

#include <hwy/highway.h>

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Two FMA units of four cycles want eight independent sums or more; 12 (of 16 registers) or 24
// (of 32) also keep the loads below the FMAs.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_ARCH_ARM_A64
constexpr int kTallRows = 12;
#else
constexpr int kTallRows = 6;
#endif
// A packed panel of b, kDepth by two vectors, fills half of a 32 KiB L1 cache or less with AVX2.
constexpr int64_t kDepth = 256;

// The first `count` elements, zeros behind them; reads nothing else.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadFirst(D d, const T* from, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, from);
#else
  // Without masked loads Highway reads the whole vector.
  HWY_ALIGN T line[HWY_MAX_BYTES / sizeof(T)] = {};
  for (int64_t j = 0; j < count; ++j) line[j] = from[j];
  return hn::Load(d, line);
#endif
}

// Writes the first `count` elements and nothing else.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void StoreFirst(hn::Vec<D> v, D d, T* to, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(count)), d, to);
#else
  HWY_ALIGN T line[HWY_MAX_BYTES / sizeof(T)] = {};
  hn::Store(v, d, line);
  for (int64_t j = 0; j < count; ++j) to[j] = line[j];
#endif
}

// panel [depth, kVectors * lanes]: columns column .. of rows k .. of op(b), zeros behind `width`.
template <int kVectors, class D, typename T = hn::TFromD<D>>
void PackPanel(D d, const T* b, bool transB, int64_t ldb, int64_t k, int64_t depth, int64_t column,
               int64_t width, T* HWY_RESTRICT panel) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t stride = kVectors * lanes;
  if (transB) {
    for (int64_t j = 0; j < width; ++j) {
      const T* from = b + (column + j) * ldb + k;
      for (int64_t p = 0; p < depth; ++p) panel[p * stride + j] = from[p];
    }
    for (int64_t j = width; j < stride; ++j) {
      for (int64_t p = 0; p < depth; ++p) panel[p * stride + j] = T{0};
    }
    return;
  }
  const int64_t whole = width / lanes;
  for (int64_t p = 0; p < depth; ++p) {
    const T* from = b + (k + p) * ldb + column;
    T* to = panel + p * stride;
    for (int64_t v = 0; v < whole; ++v) {
      hn::Store(hn::LoadU(d, from + v * lanes), d, to + v * lanes);
    }
    for (int64_t v = whole; v < kVectors; ++v) {
      const int64_t left = std::max<int64_t>(0, width - v * lanes);
      hn::Store(LoadFirst(d, from + v * lanes, left), d, to + v * lanes);
    }
  }
}

// How the rows of a panel are stored whose last vector may be partial. Masked stores are slow
// before AVX-512: a whole vector that ends where the row ends writes some elements of the vector
// before it a second time.
template <int kVectors, class D, typename T = hn::TFromD<D>>
class RowStore {
 public:
  using V = hn::Vec<D>;
  using TI = hwy::MakeSigned<T>;

  RowStore(D d, int64_t width)
      : d_(d), lanes_(static_cast<int64_t>(hn::Lanes(d))), left_(width - (kVectors - 1) * lanes_) {
    TI rotation[HWY_MAX_BYTES / sizeof(T)];
    for (int64_t i = 0; i < lanes_; ++i) rotation[i] = static_cast<TI>((i + left_) % lanes_);
    rotation_ = hn::SetTableIndices(d, rotation);
    first_ = hn::FirstN(d, static_cast<size_t>(left_));
  }

  HWY_INLINE void operator()(const V (&sum)[kVectors], T* HWY_RESTRICT y, bool accumulate) const {
    V tail = sum[kVectors - 1];
    if (left_ == lanes_ || (kOverlap && kVectors > 1)) {
      T* const last = y + (kVectors - 2) * lanes_ + left_;
      if (kVectors > 1 && left_ != lanes_) {
        tail = hn::TableLookupLanes(
            hn::IfThenElse(first_, tail, sum[kVectors > 1 ? kVectors - 2 : 0]), rotation_);
      }
      if (accumulate) tail = hn::Add(tail, hn::LoadU(d_, last));
      StoreWhole(sum, y, accumulate);
      hn::StoreU(tail, d_, last);
      return;
    }
    T* const last = y + (kVectors - 1) * lanes_;
    StoreWhole(sum, y, accumulate);
    StoreFirst(accumulate ? hn::Add(tail, LoadFirst(d_, last, left_)) : tail, d_, last, left_);
  }

 private:
  static constexpr bool kOverlap = HWY_TARGET > HWY_AVX3&& HWY_TARGET != HWY_SCALAR;

  HWY_INLINE void StoreWhole(const V (&sum)[kVectors], T* HWY_RESTRICT y, bool accumulate) const {
    for (int v = 0; v + 1 < kVectors; ++v) {
      T* to = y + v * lanes_;
      hn::StoreU(accumulate ? hn::Add(sum[v], hn::LoadU(d_, to)) : sum[v], d_, to);
    }
  }

  D d_;
  int64_t lanes_;
  int64_t left_;  // elements of the last vector
  decltype(hn::SetTableIndices(D(), static_cast<const TI*>(nullptr))) rotation_;
  hn::Mask<D> first_;
};

// y [kRows, width] (+)= a panel over `depth`. a (i, p) is a[i * lda + p], or a[p * lda + i].
template <int kRows, int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
HWY_NOINLINE void Micro(D d, int64_t depth, const T* HWY_RESTRICT a, int64_t lda,
                        const T* HWY_RESTRICT panel, T* HWY_RESTRICT y, int64_t ldy,
                        const RowStore<kVectors, D>& store, bool accumulate) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
  }
  for (int64_t p = 0; p < depth; ++p) {
    V row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = hn::Load(d, panel + v * lanes);
    panel += kVectors * lanes;
    for (int i = 0; i < kRows; ++i) {
      const V element = hn::Set(d, kTransA ? a[i] : a[i * lda]);
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(element, row[v], sum[i][v]);
    }
    a += kTransA ? lda : 1;
  }
  for (int i = 0; i < kRows; ++i) store(sum[i], y + i * ldy, accumulate);
}

template <int kRows, int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
HWY_INLINE int64_t Rows(D d, int64_t row, int64_t end, int64_t depth, const T* a, int64_t lda,
                        const T* panel, T* y, int64_t ldy, const RowStore<kVectors, D>& store,
                        bool accumulate) {
  for (; row + kRows <= end; row += kRows) {
    Micro<kRows, kVectors, kTransA>(d, depth, kTransA ? a + row : a + row * lda, lda, panel,
                                    y + row * ldy, ldy, store, accumulate);
  }
  return row;
}

template <int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
void PanelRows(D d, const GemmBlock& block, int64_t depth, const T* a, int64_t lda, const T* panel,
               T* y, int64_t ldy, int64_t width, bool accumulate) {
  constexpr int kRows = kVectors == 1 ? 12 : kTallRows;
  const RowStore<kVectors, D> store(d, width);
  int64_t row = block.rowBegin;
  const int64_t end = block.rowEnd;
  row =
      Rows<kRows, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, store, accumulate);
  if constexpr (kRows > 6) {
    row = Rows<6, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, store, accumulate);
  }
  row = Rows<4, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, store, accumulate);
  row = Rows<2, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, store, accumulate);
  Rows<1, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, store, accumulate);
}

template <int kVectors, class D, typename T = hn::TFromD<D>>
void Panel(D d, const GemmSize& size, const T* a, const T* b, T* y, bool accumulate,
           const GemmBlock& block, int64_t k, int64_t depth, int64_t column, int64_t width,
           T* panel) {
  PackPanel<kVectors>(d, b, size.transB, size.transB ? size.k : size.n, k, depth, column, width,
                      panel);
  T* to = y + column;
  if (size.transA) {
    PanelRows<kVectors, true>(d, block, depth, a + k * size.m, size.m, panel, to, size.n, width,
                              accumulate);
  } else {
    PanelRows<kVectors, false>(d, block, depth, a + k, size.k, panel, to, size.n, width,
                               accumulate);
  }
}

template <typename T>
void GemmRange(const GemmSize& size, const T* a, const T* b, T* y, bool accumulate,
               const GemmBlock& block) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN T panel[kDepth * 2 * HWY_MAX_BYTES / sizeof(T)];
  for (int64_t k = 0; k < size.k; k += kDepth) {
    const int64_t depth = std::min(kDepth, size.k - k);
    const bool add = accumulate || k > 0;
    for (int64_t column = block.columnBegin; column < block.columnEnd;) {
      const int64_t left = block.columnEnd - column;
      const int64_t width = std::min(left, 2 * lanes);
      if (width > lanes) {
        Panel<2>(d, size, a, b, y, add, block, k, depth, column, width, panel);
      } else {
        Panel<1>(d, size, a, b, y, add, block, k, depth, column, width, panel);
      }
      column += width;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
