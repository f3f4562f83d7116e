// The micro-kernels of karat_latent that tile_gemm-inl.h lacks, and its packing, for inclusion once
// per target. w: rows of a tile of queries, a multiple of the lanes, which are in the lanes.

#if defined(LOSSCAPE_CPU_KARAT_LATENT_TILES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_KARAT_LATENT_TILES_INL
#undef LOSSCAPE_CPU_KARAT_LATENT_TILES_INL
#else
#define LOSSCAPE_CPU_KARAT_LATENT_TILES_INL
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <type_traits>

#include "native/cpu/karat_latent.h"
#include "native/cpu/rows-inl.h"
#include "native/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
using KaratTag = hn::CappedTag<T, kKaratVectorBytes / sizeof(T)>;

// z [r, w] += sum over j < features, m < keys of c[j * featureStride + m * latent + p]
// panels[(j * keys + m) * w ..]. The sum of a tile is made first: fewer terms a chain.
template <typename T>
struct KaratContraction {
  const T* HWY_RESTRICT c;
  int64_t featureStride, latent, features, keys;
  const T* HWY_RESTRICT panels;
  int64_t w;
  T* HWY_RESTRICT z;
};

template <int kRows, int kVectors, class D, typename T = hn::TFromD<D>>
HWY_NOINLINE void ContractMicro(D d, const KaratContraction<T>& o, int64_t p, int64_t column) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum[kRows][kVectors];
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
  }
  const int64_t w = o.w, latent = o.latent;
  const T* HWY_RESTRICT panel = o.panels + column;
  for (int64_t j = 0; j < o.features; ++j) {
    const T* HWY_RESTRICT c = o.c + j * o.featureStride + p;
    for (int64_t m = 0; m < o.keys; ++m) {
      V f[kVectors];
      HWY_UNROLL(16)
      for (int v = 0; v < kVectors; ++v) f[v] = hn::LoadU(d, panel + v * lanes);
      HWY_UNROLL(16)
      for (int i = 0; i < kRows; ++i) {
        const V element = hn::Set(d, c[i]);
        HWY_UNROLL(16)
        for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(element, f[v], sum[i][v]);
      }
      panel += w;
      c += latent;
    }
  }
  T* HWY_RESTRICT z = o.z + p * w + column;
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) {
      T* at = z + i * w + v * lanes;
      hn::StoreU(hn::Add(hn::LoadU(d, at), sum[i][v]), d, at);
    }
  }
}

template <int kRows, int kVectors, class D, typename T = hn::TFromD<D>>
HWY_INLINE void ContractLast(D d, int64_t rows, const KaratContraction<T>& o, int64_t p,
                             int64_t column) {
  if (rows == kRows) {
    ContractMicro<kRows, kVectors>(d, o, p, column);
  } else if constexpr (kRows > 1) {
    ContractLast<kRows - 1, kVectors>(d, rows, o, p, column);
  }
}

template <int kVectors, class D, typename T = hn::TFromD<D>>
HWY_INLINE void ContractColumns(D d, int64_t latent, const KaratContraction<T>& o, int64_t column) {
  int64_t p = 0;
  for (; p + kTileRows <= latent; p += kTileRows) {
    ContractMicro<kTileRows, kVectors>(d, o, p, column);
  }
  if (p < latent) ContractLast<kTileRows - 1, kVectors>(d, latent - p, o, p, column);
}

template <class D, typename T = hn::TFromD<D>>
void ContractTile(D d, int64_t latent, const KaratContraction<T>& o) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t column = 0;
  for (; column + 2 * lanes <= o.w; column += 2 * lanes) ContractColumns<2>(d, latent, o, column);
  if (column < o.w) ContractColumns<1>(d, latent, o, column);
}

// E_j [keys, w] = sum over sources of c_j [keys, r] z [r, w], which stays in registers:
// slope [keys, w] = sum_j f_j' E_j and, unless curve is null, curve = sum_j f_j'' E_j.
template <typename T>
struct KaratSource {
  const T* c;  // [J, keys, r], features featureStride apart
  const T* z;  // [r, w]
};

template <typename T>
struct KaratSlope {
  KaratSource<T> sources[2];
  int sourceCount;
  int64_t features, featureStride, latent, w;
  const T* HWY_RESTRICT panels;
  int64_t panelStride;
  const KaratDerivative* HWY_RESTRICT slopes;
  const KaratDerivative* HWY_RESTRICT curvatures;
  T* HWY_RESTRICT slope;
  T* HWY_RESTRICT curve;
};

// to [kRows, kVectors] (+)= scale panel e, rows w apart
template <int kRows, int kVectors, class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE void AddProduct(D d, const T* HWY_RESTRICT panel, V scale, int64_t w,
                           const V (&e)[kRows][kVectors], T* HWY_RESTRICT to, bool first) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) {
      const V product = hn::Mul(hn::LoadU(d, panel + v * lanes), scale);
      const V sum = first ? hn::Zero(d) : hn::LoadU(d, to + v * lanes);
      hn::StoreU(hn::MulAdd(product, e[i][v], sum), d, to + v * lanes);
    }
    panel += w;
    to += w;
  }
}

template <int kRows, int kVectors, class D, typename T = hn::TFromD<D>>
HWY_NOINLINE void SlopeMicro(D d, const KaratSlope<T>& o, int64_t key, int64_t column) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t w = o.w, latent = o.latent, at = key * w + column;
  const int64_t features = o.features;
  for (int64_t j = 0; j < features; ++j) {
    V e[kRows][kVectors];
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      HWY_UNROLL(16)
      for (int v = 0; v < kVectors; ++v) e[i][v] = hn::Zero(d);
    }
    for (int s = 0; s < o.sourceCount; ++s) {
      const T* HWY_RESTRICT c = o.sources[s].c + j * o.featureStride + key * latent;
      const T* HWY_RESTRICT z = o.sources[s].z + column;
      for (int64_t p = 0; p < latent; ++p) {
        V row[kVectors];
        HWY_UNROLL(16)
        for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, z + v * lanes);
        HWY_UNROLL(16)
        for (int i = 0; i < kRows; ++i) {
          const V element = hn::Set(d, c[i * latent]);
          HWY_UNROLL(16)
          for (int v = 0; v < kVectors; ++v) e[i][v] = hn::MulAdd(element, row[v], e[i][v]);
        }
        ++c;
        z += w;
      }
    }
    const KaratDerivative slope = o.slopes[j];
    AddProduct(d, o.panels + slope.panel * o.panelStride + at,
               hn::Set(d, static_cast<T>(slope.scale)), w, e, o.slope + at, j == 0);
    if (o.curve) {
      const KaratDerivative curve = o.curvatures[j];
      AddProduct(d, o.panels + curve.panel * o.panelStride + at,
                 hn::Set(d, static_cast<T>(curve.scale)), w, e, o.curve + at, j == 0);
    }
  }
}

template <int kRows, int kVectors, class D, typename T = hn::TFromD<D>>
HWY_INLINE void SlopeLast(D d, int64_t keys, const KaratSlope<T>& o, int64_t key, int64_t column) {
  if (keys == kRows) {
    SlopeMicro<kRows, kVectors>(d, o, key, column);
  } else if constexpr (kRows > 1) {
    SlopeLast<kRows - 1, kVectors>(d, keys, o, key, column);
  }
}

template <int kVectors, class D, typename T = hn::TFromD<D>>
HWY_INLINE void SlopeColumns(D d, int64_t keys, const KaratSlope<T>& o, int64_t column) {
  int64_t key = 0;
  for (; key + kTileRows <= keys; key += kTileRows) {
    SlopeMicro<kTileRows, kVectors>(d, o, key, column);
  }
  if (key < keys) SlopeLast<kTileRows - 1, kVectors>(d, keys - key, o, key, column);
}

template <class D, typename T = hn::TFromD<D>>
void SlopeTile(D d, int64_t keys, const KaratSlope<T>& o) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t column = 0;
  for (; column + 2 * lanes <= o.w; column += 2 * lanes) SlopeColumns<2>(d, keys, o, column);
  if (column < o.w) SlopeColumns<1>(d, keys, o, column);
}

// Asks for the lines of x [rows, C], rows `stride` apart.
template <typename T>
HWY_INLINE void PrefetchRows(const T* x, int64_t rows, int64_t columns, int64_t stride) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; c += kLine) hwy::Prefetch(x + r * stride + c);
  }
}

// y = scale a b
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void MultiplyTile(D d, const T* HWY_RESTRICT a, const T* HWY_RESTRICT b, T scale,
                             int64_t count, T* HWY_RESTRICT y) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, scale);
  for (int64_t i = 0; i < count; i += lanes) {
    const auto product = hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    hn::StoreU(hn::Mul(product, factor), d, y + i);
  }
}

// to [c * strideTo + r] = from [r * strideFrom + c], four by four where that is possible.
template <typename T>
HWY_INLINE void TransposeBlock(const T* HWY_RESTRICT from, int64_t strideFrom, int64_t rows,
                               int64_t columns, T* HWY_RESTRICT to, int64_t strideTo) {
  int64_t done = 0;
  if constexpr (kHasFour && std::is_same_v<T, float>) {
    if (columns >= 4) {
      for (; done + 4 <= rows; done += 4) {
        for (int64_t c = 0; c < columns; c += 4) {
          // The last four overlap the ones before.
          const int64_t at = std::min(c, columns - 4);
          TransposeFour(from + done * strideFrom + at, strideFrom, to + at * strideTo + done,
                        strideTo);
        }
      }
    }
  }
  for (int64_t r = done; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * strideTo + r] = from[r * strideFrom + c];
  }
}

// columns [C, w] = scale x [rows, C], zeros behind the rows.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void PackColumns(D d, const T* x, int64_t stride, int64_t rows, int64_t columns, T scale,
                            T* HWY_RESTRICT to, int64_t w) {
  TransposeBlock(x, stride, rows, columns, to, w);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (scale != T{1}) {
    const auto factor = hn::Set(d, scale);
    // What lies behind the rows is overwritten below.
    for (int64_t i = 0; i < columns * w; i += lanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, to + i), factor), d, to + i);
    }
  }
  if (rows == w) return;
  for (int64_t c = 0; c < columns; ++c) std::fill(to + c * w + rows, to + (c + 1) * w, T{0});
}

// lines [rows, ld] = scale x [rows, C], zeros behind the columns.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void PackRows(D, const T* x, int64_t stride, int64_t rows, int64_t columns, T scale,
                         T* HWY_RESTRICT to, int64_t ld) {
  for (int64_t r = 0; r < rows; ++r) {
    T* HWY_RESTRICT line = to + r * ld;
    for (int64_t c = 0; c < columns; ++c) line[c] = scale * x[r * stride + c];
    std::fill(line + columns, line + ld, T{0});
  }
}

// x [rows, C] = scale columns [C, w]
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void StoreColumns(D d, T* HWY_RESTRICT columns, int64_t w, int64_t rows, int64_t count,
                             T scale, T* HWY_RESTRICT x, int64_t stride) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (scale != T{1}) {
    const auto factor = hn::Set(d, scale);
    for (int64_t i = 0; i < count * w; i += lanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, columns + i), factor), d, columns + i);
    }
  }
  if constexpr (kHasFour && std::is_same_v<T, float>) {
    int64_t c = 0;
    for (; c + 4 <= count; c += 4) {
      int64_t r = 0;
      for (; r + 4 <= rows; r += 4) {
        TransposeFour(columns + c * w + r, w, x + r * stride + c, stride);
      }
      for (; r < rows; ++r) {
        for (int64_t i = c; i < c + 4; ++i) x[r * stride + i] = columns[i * w + r];
      }
    }
    for (; c < count; ++c) {
      for (int64_t r = 0; r < rows; ++r) x[r * stride + c] = columns[c * w + r];
    }
  } else {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < count; ++c) x[r * stride + c] = columns[c * w + r];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
