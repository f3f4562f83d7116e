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
    for (int64_t j = whole * lanes; j < width; ++j) to[j] = from[j];
    for (int64_t j = width; j < stride; ++j) to[j] = T{0};
  }
}

// y [kRows, width] (+)= a panel over `depth`. a (i, p) is a[i * lda + p], or a[p * lda + i].
template <int kRows, int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
HWY_NOINLINE void Micro(D d, int64_t depth, const T* HWY_RESTRICT a, int64_t lda,
                        const T* HWY_RESTRICT panel, T* HWY_RESTRICT y, int64_t ldy, int64_t width,
                        bool accumulate) {
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
  if (width == kVectors * lanes) {
    for (int i = 0; i < kRows; ++i) {
      for (int v = 0; v < kVectors; ++v) {
        T* to = y + i * ldy + v * lanes;
        hn::StoreU(accumulate ? hn::Add(sum[i][v], hn::LoadU(d, to)) : sum[i][v], d, to);
      }
    }
    return;
  }
  HWY_ALIGN T line[kVectors * HWY_MAX_BYTES / sizeof(T)] = {};
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[i][v], d, line + v * lanes);
    T* to = y + i * ldy;
    for (int64_t j = 0; j < width; ++j) to[j] = accumulate ? to[j] + line[j] : line[j];
  }
}

template <int kRows, int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
HWY_INLINE int64_t Rows(D d, int64_t row, int64_t end, int64_t depth, const T* a, int64_t lda,
                        const T* panel, T* y, int64_t ldy, int64_t width, bool accumulate) {
  for (; row + kRows <= end; row += kRows) {
    Micro<kRows, kVectors, kTransA>(d, depth, kTransA ? a + row : a + row * lda, lda, panel,
                                    y + row * ldy, ldy, width, accumulate);
  }
  return row;
}

template <int kVectors, bool kTransA, class D, typename T = hn::TFromD<D>>
void PanelRows(D d, const GemmBlock& block, int64_t depth, const T* a, int64_t lda, const T* panel,
               T* y, int64_t ldy, int64_t width, bool accumulate) {
  constexpr int kRows = kVectors == 1 ? 12 : kTallRows;
  int64_t row = block.rowBegin;
  const int64_t end = block.rowEnd;
  row =
      Rows<kRows, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, width, accumulate);
  if constexpr (kRows > 6) {
    row = Rows<6, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, width, accumulate);
  }
  row = Rows<4, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, width, accumulate);
  row = Rows<2, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, width, accumulate);
  Rows<1, kVectors, kTransA>(d, row, end, depth, a, lda, panel, y, ldy, width, accumulate);
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
