// Elementary functions on SIMD vectors, float and double, for inclusion once per target.
//
// Errors are below 2.5 ulp for float and 3 ulp for double (test/fused_test.cc states and checks the
// bound of each), denormal arguments and results included; infinities and NaN are as in <cmath>.
// Polynomials are minimax fits in the relative error of the function's value.

#if defined(LOSSCAPE_CPU_MATH_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_MATH_INL
#undef LOSSCAPE_CPU_MATH_INL
#else
#define LOSSCAPE_CPU_MATH_INL
#endif

#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "native/cpu/narrow-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace math {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, size_t kSize>
using IfSize = hwy::EnableIf<sizeof(hn::TFromD<D>) == kSize>;

template <typename T>
struct Constants;

template <>
struct Constants<float> {
  using Bits = uint32_t;
  static constexpr int kMantissa = 23;
  static constexpr Bits kBias = 127;
  // Adding and subtracting it rounds to an integer, which stands in its low mantissa bits.
  static constexpr float kRound = 12582912.0f;
  static constexpr float kLn2High = 0.693145751953125f;  // times an exponent: exact
  static constexpr float kLn2Low = 1.428606765330187e-06f;
  static constexpr float kExpLow = -104.5f, kExpHigh = 89.0f;
  static constexpr float kExpm1Low = -20.0f;
  static constexpr float kSqrtHalf = 0.70710677f;
  static constexpr float kTiny = 5.9604645e-08f;  // below: log1p(x) = x
  // (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2
  static constexpr float kExp[] = {0.5f, 0.16666542f, 0.0416662805f, 0.00836664438f,
                                   0.00139465835f};
  // (log(1 + f) - 2 s) / s^3 in s^2, s = f / (2 + f)
  static constexpr float kLog[] = {0.666667759f, 0.399775624f, 0.298719019f};
  // The same for f in (0, 1]
  static constexpr float kLogWide[] = {0.666666746f, 0.39998883f, 0.286167562f, 0.214288548f,
                                       0.242969856f};
  // (sin x - x) / x^3 and (cos x - 1 + x^2/2) / x^4 in x^2 on |x| <= pi / 4
  static constexpr float kSin[] = {-0.166666552f, 0.00833217613f, -0.000195170011f};
  static constexpr float kCos[] = {0.0416666456f, -0.00138873665f, 2.44382263e-05f};
  // erf(x) / x - 1 in x^2 on |x| <= 1
  static constexpr float kErf[] = {0.128379167f,   -0.37612626f,     0.112835854f,   -0.0268538147f,
                                   0.00518833101f, -0.000801020942f, 7.85387165e-05f};
  // -log erfc(x) in x - kErfcShift on [1, kErfcHigh]; from there on erf is 1
  static constexpr float kErfcShift = 0.0f, kErfcHigh = 4.0f;
  static constexpr float kErfc[] = {0.000353718846f, 1.12704003f,    0.638225675f,    0.103037372f,
                                    -0.0218053199f,  0.00293960748f, -0.000185574027f};
};

template <>
struct Constants<double> {
  using Bits = uint64_t;
  static constexpr int kMantissa = 52;
  static constexpr Bits kBias = 1023;
  static constexpr double kRound = 6755399441055744.0;
  static constexpr double kLn2High = 0x1.62e42feep-1;
  static constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kExpLow = -746.0, kExpHigh = 710.0;
  static constexpr double kExpm1Low = -40.0;
  static constexpr double kSqrtHalf = 0.70710678118654752;
  static constexpr double kTiny = 0x1p-54;
  static constexpr double kExp[] = {
      0x1.0000000000005p-1,  0x1.555555555555cp-3,  0x1.55555555520c0p-5,  0x1.111111110e6a4p-7,
      0x1.6c16c17f4aa6dp-10, 0x1.a01a01b5ede98p-13, 0x1.a019a63fab011p-16, 0x1.71dde9cb11ed0p-19,
      0x1.28a2fac98aeacp-22, 0x1.af77159f97d75p-26};
  static constexpr double kLog[] = {
      0x1.555555555558fp-1, 0x1.99999999808a7p-2, 0x1.2492494180607p-2, 0x1.c71c524d52af3p-3,
      0x1.746634a3d6b06p-3, 0x1.39a277b1af153p-3, 0x1.2f0071a20663ep-3};
  static constexpr double kLogWide[] = {
      0x1.5555555555536p-1, 0x1.99999999a05e5p-2, 0x1.24924920949bdp-2, 0x1.c71c74194c628p-3,
      0x1.745cb45ba98b1p-3, 0x1.3b1dd4e9d4cb8p-3, 0x1.10681100fbafep-3, 0x1.efd408261354ap-4,
      0x1.55c25c3f96f10p-4, 0x1.5c69bc8e648cfp-3};
  static constexpr double kSin[] = {-0x1.5555555555549p-3,  0x1.111111110f871p-7,
                                    -0x1.a01a019c0ff57p-13, 0x1.71de3575ec050p-19,
                                    -0x1.ae5e6494ffc99p-26, 0x1.5d92774ffcebap-33};
  static constexpr double kCos[] = {0x1.555555555554cp-5,  -0x1.6c16c16c1519cp-10,
                                    0x1.a01a019cb3bb3p-16, -0x1.27e4f80addbd6p-22,
                                    0x1.1ee9ec4438aa1p-29, -0x1.8faeadfa15b41p-37};
  static constexpr double kErf[] = {
      0x1.06eba8214db69p-3,  -0x1.812746b0379bdp-2,  0x1.ce2f21a040d22p-4,  -0x1.b82ce311fab9ep-6,
      0x1.565bccf92efd5p-8,  -0x1.c02db03e471e0p-11, 0x1.f9a2bab0d8e39p-14, -0x1.f4ca4dc689088p-17,
      0x1.b97fd624826dbp-20, -0x1.5c072f7a6a341p-23, 0x1.d71b2a21b1475p-27, -0x1.abae48dc1a60cp-31};
  static constexpr double kErfcShift = 2.0, kErfcHigh = 6.0;
  static constexpr double kErfc[] = {
      0x1.575b329b1f510p+2,   0x1.1ac3258a8dbcfp+2,   0x1.d8f5dece92b37p-1,
      0x1.0dc3b5fc0b946p-6,   -0x1.d406b36e7addep-9,  0x1.7ffcfa2876bf8p-11,
      -0x1.1bc3ac06722ebp-13, 0x1.5b65e57f8b33ep-16,  -0x1.05fe4222a33c3p-19,
      -0x1.b5a4a5e2470b5p-23, 0x1.733f5636a222bp-23,  -0x1.ef65687f2e733p-25,
      0x1.e90fa0a3afb37p-27,  -0x1.6812533134a5ap-29, 0x1.4ed97f26c91a6p-33,
      0x1.722b9713ad461p-34,  -0x1.322ba23136a26p-36};
};

// c[0] + c[1] x + ...
template <class D, class V, typename T, size_t kCount>
HWY_INLINE V Polynomial(D d, V x, const T (&c)[kCount]) {
  V sum = hn::Set(d, c[kCount - 1]);
  for (size_t i = kCount - 1; i-- > 0;) sum = hn::MulAdd(sum, x, hn::Set(d, c[i]));
  return sum;
}

// min(max(x, low), high) that keeps NaN.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Clamp(D d, V x, T low, T high) {
  const V lo = hn::Set(d, low), hi = hn::Set(d, high);
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
  // These instructions return their second operand when one is NaN.
  return hn::Min(hi, hn::Max(lo, x));
#else
  const V raised = hn::IfThenElse(hn::Lt(x, lo), lo, x);
  return hn::IfThenElse(hn::Gt(raised, hi), hi, raised);
#endif
}

template <class D, class V>
HWY_INLINE V RoundInteger(D d, V x) {
  const V magic = hn::Set(d, Constants<hn::TFromD<D>>::kRound);
  return hn::Sub(hn::Add(x, magic), magic);
}

// 2^k for an integral k with a normal result.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V PowerOfTwo(D d, V k) {
  using C = Constants<T>;
  const hn::RebindToUnsigned<D> du;
  const V biased = hn::Add(k, hn::Set(d, C::kRound + static_cast<T>(C::kBias)));
  return hn::BitCast(d, hn::ShiftLeft<C::kMantissa>(hn::BitCast(du, biased)));
}

// x = k ln 2 + r with |r| <= ln(2) / 2.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V ReduceLn2(D d, V x, V& k) {
  using C = Constants<T>;
  const V magic = hn::Set(d, C::kRound);
  k = hn::Sub(hn::MulAdd(x, hn::Set(d, static_cast<T>(1.4426950408889634074)), magic), magic);
  const V r = hn::NegMulAdd(k, hn::Set(d, C::kLn2High), x);
  return hn::NegMulAdd(k, hn::Set(d, C::kLn2Low), r);
}

// e^r - 1 for |r| <= ln(2) / 2.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Expm1Reduced(D d, V r) {
  return hn::MulAdd(hn::Mul(r, r), Polynomial(d, r, Constants<T>::kExp), r);
}

template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Exp(D d, V x) {
  using C = Constants<T>;
  V k;
  const V r = ReduceLn2(d, Clamp(d, x, C::kExpLow, C::kExpHigh), k);
  const V p = hn::Add(Expm1Reduced(d, r), hn::Set(d, T{1}));
  // In two steps, because 2^k may be out of range where the result is not.
  const V half = RoundInteger(d, hn::Mul(k, hn::Set(d, T{0.5})));
  return hn::Mul(hn::Mul(p, PowerOfTwo(d, half)), PowerOfTwo(d, hn::Sub(k, half)));
}

template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Expm1(D d, V x) {
  using C = Constants<T>;
  V k;
  const V r = ReduceLn2(d, Clamp(d, x, C::kExpm1Low, C::kExpHigh), k);
  const V p = Expm1Reduced(d, r);
  // 2 (2^(k-1) p + (2^(k-1) - 1/2)): 2^k itself may overflow where the result does not.
  const V s = PowerOfTwo(d, hn::Sub(k, hn::Set(d, T{1})));
  const V y = hn::MulAdd(s, p, hn::Sub(s, hn::Set(d, T{0.5})));
  // Tiny x goes around, to keep denormals and the sign of zero.
  return hn::IfThenElse(hn::Lt(hn::Abs(x), hn::Set(d, C::kTiny)), x, hn::Add(y, y));
}

// u = 2^k m with m in [sqrt(1/2), sqrt(2)); u positive and normal. Returns m - 1.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V ReduceLog(D d, V u, V& k) {
  using C = Constants<T>;
  using Bits = typename C::Bits;
  const hn::RebindToUnsigned<D> du;
  const Bits one = C::kBias << C::kMantissa;
  const auto low = hn::BitCast(du, hn::Set(d, C::kSqrtHalf));
  const auto shifted = hn::Add(hn::BitCast(du, u), hn::Sub(hn::Set(du, one), low));
  // The biased exponent as a number: put into the mantissa of 2^kMantissa.
  const Bits power = (C::kBias + C::kMantissa) << C::kMantissa;
  const auto exponent = hn::Or(hn::ShiftRight<C::kMantissa>(shifted), hn::Set(du, power));
  const T bias = static_cast<T>((Bits{1} << C::kMantissa) + C::kBias);
  k = hn::Sub(hn::BitCast(d, exponent), hn::Set(d, bias));
  const Bits mask = (Bits{1} << C::kMantissa) - 1;
  const V m = hn::BitCast(d, hn::Add(hn::And(shifted, hn::Set(du, mask)), low));
  return hn::Sub(m, hn::Set(d, T{1}));
}

// k ln 2 + log(1 + f) + correction
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V LogOfReduced(D d, V f, V k, V correction) {
  using C = Constants<T>;
  const V s = hn::Div(f, hn::Add(f, hn::Set(d, T{2})));
  const V z = hn::Mul(s, s);
  const V tail = hn::Mul(z, Polynomial(d, z, C::kLog));
  const V square = hn::Mul(hn::Mul(f, f), hn::Set(d, T{0.5}));
  const V small =
      hn::MulAdd(s, hn::Add(square, tail), hn::MulAdd(k, hn::Set(d, C::kLn2Low), correction));
  return hn::MulAdd(k, hn::Set(d, C::kLn2High), hn::Sub(f, hn::Sub(square, small)));
}

template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Log(D d, V x) {
  using C = Constants<T>;
  using Limits = std::numeric_limits<T>;
  const V zero = hn::Zero(d);
  const auto denormal = hn::Lt(x, hn::Set(d, Limits::min()));
  const T scale = static_cast<T>(typename C::Bits{1} << (C::kMantissa + 2));
  const V u = hn::IfThenElse(denormal, hn::Mul(x, hn::Set(d, scale)), x);
  V k;
  const V f = ReduceLog(d, u, k);
  k = hn::Sub(k, hn::IfThenElseZero(denormal, hn::Set(d, static_cast<T>(C::kMantissa + 2))));
  V y = LogOfReduced(d, f, k, zero);
  const V infinity = hn::Set(d, Limits::infinity());
  y = hn::IfThenElse(hn::Lt(x, infinity), y, x);
  y = hn::IfThenElse(hn::Lt(x, zero), hn::Set(d, Limits::quiet_NaN()), y);
  return hn::IfThenElse(hn::Eq(x, zero), hn::Neg(infinity), y);
}

// u = 1 + x is rounded; what it lost is added at the end, where its share of the logarithm is
// lost / u.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Log1p(D d, V x) {
  using Limits = std::numeric_limits<T>;
  const V infinity = hn::Set(d, Limits::infinity());
  const V one = hn::Set(d, T{1});
  const V minusOne = hn::Set(d, T{-1});
  const V u = hn::Add(x, one);
  const V lost =
      hn::IfThenElse(hn::Gt(x, one), hn::Sub(one, hn::Sub(u, x)), hn::Sub(x, hn::Sub(u, one)));
  V k;
  const V f = ReduceLog(d, u, k);
  V y = LogOfReduced(d, f, k, hn::Div(lost, u));
  y = hn::IfThenElse(hn::Lt(x, infinity), y, x);
  y = hn::IfThenElse(hn::Lt(hn::Abs(x), hn::Set(d, Constants<T>::kTiny)), x, y);
  y = hn::IfThenElse(hn::Lt(x, minusOne), hn::Set(d, Limits::quiet_NaN()), y);
  return hn::IfThenElse(hn::Eq(x, minusOne), hn::Neg(infinity), y);
}

// With q = e^(-2|x|) - 1: tanh |x| = -q / (q + 2), relative accuracy kept near 0.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Tanh(D d, V x) {
  using C = Constants<T>;
  const V a = hn::Mul(hn::Abs(x), hn::Set(d, T{-2}));
  V k;
  const V r = ReduceLn2(d, Clamp(d, a, 2 * C::kExpm1Low, T{0}), k);
  const V p = Expm1Reduced(d, r);
  const V s = PowerOfTwo(d, k);
  const V q = hn::MulAdd(s, p, hn::Sub(s, hn::Set(d, T{1})));
  const V y = hn::Div(q, hn::Add(q, hn::Set(d, T{2})));
  return hn::CopySign(y, x);
}

template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, T{1});
  const V e = Exp(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(e, one));
}

// max(x, 0) + log(1 + e) with e = e^-|x| in (0, 1], for which the logarithm needs no reduction.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Softplus(D d, V x) {
  const V e = Exp(d, hn::Neg(hn::Abs(x)));
  const V s = hn::Div(e, hn::Add(e, hn::Set(d, T{2})));
  const V z = hn::Mul(s, s);
  const V tail = hn::MulAdd(hn::Mul(s, z), Polynomial(d, z, Constants<T>::kLogWide), hn::Add(s, s));
  // Not Max: NaN has to reach the sum through e alone. Below the least normal number s + s would
  // have lost a bit.
  const V positive = hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), x);
  const V tiny = hn::Set(d, Constants<T>::kTiny);
  return hn::Add(positive, hn::IfThenElse(hn::Lt(e, tiny), e, tail));
}

template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V Erf(D d, V x) {
  using C = Constants<T>;
  const V one = hn::Set(d, T{1});
  const V a = hn::Abs(x);
  const V z = hn::Mul(x, x);
  const V small = hn::MulAdd(x, Polynomial(d, z, C::kErf), x);
  const V t = hn::Sub(Clamp(d, a, T{0}, C::kErfcHigh), hn::Set(d, C::kErfcShift));
  const V large = hn::Sub(one, Exp(d, hn::Neg(Polynomial(d, t, C::kErfc))));
  return hn::IfThenElse(hn::Lt(a, one), small, hn::CopySign(large, x));
}

// Calls f on the numbers of the lanes in `where` and leaves the others of `y` as they are.
template <class D, class V, class M, class F, typename T = hn::TFromD<D>>
HWY_NOINLINE V PerLane(D d, M where, V y, V x, F f) {
  HWY_ALIGN T from[hn::MaxLanes(d)];
  HWY_ALIGN T to[hn::MaxLanes(d)];
  HWY_ALIGN T chosen[hn::MaxLanes(d)];
  hn::Store(x, d, from);
  hn::Store(y, d, to);
  hn::Store(hn::IfThenElseZero(where, hn::Set(d, T{1})), d, chosen);
  for (size_t i = 0; i < hn::Lanes(d); ++i) {
    if (chosen[i] != 0) to[i] = f(from[i]);
  }
  return hn::Load(d, to);
}

// pi / 2 in parts: the product of the first two with up to 2^20 is exact.
constexpr double kHalfPi1 = 0x1.921fb544p+0;
constexpr double kHalfPi2 = 0x1.0b4611a6p-34;
constexpr double kHalfPi3 = 0x1.3198a2e037073p-69;
constexpr double kHalfPi2And3 = 0x1.0b4611a626331p-34;  // their sum
constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
// Beyond, <cmath> takes over.
constexpr double kMaxAngle = 1.0e6;

// x = k pi/2 + r, k integral; |x| <= kMaxAngle.
template <class D, class V>
HWY_INLINE V ReduceHalfPi(D d, V x, V& k) {
  const V magic = hn::Set(d, Constants<double>::kRound);
  k = hn::Sub(hn::MulAdd(x, hn::Set(d, kTwoOverPi), magic), magic);
  const V high = hn::NegMulAdd(k, hn::Set(d, kHalfPi1), x);
  const V second = hn::Mul(k, hn::Set(d, kHalfPi2));
  const V r = hn::Sub(high, second);
  const V lost = hn::Sub(hn::Sub(high, r), second);
  return hn::Add(r, hn::NegMulAdd(k, hn::Set(d, kHalfPi3), lost));
}

// sin(r) or cos(r) with the sign of quadrant n.
template <class D, class V, class VI>
HWY_INLINE V SinCosOfReduced(D d, V r, VI n) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  const hn::RebindToSigned<D> di;
  const V z = hn::Mul(r, r);
  const V sine = hn::MulAdd(hn::Mul(r, z), Polynomial(d, z, C::kSin), r);
  const V inner = hn::MulAdd(z, Polynomial(d, z, C::kCos), hn::Set(d, T{-0.5}));
  const V cosine = hn::MulAdd(z, inner, hn::Set(d, T{1}));
  const auto one = hn::Set(di, 1);
  const auto odd = hn::RebindMask(d, hn::Eq(hn::And(n, one), one));
  constexpr int kSign = static_cast<int>(sizeof(T)) * 8 - 2;
  const auto sign = hn::ShiftLeft<kSign>(hn::And(n, hn::Set(di, 2)));
  return hn::Xor(hn::IfThenElse(odd, cosine, sine), hn::BitCast(d, sign));
}

// y = f(a, ...) in float64: f takes the tag and float64 vectors of half the lanes (of one number,
// where vectors have one lane), y is rounded to float.
#if HWY_TARGET == HWY_SCALAR
template <class D, class F, class... Vs>
HWY_INLINE hn::Vec<D> InFloat64(D d, F f, Vs... vs) {
  const hn::Rebind<double, D> dd;
  return ToFloat(d, f(dd, hn::PromoteTo(dd, vs)...));
}
#else
template <class D, class F, class... Vs>
HWY_INLINE hn::Vec<D> InFloat64(D d, F f, Vs... vs) {
  const hn::Half<D> dh;
  const hn::Rebind<double, decltype(dh)> dd;
  const auto low = f(dd, hn::PromoteTo(dd, hn::LowerHalf(dh, vs))...);
  const auto high = f(dd, hn::PromoteTo(dd, hn::UpperHalf(dh, vs))...);
  return hn::Combine(d, ToFloat(dh, high), ToFloat(dh, low));
}
#endif

// The reduction in float64 needs no more than two steps and is exact enough at every zero.
template <class D, class V, IfSize<D, 4>* = nullptr>
HWY_INLINE V SinCosNear(D d, V x, int quadrant) {
  const hn::RebindToSigned<D> di;
  // k is below 2^20 and float rounding at the middle of two k does no harm, as long as r is of the
  // same k: so k comes from float and r = x - k pi/2 is taken in float64.
  const V magic = hn::Set(d, Constants<float>::kRound);
  const V shifted = hn::MulAdd(x, hn::Set(d, static_cast<float>(kTwoOverPi)), magic);
  const V k = hn::Sub(shifted, magic);
  const V r = InFloat64(
      d,
      [](auto dd, auto wide, auto count) HWY_ATTR {
        const auto first = hn::NegMulAdd(count, hn::Set(dd, kHalfPi1), wide);
        return hn::NegMulAdd(count, hn::Set(dd, kHalfPi2And3), first);
      },
      x, k);
  return SinCosOfReduced(d, r, hn::Add(hn::BitCast(di, shifted), hn::Set(di, quadrant)));
}

template <class D, class V, IfSize<D, 8>* = nullptr>
HWY_INLINE V SinCosNear(D d, V x, int quadrant) {
  const hn::RebindToSigned<D> di;
  V k;
  const V r = ReduceHalfPi(d, x, k);
  const auto bits = hn::BitCast(di, hn::Add(k, hn::Set(d, Constants<double>::kRound)));
  return SinCosOfReduced(d, r, hn::Add(bits, hn::Set(di, quadrant)));
}

template <int kQuadrant, class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V SinCos(D d, V x) {
  const auto near = hn::Le(hn::Abs(x), hn::Set(d, static_cast<T>(kMaxAngle)));
  const V y = SinCosNear(d, hn::IfThenElseZero(near, x), kQuadrant);
  if (HWY_LIKELY(hn::AllTrue(d, near))) return y;
  return PerLane(d, hn::Not(near), y, x,
                 [](T number) { return kQuadrant == 0 ? std::sin(number) : std::cos(number); });
}

template <class D, class V>
HWY_INLINE V Sin(D d, V x) {
  return SinCos<0>(d, x);
}

template <class D, class V>
HWY_INLINE V Cos(D d, V x) {
  return SinCos<1>(d, x);
}

// e^(y log x) in float64 where x is positive and both are finite; <cmath> for the other lanes.
template <class D, class V, IfSize<D, 4>* = nullptr>
HWY_INLINE V Pow(D d, V x, V y) {
  const V infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  const auto plain =
      hn::And(hn::And(hn::Gt(x, hn::Zero(d)), hn::Lt(x, infinity)), hn::Lt(hn::Abs(y), infinity));
  const V a = hn::IfThenElse(plain, x, hn::Set(d, 1.0f));
  const V b = hn::IfThenElseZero(plain, y);
  const V power = InFloat64(
      d,
      [](auto dd, auto wide, auto exponent)
          HWY_ATTR { return Exp(dd, hn::Mul(exponent, Log(dd, wide))); },
      a, b);
  if (HWY_LIKELY(hn::AllTrue(d, plain))) return power;
  HWY_ALIGN float base[hn::MaxLanes(d)];
  HWY_ALIGN float exponent[hn::MaxLanes(d)];
  HWY_ALIGN float result[hn::MaxLanes(d)];
  hn::Store(x, d, base);
  hn::Store(y, d, exponent);
  hn::Store(power, d, result);
  for (size_t i = 0; i < hn::Lanes(d); ++i) {
    const bool special = !(base[i] > 0) || !std::isfinite(base[i]) || !std::isfinite(exponent[i]);
    if (special) result[i] = std::pow(base[i], exponent[i]);
  }
  return hn::Load(d, result);
}

template <class D, class V, IfSize<D, 8>* = nullptr>
HWY_NOINLINE V Pow(D d, V x, V y) {
  HWY_ALIGN double base[hn::MaxLanes(d)];
  HWY_ALIGN double exponent[hn::MaxLanes(d)];
  hn::Store(x, d, base);
  hn::Store(y, d, exponent);
  for (size_t i = 0; i < hn::Lanes(d); ++i) base[i] = std::pow(base[i], exponent[i]);
  return hn::Load(d, base);
}

// Rounds to a narrower binary format, half to even: kBits mantissa bits behind the point, normal
// from 2^kMinExponent to below 2^(kMaxExponent + 1), denormals beneath, infinity above.
template <int kBits, int kMinExponent, int kMaxExponent, class D, class V>
HWY_INLINE V RoundToFormat(D d, V x) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  using Bits = typename C::Bits;
  const hn::RebindToUnsigned<D> du;
  constexpr int kDrop = C::kMantissa - kBits;
  const V a = hn::Abs(x);
  const auto bits = hn::BitCast(du, a);
  const auto even = hn::And(hn::ShiftRight<kDrop>(bits), hn::Set(du, Bits{1}));
  const auto half = hn::Set(du, (Bits{1} << (kDrop - 1)) - 1);
  const auto rounded = hn::And(hn::Add(bits, hn::Add(even, half)),
                               hn::Set(du, static_cast<Bits>(~((Bits{1} << kDrop) - 1))));
  V y = hn::BitCast(d, rounded);
  // The unit of denormals is 2^(kMinExponent - kBits): that of the last place of `unit`.
  const V unit = hn::Set(d, std::ldexp(T{1.5}, kMinExponent - kBits + C::kMantissa));
  const V least = hn::Set(d, std::ldexp(T{1}, kMinExponent));
  y = hn::IfThenElse(hn::Lt(a, least), hn::Sub(hn::Add(a, unit), unit), y);
  if (kMaxExponent < static_cast<int>(C::kBias)) {
    const V most = hn::Set(d, std::ldexp(T{2}, kMaxExponent));
    y = hn::IfThenElse(hn::Ge(y, most), hn::Set(d, std::numeric_limits<T>::infinity()), y);
  }
  // Of a NaN's payload only the narrower format's bits would be left, which may be none.
  y = hn::IfThenElse(hn::IsNaN(x), hn::Set(d, std::numeric_limits<T>::quiet_NaN()), y);
  return hn::CopySign(y, x);
}

}  // namespace math
}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
