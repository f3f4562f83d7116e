// The matrix product inside fused kernels, on tiles that lie in L1:
//
//   y [m, width] (+)= a [m, k] b [k, width]
//
// with one operand element by element in any order and the other two in whole vectors. A kernel
// that keeps query rows in the lanes makes scores, latent values and their derivatives of this
// one product: no operand but the query tile is ever transposed or packed.

#if defined(LOSSCAPE_CPU_TILE_GEMM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_TILE_GEMM_INL
#undef LOSSCAPE_CPU_TILE_GEMM_INL
#else
#define LOSSCAPE_CPU_TILE_GEMM_INL
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 12 of 16 (24 of 32) registers hold sums: two FMA units of four cycles want eight at least, and
// six broadcasts with two loads feed twelve FMAs.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_ARCH_ARM_A64
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif

// a (i, p) is a[i * ai + p * ap]; b (p, j) is b[p * ldb + j]; y (i, j) is y[i * ldy + j].
template <typename T>
struct TileOperands {
  const T* HWY_RESTRICT a;
  int64_t ai;
  int64_t ap;
  const T* HWY_RESTRICT b;
  int64_t ldb;
  T* HWY_RESTRICT y;
  int64_t ldy;
};

template <int kRows, int kVectors, class D, typename T = hn::TFromD<D>>
HWY_NOINLINE void TileMicro(D d, int64_t k, const TileOperands<T>& o, bool accumulate) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum[kRows][kVectors];
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
  }
  const int64_t ai = o.ai;
  const int64_t ap = o.ap;
  const int64_t ldb = o.ldb;
  const T* HWY_RESTRICT a = o.a;
  const T* HWY_RESTRICT b = o.b;
  for (int64_t p = 0; p < k; ++p) {
    V row[kVectors];
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, b + v * lanes);
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      const V element = hn::Set(d, a[i * ai]);
      HWY_UNROLL(16)
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(element, row[v], sum[i][v]);
    }
    a += ap;
    b += ldb;
  }
  T* HWY_RESTRICT y = o.y;
  const int64_t ldy = o.ldy;
  if (accumulate) {
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      HWY_UNROLL(16)
      for (int v = 0; v < kVectors; ++v) {
        T* at = y + i * ldy + v * lanes;
        hn::StoreU(hn::Add(hn::LoadU(d, at), sum[i][v]), d, at);
      }
    }
    return;
  }
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[i][v], d, y + i * ldy + v * lanes);
  }
}

// The last rows, fewer than kRows + 1.
template <int kRows, int kVectors, class D, typename T = hn::TFromD<D>>
HWY_INLINE void TileLast(D d, int64_t rows, int64_t k, const TileOperands<T>& o, bool accumulate) {
  if (rows == kRows) {
    TileMicro<kRows, kVectors>(d, k, o, accumulate);
  } else if constexpr (kRows > 1) {
    TileLast<kRows - 1, kVectors>(d, rows, k, o, accumulate);
  }
}

template <int kRows, int kVectors, class D, typename T = hn::TFromD<D>>
HWY_INLINE void TileColumns(D d, int64_t m, int64_t k, TileOperands<T> o, bool accumulate) {
  int64_t i = 0;
  for (; i + kRows <= m; i += kRows) {
    TileMicro<kRows, kVectors>(d, k, o, accumulate);
    o.a += kRows * o.ai;
    o.y += kRows * o.ldy;
  }
  if constexpr (kRows > 1) {
    if (i < m) TileLast<kRows - 1, kVectors>(d, m - i, k, o, accumulate);
  }
}

// y [i][0 .. width) (+)= sum over p < k of a[i * ai + p * ap] b[p * ldb + 0 .. width), i < m.
// width: a multiple of the lanes. The sum of an element runs over p in order.
template <class D, typename T = hn::TFromD<D>>
void TileGemm(D d, int64_t m, int64_t k, int64_t width, const T* a, int64_t ai, int64_t ap,
              const T* b, int64_t ldb, T* y, int64_t ldy, bool accumulate) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + 2 * lanes <= width; j += 2 * lanes) {
    TileColumns<kTileRows, 2>(d, m, k, TileOperands<T>{a, ai, ap, b + j, ldb, y + j, ldy},
                              accumulate);
  }
  if (j < width) {
    TileColumns<kTileRows, 1>(d, m, k, TileOperands<T>{a, ai, ap, b + j, ldb, y + j, ldy},
                              accumulate);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
