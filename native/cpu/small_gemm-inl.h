// The kernels of small_gemm.cc, compiled once per SIMD target.

#ifndef LOSSCAPE_CPU_SMALL_GEMM_BLOCK
#define LOSSCAPE_CPU_SMALL_GEMM_BLOCK

#include "native/cpu/small_gemm.h"

namespace losscape {

// The part of y that one call computes.
struct GemmBlock {
  int64_t begin;  // of the batch
  int64_t end;
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
// Rows of b that are packed at a time: two panels of two vectors are 32 KiB with AVX2, and rows of
// a pass through them. Columns of a transposed one are read again for every few rows of y, and have
// to stay in L1.
constexpr int64_t kDepth = 256;
constexpr int64_t kDepthTransA = 128;
// Panels between which rows of a are read once.
constexpr int kPanels = 2;

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

// Where the rows of a term's a are, and how many of b's rows are packed for it.
template <typename T>
struct GemmPart {
  const T* a;
  int64_t lda;
  int64_t depth;
};

// A packed panel: the parts' rows of b one after another.
template <int kVectors, class D, typename T = hn::TFromD<D>>
struct GemmPanel {
  const T* b;
  T* y;  // row 0
  RowStore<kVectors, D> store;
};

// y [kRows, width] at `row` (+)= the sum of the parts. a (i, p) is a[i * lda + p], or a[p * lda +
// i].
template <int kRows, int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
HWY_NOINLINE void Micro(D d, const GemmPart<T>* HWY_RESTRICT parts, int count, int64_t row,
                        const GemmPanel<kVectors, D>& panel, int64_t ldy, bool accumulate) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const T* HWY_RESTRICT b = panel.b;
  V sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
  }
  for (int t = 0; t < count; ++t) {
    const int64_t lda = parts[t].lda;
    const T* HWY_RESTRICT a = parts[t].a + (kTransA ? row : row * lda);
    for (int64_t p = parts[t].depth; p > 0; --p) {
      V columns[kVectors];
      for (int v = 0; v < kVectors; ++v) columns[v] = hn::Load(d, b + v * lanes);
      b += kVectors * lanes;
      for (int i = 0; i < kRows; ++i) {
        const V element = hn::Set(d, kTransA ? a[i] : a[i * lda]);
        for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(element, columns[v], sum[i][v]);
      }
      a += kTransA ? lda : 1;
    }
  }
  T* const y = panel.y + row * ldy;
  // Unrolled before the sums are given registers: they would go through memory else.
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) panel.store(sum[i], y + i * ldy, accumulate);
}

template <int kRows, int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
HWY_INLINE int64_t Rows(D d, int64_t row, int64_t end, const GemmPart<T>* parts, int count,
                        const GemmPanel<kVectors, D>* panels, int panelCount, int64_t ldy,
                        bool accumulate) {
  for (; row + kRows <= end; row += kRows) {
    for (int i = 0; i < panelCount; ++i) {
      Micro<kRows, kVectors, kTransA>(d, parts, count, row, panels[i], ldy, accumulate);
    }
  }
  return row;
}

template <int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
void PanelRows(D d, int64_t row, int64_t end, const GemmPart<T>* parts, int count,
               const GemmPanel<kVectors, D>* panels, int panelCount, int64_t ldy, bool accumulate) {
  constexpr int kRows = kVectors == 1 ? 12 : kTallRows;
  row = Rows<kRows, kVectors, kTransA>(d, row, end, parts, count, panels, panelCount, ldy,
                                       accumulate);
  if constexpr (kRows > 6) {
    row =
        Rows<6, kVectors, kTransA>(d, row, end, parts, count, panels, panelCount, ldy, accumulate);
  }
  row = Rows<4, kVectors, kTransA>(d, row, end, parts, count, panels, panelCount, ldy, accumulate);
  row = Rows<2, kVectors, kTransA>(d, row, end, parts, count, panels, panelCount, ldy, accumulate);
  Rows<1, kVectors, kTransA>(d, row, end, parts, count, panels, panelCount, ldy, accumulate);
}

// Rows k .. of a term's b.
struct GemmSlice {
  int term;
  int64_t k;
  int64_t depth;
};

// Columns `column` .. of y over the slices: panels of `kVectors` vectors, the last `width` wide.
template <int kVectors, class D, typename T = hn::TFromD<D>>
void Strip(D d, const GemmBatch& batch, const GemmTerm<T>* terms, const GemmSlice* slices,
           int sliceCount, T* y, bool accumulate, const GemmBlock& block, int64_t column,
           int panelCount, int64_t width, T* buffer) {
  const int64_t stride = kVectors * static_cast<int64_t>(hn::Lanes(d));
  bool shared = true;
  for (int t = 0; t < sliceCount; ++t) shared &= terms[slices[t].term].stepB == 0;
  GemmPanel<kVectors, D> panels[kPanels] = {
      {nullptr, nullptr, RowStore<kVectors, D>(d, panelCount > 1 ? stride : width)},
      {nullptr, nullptr, RowStore<kVectors, D>(d, width)}};
  for (int64_t i = block.begin; i < block.end; ++i) {
    GemmPart<T> parts[kGemmTerms];
    for (int t = 0; t < sliceCount; ++t) {
      const GemmSlice& slice = slices[t];
      const GemmTerm<T>& term = terms[slice.term];
      const int64_t lda = batch.transA ? batch.m : term.k;
      parts[t] = {term.a + i * term.stepA + (batch.transA ? slice.k * lda : slice.k), lda,
                  slice.depth};
    }
    T* to = buffer;
    for (int p = 0; p < panelCount; ++p) {
      const int64_t first = column + p * stride;
      panels[p].b = to;
      panels[p].y = y + i * batch.m * batch.n + first;
      for (int t = 0; t < sliceCount; ++t) {
        const GemmSlice& slice = slices[t];
        const GemmTerm<T>& term = terms[slice.term];
        if (!shared || i == block.begin) {
          PackPanel<kVectors>(d, term.b + i * term.stepB, term.transB,
                              term.transB ? term.k : batch.n, slice.k, slice.depth, first,
                              p + 1 < panelCount ? stride : width, to);
        }
        to += slice.depth * stride;
      }
    }
    if (batch.transA) {
      PanelRows<kVectors, true>(d, block.rowBegin, block.rowEnd, parts, sliceCount, panels,
                                panelCount, batch.n, accumulate);
    } else {
      PanelRows<kVectors, false>(d, block.rowBegin, block.rowEnd, parts, sliceCount, panels,
                                 panelCount, batch.n, accumulate);
    }
  }
}

template <typename T>
void GemmRange(const GemmBatch& batch, const GemmTerm<T>* terms, int count, T* y, bool accumulate,
               const GemmBlock& block) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN T buffer[kDepth * 2 * kPanels * HWY_MAX_BYTES / sizeof(T)];
  const int64_t most = batch.transA ? kDepthTransA : kDepth;
  int term = 0;
  int64_t k = 0;
  while (term < count) {
    GemmSlice slices[kGemmTerms];
    int sliceCount = 0;
    for (int64_t left = most; left > 0 && term < count;) {
      const int64_t depth = std::min(left, terms[term].k - k);
      if (depth > 0) slices[sliceCount++] = {term, k, depth};
      left -= depth;
      k += depth;
      if (k < terms[term].k) break;
      ++term;
      k = 0;
    }
    for (int64_t column = block.columnBegin; column < block.columnEnd;) {
      const int64_t left = block.columnEnd - column;
      const int panels = left > 3 * lanes ? kPanels : 1;
      const int64_t width = std::min(left, panels * 2 * lanes);
      if (width > lanes) {
        Strip<2>(d, batch, terms, slices, sliceCount, y, accumulate, block, column, panels,
                 width - (panels - 1) * 2 * lanes, buffer);
      } else {
        Strip<1>(d, batch, terms, slices, sliceCount, y, accumulate, block, column, 1, width,
                 buffer);
      }
      column += width;
    }
    accumulate = true;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
