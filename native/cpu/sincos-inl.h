// Sine and cosine of one vector at once, for inclusion once per target: one reduction and one set
// of swaps serve both, about 25 instructions on targets with FMA. Errors are below 2 ulp.

#if defined(LOSSCAPE_CPU_SINCOS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_SINCOS_INL
#undef LOSSCAPE_CPU_SINCOS_INL
#else
#define LOSSCAPE_CPU_SINCOS_INL
#endif

#include <hwy/highway.h>

#include <cmath>

#include "native/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace math {

// Beyond, lane by lane through <cmath>.
constexpr float kMaxAngleF32 = 1.0e5f;

// x = k pi/2 + r; the low bits of n are those of k.
template <class D, class V, IfSize<D, 4>* = nullptr>
HWY_INLINE V ReduceQuadrant(D d, V x, hn::Vec<hn::RebindToSigned<D>>& n) {
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, Constants<float>::kRound);
  const V shifted = hn::MulAdd(x, hn::Set(d, static_cast<float>(kTwoOverPi)), magic);
  const V k = hn::Sub(shifted, magic);
  n = hn::BitCast(di, shifted);
#if HWY_NATIVE_FMA
  // x - k P1 is a multiple of 2^-24 below 1, so exact for every k; P1 + P2 + P3 has 72 bits.
  V r = hn::NegMulAdd(k, hn::Set(d, 0x1.921fb6p+0f), x);
  r = hn::NegMulAdd(k, hn::Set(d, -0x1.777a5cp-25f), r);
  return hn::NegMulAdd(k, hn::Set(d, -0x1.ee59dap-50f), r);
#else
  return InFloat64(
      d,
      [](auto dd, auto wide, auto count) HWY_ATTR {
        const auto first = hn::NegMulAdd(count, hn::Set(dd, kHalfPi1), wide);
        return hn::NegMulAdd(count, hn::Set(dd, kHalfPi2And3), first);
      },
      x, k);
#endif
}

template <class D, class V, IfSize<D, 8>* = nullptr>
HWY_INLINE V ReduceQuadrant(D d, V x, hn::Vec<hn::RebindToSigned<D>>& n) {
  V k;
  const V r = ReduceHalfPi(d, x, k);
  n = hn::BitCast(hn::RebindToSigned<D>(), hn::Add(k, hn::Set(d, Constants<double>::kRound)));
  return r;
}

// Lanes of a where the lowest bit of n is 1, of b elsewhere.
template <class D, class V, class VI>
HWY_INLINE V IfOdd(D d, VI n, V a, V b) {
  constexpr int kShift = static_cast<int>(sizeof(hn::TFromD<D>)) * 8 - 1;
  const auto sign = hn::ShiftLeft<kShift>(n);
#if HWY_TARGET == HWY_SCALAR
  // -0, which is what the sign bit alone stands for, is not negative there.
  return hn::IfThenElse(hn::RebindMask(d, hn::Lt(sign, hn::Zero(hn::RebindToSigned<D>()))), a, b);
#else
  return hn::IfNegativeThenElse(hn::BitCast(d, sign), a, b);
#endif
}

// Lanes that ReduceQuadrant serves; not those of NaN.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE auto IsNear(D d, V x) {
  constexpr T kMax = sizeof(T) == 4 ? static_cast<T>(kMaxAngleF32) : static_cast<T>(kMaxAngle);
  return hn::Le(hn::Abs(x), hn::Set(d, kMax));
}

// sin(r) and cos(r), |r| <= pi / 4, with the signs and in the places that quadrant n has.
template <class D, class V, class VI, typename T = hn::TFromD<D>>
HWY_INLINE void SinCosOfQuadrant(D d, V r, VI n, V& sine, V& cosine) {
  using C = Constants<T>;
  const hn::RebindToSigned<D> di;
  constexpr int kBits = static_cast<int>(sizeof(T)) * 8;
  const V z = hn::Mul(r, r);
  const V s = hn::MulAdd(hn::Mul(r, z), Polynomial(d, z, C::kSin), r);
  const V inner = hn::MulAdd(z, Polynomial(d, z, C::kCos), hn::Set(d, T{-0.5}));
  const V c = hn::MulAdd(z, inner, hn::Set(d, T{1}));
  const auto two = hn::Set(di, 2);
  const auto signS = hn::ShiftLeft<kBits - 2>(hn::And(n, two));
  const auto signC = hn::ShiftLeft<kBits - 2>(hn::And(hn::Add(n, hn::Set(di, 1)), two));
  sine = hn::Xor(IfOdd(d, n, c, s), hn::BitCast(d, signS));
  cosine = hn::Xor(IfOdd(d, n, s, c), hn::BitCast(d, signC));
}

template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE void SinCosPair(D d, V x, V& sine, V& cosine) {
  hn::Vec<hn::RebindToSigned<D>> n;
  const V r = ReduceQuadrant(d, x, n);
  SinCosOfQuadrant(d, r, n, sine, cosine);
  const auto near = IsNear(d, x);
  if (HWY_LIKELY(hn::AllTrue(d, near))) return;
  const auto far = hn::Not(near);
  sine = PerLane(d, far, sine, x,
                 [](T a) { return static_cast<T>(std::sin(static_cast<double>(a))); });
  cosine = PerLane(d, far, cosine, x,
                   [](T a) { return static_cast<T>(std::cos(static_cast<double>(a))); });
}

}  // namespace math
}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
