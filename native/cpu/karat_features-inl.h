// Values of the features of karat_features.h and their derivatives, for inclusion once per target.

#if defined(LOSSCAPE_CPU_KARAT_FEATURES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_KARAT_FEATURES_INL
#undef LOSSCAPE_CPU_KARAT_FEATURES_INL
#else
#define LOSSCAPE_CPU_KARAT_FEATURES_INL
#endif

#include <hwy/highway.h>

#include "native/cpu/karat_bases-inl.h"
#include "native/cpu/karat_features.h"
#include "native/cpu/sincos-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Above kDirect harmonics the rotation starts anew from a sine of its own every kRestart: its error
// grows by 5e-8 a harmonic.
constexpr int64_t kDirect = 32;
constexpr int64_t kRestart = 16;

// sin(m x), cos(m x), the rounding of the product m x made good.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE void SinCosOfMultiple(D d, int64_t m, V x, V& sine, V& cosine) {
  const V factor = hn::Set(d, static_cast<T>(m));
  const V product = hn::Mul(factor, x);
#if HWY_NATIVE_FMA
  const V lost = hn::MulSub(factor, x, product);
#else
  V lost = hn::Zero(d);
  if constexpr (sizeof(T) == 4) {
    lost = math::InFloat64(
        d,
        [](auto dd, auto a, auto b, auto p) HWY_ATTR {
          (void)dd;
          return hn::Sub(hn::Mul(a, b), p);
        },
        factor, x, product);
  }
#endif
  V s, c;
  math::SinCosPair(d, product, s, c);
  sine = hn::MulAdd(lost, c, s);
  cosine = hn::NegMulAdd(lost, s, c);
}

// c, s of the next harmonic from those of this one and of the first.
template <class D, class V>
HWY_INLINE void TurnHarmonic(D, V c1, V s1, V& c, V& s) {
  const V turned = hn::NegMulAdd(s, s1, hn::Mul(c, c1));
  s = hn::MulAdd(s, c1, hn::Mul(c, s1));
  c = turned;
}

// Angles of any size, any number of harmonics.
template <class D, typename T = hn::TFromD<D>>
HWY_NOINLINE void FarHarmonics(D d, int64_t harmonics, const T* HWY_RESTRICT x, int64_t count,
                               T* HWY_RESTRICT panels) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  T* HWY_RESTRICT sines = panels + harmonics * count;
  for (int64_t i = 0; i < count; i += lanes) {
    const V angle = hn::LoadU(d, x + i);
    V s1, c1;
    math::SinCosPair(d, angle, s1, c1);
    V s = s1, c = c1;
    for (int64_t m = 1; m <= harmonics; ++m) {
      hn::StoreU(c, d, panels + (m - 1) * count + i);
      hn::StoreU(s, d, sines + (m - 1) * count + i);
      if (harmonics > kDirect && m % kRestart == 0) {
        SinCosOfMultiple(d, m + 1, angle, s, c);
      } else {
        TurnHarmonic(d, c1, s1, c, s);
      }
    }
  }
}

// kHarmonics harmonics, or as many as asked if that is 0. In passes over the tile, because one long
// chain a vector fills the scheduler with what has to wait.
template <int kHarmonics, class D, typename T = hn::TFromD<D>>
HWY_NOINLINE void NearHarmonics(D d, int64_t harmonics, const T* HWY_RESTRICT x, int64_t count,
                                T* HWY_RESTRICT panels) {
  using V = hn::Vec<D>;
  const hn::RebindToSigned<D> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t most = kHarmonics > 0 ? kHarmonics : harmonics;
  T* HWY_RESTRICT sines = panels + most * count;
  for (int64_t i = 0; i < count; i += lanes) {
    hn::Vec<decltype(di)> n;
    const V r = math::ReduceQuadrant(d, hn::LoadU(d, x + i), n);
    hn::StoreU(r, d, panels + i);
    hn::StoreU(hn::BitCast(d, n), d, sines + i);
  }
  for (int64_t i = 0; i < count; i += lanes) {
    V s, c;
    const auto n = hn::BitCast(di, hn::LoadU(d, sines + i));
    math::SinCosOfQuadrant(d, hn::LoadU(d, panels + i), n, s, c);
    hn::StoreU(c, d, panels + i);
    hn::StoreU(s, d, sines + i);
  }
  if (most == 1) return;
  for (int64_t i = 0; i < count; i += lanes) {
    const V c1 = hn::LoadU(d, panels + i), s1 = hn::LoadU(d, sines + i);
    V c = c1, s = s1;
    HWY_UNROLL(4)
    for (int64_t m = 2; m <= most; ++m) {
      TurnHarmonic(d, c1, s1, c, s);
      hn::StoreU(c, d, panels + (m - 1) * count + i);
      hn::StoreU(s, d, sines + (m - 1) * count + i);
    }
  }
}

// cos(m x) to panel m - 1, sin(m x) to panel G + m - 1.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void FourierPanels(D d, int64_t harmonics, const T* HWY_RESTRICT x, int64_t count,
                              T* HWY_RESTRICT panels) {
  // Asked once a tile: a way out inside the loops would cost them their registers.
  auto near = math::IsNear(d, hn::LoadU(d, x));
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = lanes; i < count; i += lanes) {
    near = hn::And(near, math::IsNear(d, hn::LoadU(d, x + i)));
  }
  if (!hn::AllTrue(d, near) || harmonics > kDirect) {
    FarHarmonics(d, harmonics, x, count, panels);
  } else if (harmonics == 3) {
    NearHarmonics<3>(d, harmonics, x, count, panels);
  } else {
    NearHarmonics<0>(d, harmonics, x, count, panels);
  }
}

// b, b', b'' of the base function; what a basis's own function would look like for one feature.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE void BaseFunction(D d, KaratBase base, int order, V x, V& f, V& slope, V& curvature) {
  const V one = hn::Set(d, T{1});
  slope = one;
  curvature = hn::Zero(d);
  f = x;
  if (base == KaratBase::kSilu) {
    const V g = math::Sigmoid(d, x);
    f = hn::Mul(x, g);
    if (order < 1) return;
    const V rest = hn::Sub(one, g);
    slope = hn::Mul(g, hn::MulAdd(x, rest, one));
    const V bend = hn::MulAdd(x, hn::Sub(rest, g), hn::Set(d, T{2}));
    curvature = hn::Mul(hn::Mul(g, rest), bend);
  } else if (base == KaratBase::kGelu) {
    const V half = hn::Set(d, T{0.5});
    const V scaled = hn::Mul(x, hn::Set(d, static_cast<T>(0.70710678118654752)));
    const V phi = hn::MulAdd(half, math::Erf(d, scaled), half);
    f = hn::Mul(x, phi);
    if (order < 1) return;
    const V square = hn::Mul(x, x);
    const V density = hn::Mul(math::Exp(d, hn::Neg(hn::Mul(half, square))),
                              hn::Set(d, static_cast<T>(0.39894228040143268)));
    slope = hn::MulAdd(x, density, phi);
    curvature = hn::Mul(density, hn::Sub(hn::Set(d, T{2}), square));
  }
}

template <class D, typename T = hn::TFromD<D>>
void BasePanels(D d, const KaratFeatures& features, int order, const T* HWY_RESTRICT x,
                int64_t count, T* HWY_RESTRICT panels) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t j = features.Count() - 1;
  const int64_t slopes = features.Slope(j).panel, curvatures = features.Curvature(j).panel;
  for (int64_t i = 0; i < count; i += lanes) {
    V f, slope, curvature;
    BaseFunction(d, features.base(), order, hn::LoadU(d, x + i), f, slope, curvature);
    hn::StoreU(f, d, panels + j * count + i);
    if (order >= 1) hn::StoreU(slope, d, panels + slopes * count + i);
    if (order >= 2) hn::StoreU(curvature, d, panels + curvatures * count + i);
  }
}

// Panels(order) panels of `count` numbers, a multiple of the lanes, from the scores x [count].
template <class D, typename T = hn::TFromD<D>>
void FillKaratPanels(D d, const KaratFeatures& features, int order, const T* HWY_RESTRICT x,
                     int64_t count, T* HWY_RESTRICT panels) {
  const int64_t slopes = features.Slope(0).panel, curvatures = features.Curvature(0).panel;
  const KaratPanels<T> own{order, count, panels, panels + slopes * count,
                           panels + curvatures * count};
  switch (features.basis()) {
    case KaratBasis::kFourier:
      FourierPanels(d, features.BasisCount() / 2, x, count, panels);
      break;
    case KaratBasis::kChebyshev:
      ChebyshevPanels(d, features.BasisCount(), x, own);
      break;
    case KaratBasis::kGaussian:
      GaussianPanels(d, features.BasisCount(), features.Number(1), features.Number(2), x, own);
      break;
    case KaratBasis::kSpline:
      SplinePanels(d, static_cast<int64_t>(features.Number(0)),
                   static_cast<int64_t>(features.Number(1)), features.Number(2), x, own);
      break;
  }
  if (features.base() != KaratBase::kZero) BasePanels(d, features, order, x, count, panels);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
