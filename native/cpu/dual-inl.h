// Vectors that carry their derivatives: a formula written once on `Num` gives values with
// Real, directional derivatives with Dual<Real>, second ones with Dual<Dual<Real>>.
//
// A number of 2^n parts lies in memory as parts, part i being the derivative along those
// directions that are the bits of i.

#if defined(LOSSCAPE_CPU_DUAL_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_DUAL_INL
#undef LOSSCAPE_CPU_DUAL_INL
#else
#define LOSSCAPE_CPU_DUAL_INL
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "native/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
struct Real {
  using Tag = D;
  using T = hn::TFromD<D>;
  static constexpr int kParts = 1;

  hn::Vec<D> v;

  static HWY_INLINE Real Of(double number) { return {hn::Set(D(), static_cast<T>(number))}; }
  // The vector at `from`; parts are `stride` elements apart.
  static HWY_INLINE Real Load(const T* from, int64_t) { return {hn::LoadU(D(), from)}; }
  // Element `at` of every part, in all lanes; a part without storage is zero.
  static HWY_INLINE Real Broadcast(const T* const* parts, int64_t at) {
    return {parts[0] ? hn::Set(D(), parts[0][at]) : hn::Zero(D())};
  }
  HWY_INLINE void Store(T* to, int64_t) const { hn::StoreU(v, D(), to); }
};

template <class N>
struct Dual {
  using Tag = typename N::Tag;
  using T = typename N::T;
  static constexpr int kParts = 2 * N::kParts;

  N value;
  N tangent;

  static HWY_INLINE Dual Of(double number) { return {N::Of(number), N::Of(0)}; }
  static HWY_INLINE Dual Load(const T* from, int64_t stride) {
    return {N::Load(from, stride), N::Load(from + N::kParts * stride, stride)};
  }
  static HWY_INLINE Dual Broadcast(const T* const* parts, int64_t at) {
    return {N::Broadcast(parts, at), N::Broadcast(parts + N::kParts, at)};
  }
  HWY_INLINE void Store(T* to, int64_t stride) const {
    value.Store(to, stride);
    tangent.Store(to + N::kParts * stride, stride);
  }
};

// The plain value, and the highest derivative.
template <class D>
HWY_INLINE hn::Vec<D> Bottom(Real<D> a) {
  return a.v;
}
template <class N>
HWY_INLINE hn::Vec<typename N::Tag> Bottom(Dual<N> a) {
  return Bottom(a.value);
}
template <class D>
HWY_INLINE hn::Vec<D> Top(Real<D> a) {
  return a.v;
}
template <class N>
HWY_INLINE hn::Vec<typename N::Tag> Top(Dual<N> a) {
  return Top(a.tangent);
}

template <class D>
HWY_INLINE Real<D> operator+(Real<D> a, Real<D> b) {
  return {hn::Add(a.v, b.v)};
}
template <class N>
HWY_INLINE Dual<N> operator+(Dual<N> a, Dual<N> b) {
  return {a.value + b.value, a.tangent + b.tangent};
}

template <class D>
HWY_INLINE Real<D> operator-(Real<D> a, Real<D> b) {
  return {hn::Sub(a.v, b.v)};
}
template <class N>
HWY_INLINE Dual<N> operator-(Dual<N> a, Dual<N> b) {
  return {a.value - b.value, a.tangent - b.tangent};
}

template <class D>
HWY_INLINE Real<D> operator-(Real<D> a) {
  return {hn::Neg(a.v)};
}
template <class N>
HWY_INLINE Dual<N> operator-(Dual<N> a) {
  return {-a.value, -a.tangent};
}

template <class D>
HWY_INLINE Real<D> operator*(Real<D> a, Real<D> b) {
  return {hn::Mul(a.v, b.v)};
}
// a b + c
template <class D>
HWY_INLINE Real<D> MulAdd(Real<D> a, Real<D> b, Real<D> c) {
  return {hn::MulAdd(a.v, b.v, c.v)};
}
template <class N>
HWY_INLINE Dual<N> operator*(Dual<N> a, Dual<N> b) {
  return {a.value * b.value, MulAdd(a.tangent, b.value, a.value * b.tangent)};
}
template <class N>
HWY_INLINE Dual<N> MulAdd(Dual<N> a, Dual<N> b, Dual<N> c) {
  return {MulAdd(a.value, b.value, c.value),
          MulAdd(a.tangent, b.value, MulAdd(a.value, b.tangent, c.tangent))};
}

// By a constant; a number is multiplied in all parts, a vector too (signs, masks).
template <class D>
HWY_INLINE Real<D> operator*(Real<D> a, double b) {
  return {hn::Mul(a.v, hn::Set(D(), static_cast<hn::TFromD<D>>(b)))};
}
template <class N>
HWY_INLINE Dual<N> operator*(Dual<N> a, double b) {
  return {a.value * b, a.tangent * b};
}
template <class D>
HWY_INLINE Real<D> Times(Real<D> a, hn::Vec<D> b) {
  return {hn::Mul(a.v, b)};
}
template <class N>
HWY_INLINE Dual<N> Times(Dual<N> a, hn::Vec<typename N::Tag> b) {
  return {Times(a.value, b), Times(a.tangent, b)};
}
template <class D>
HWY_INLINE Real<D> operator+(Real<D> a, double b) {
  return {hn::Add(a.v, hn::Set(D(), static_cast<hn::TFromD<D>>(b)))};
}
template <class N>
HWY_INLINE Dual<N> operator+(Dual<N> a, double b) {
  return {a.value + b, a.tangent};
}

template <class D>
HWY_INLINE Real<D> Inverse(Real<D> a) {
  return {hn::Div(hn::Set(D(), hn::TFromD<D>{1}), a.v)};
}
template <class N>
HWY_INLINE Dual<N> Inverse(Dual<N> a) {
  const N inverse = Inverse(a.value);
  return {inverse, -(inverse * inverse * a.tangent)};
}

template <class D>
HWY_INLINE Real<D> Exp(Real<D> a) {
  return {math::Exp(D(), a.v)};
}
template <class N>
HWY_INLINE Dual<N> Exp(Dual<N> a) {
  const N e = Exp(a.value);
  return {e, e * a.tangent};
}

template <class D>
HWY_INLINE void SinCos(Real<D> a, Real<D>& sine, Real<D>& cosine) {
  sine = {math::Sin(D(), a.v)};
  cosine = {math::Cos(D(), a.v)};
}
template <class N>
HWY_INLINE void SinCos(Dual<N> a, Dual<N>& sine, Dual<N>& cosine) {
  SinCos(a.value, sine.value, cosine.value);
  sine.tangent = cosine.value * a.tangent;
  cosine.tangent = -(sine.value * a.tangent);
}

template <class D, class M>
HWY_INLINE Real<D> Select(M where, Real<D> a, Real<D> b) {
  return {hn::IfThenElse(where, a.v, b.v)};
}
template <class N, class M>
HWY_INLINE Dual<N> Select(M where, Dual<N> a, Dual<N> b) {
  return {Select(where, a.value, b.value), Select(where, a.tangent, b.tangent)};
}

// -1, 0 or 1 by the sign of the plain value: what derivatives of |a| take at 0.
template <class Num>
HWY_INLINE hn::Vec<typename Num::Tag> SignOf(Num a) {
  const typename Num::Tag d;
  const auto v = Bottom(a);
  return hn::IfThenElseZero(hn::Ne(v, hn::Zero(d)), hn::CopySign(Bottom(Num::Of(1)), v));
}

// c[0] + c[1] x + ..
template <class Num, int kCount>
HWY_INLINE Num Horner(Num x, const Num (&c)[kCount]) {
  Num sum = c[kCount - 1];
  for (int i = kCount - 2; i >= 0; --i) sum = MulAdd(sum, x, c[i]);
  return sum;
}

// The derivative of Horner's polynomial.
template <class Num, int kCount>
HWY_INLINE Num HornerSlope(Num x, const Num (&c)[kCount]) {
  Num sum = c[kCount - 1] * double{kCount - 1};
  for (int i = kCount - 2; i >= 1; --i) sum = MulAdd(sum, x, c[i] * static_cast<double>(i));
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
