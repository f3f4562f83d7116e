// The functions of an edge of karat_edges: phi(x; theta) with its derivatives along x and theta,
// each written once on the numbers of dual-inl.h.
//
//   Edge<Num> edge(theta, key);      theta: Num[kParameters], constant over rows
//   edge.Value(x)                    phi
//   edge.Slope(x, dx, dtheta)        d phi / d x and d phi / d theta[kParameters]

#if defined(LOSSCAPE_CPU_EDGE_FUNCTIONS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_EDGE_FUNCTIONS_INL
#undef LOSSCAPE_CPU_EDGE_FUNCTIONS_INL
#else
#define LOSSCAPE_CPU_EDGE_FUNCTIONS_INL
#endif

#include "native/cpu/dual-inl.h"
#include "native/cpu/karat_edges.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

constexpr double kPi = 3.14159265358979323846;

// "Safe" Pade unit: (a_0 + .. + a_5 x^5) / (1 + |b_1 x + .. + b_4 x^4|); theta = a_0 .. a_5,
// b_1 .. b_4. The derivatives of |D| at D = 0 are 0.
template <class Num>
class RationalEdge {
 public:
  static constexpr int kParameters = 10;

  RationalEdge(const Num* theta, const EdgeKey&) {
    for (int i = 0; i < 6; ++i) a_[i] = theta[i];
    b_[0] = Num::Of(0);
    for (int j = 1; j < 5; ++j) b_[j] = theta[5 + j];
  }

  HWY_INLINE Num Value(Num x) const {
    const Num denominator = Horner(x, b_);
    return Horner(x, a_) * Inverse(Times(denominator, SignOf(denominator)) + 1.0);
  }

  HWY_INLINE void Slope(Num x, Num& dx, Num* dtheta) const {
    const Num denominator = Horner(x, b_);
    const auto sign = SignOf(denominator);
    const Num q = Inverse(Times(denominator, sign) + 1.0);
    const Num pull = Times(Horner(x, a_) * q * q, sign);
    dx = HornerSlope(x, a_) * q - pull * HornerSlope(x, b_);
    Num up = q, down = -pull;
    for (int i = 0; i < 6; ++i) {
      dtheta[i] = up;
      up = up * x;
    }
    for (int j = 1; j < 5; ++j) {
      down = down * x;
      dtheta[5 + j] = down;
    }
  }

 private:
  Num a_[6], b_[5];
};

// w psi((x - tau) / s); theta = w, tau, s. An infinite u = (x - tau) / s gives 0 with derivatives
// 0; a mother moves it to where its products with 0 are 0 as well.
template <class Num, template <class> class Mother>
class WaveletEdge {
 public:
  static constexpr int kParameters = 3;

  WaveletEdge(const Num* theta, const EdgeKey& key)
      : mother_(key),
        w_(theta[0] * key.window),
        tau_(theta[1]),
        inverse_(Inverse(theta[2])),
        window_(key.window) {}

  HWY_INLINE Num Value(Num x) const {
    Num u = (x - tau_) * inverse_;
    Num psi, slope;
    mother_.At(u, psi, slope);
    return w_ * psi;
  }

  HWY_INLINE void Slope(Num x, Num& dx, Num* dtheta) const {
    Num u = (x - tau_) * inverse_;
    Num psi, slope;
    mother_.At(u, psi, slope);
    dx = w_ * slope * inverse_;
    dtheta[0] = psi * window_;
    dtheta[1] = -dx;
    dtheta[2] = -(u * dx);
  }

 private:
  Mother<Num> mother_;
  Num w_, tau_, inverse_;
  double window_;
};

// e^(-u^2 / 2), with u moved to where u^2 and u^3 stay finite and the result is 0 still.
template <class Num>
HWY_INLINE Num Gauss(Num& u) {
  const auto v = Bottom(u);
  u = Select(hn::Gt(hn::Abs(v), Bottom(Num::Of(40))), Num::Of(40), u);
  return Exp(u * u * -0.5);
}

// psi and its derivative at u.
template <class Num>
struct MexicanHat {
  explicit MexicanHat(const EdgeKey&) {}
  HWY_INLINE void At(Num& u, Num& psi, Num& slope) const {
    constexpr double kNorm = 0.86732507058407751832;  // 2 / (sqrt 3 pi^(1/4))
    const Num e = Gauss(u) * kNorm;
    const Num square = u * u;
    psi = (square + -1.0) * e;
    slope = (square * -1.0 + 3.0) * u * e;
  }
};

template <class Num>
struct Morlet {
  explicit Morlet(const EdgeKey& key) : omega(key.omega) {}
  HWY_INLINE void At(Num& u, Num& psi, Num& slope) const {
    const Num e = Gauss(u);
    Num sine, cosine;
    SinCos(u * omega, sine, cosine);
    psi = cosine * e;
    slope = -((sine * omega + u * cosine) * e);
  }
  double omega;
};

template <class Num>
struct Dog {
  explicit Dog(const EdgeKey&) {}
  HWY_INLINE void At(Num& u, Num& psi, Num& slope) const {
    const Num e = Gauss(u);
    psi = -(u * e);
    slope = (u * u + -1.0) * e;
  }
};

// sin(pi |u|) m(|u|): m = cos(pi/2 nu(2 |u| - 1)) falls from 1 at 1/2 to 0 at 1,
// nu(t) = t^4 (35 - 84 t + 70 t^2 - 20 t^3), nu'(t) = 140 t^3 (1 - t)^3.
template <class Num>
struct Meyer {
  explicit Meyer(const EdgeKey&) {}
  HWY_INLINE void At(Num& u, Num& psi, Num& slope) const {
    const auto sign = SignOf(u);
    const auto outside = hn::Ge(hn::Abs(Bottom(u)), Bottom(Num::Of(1)));
    const Num nothing = Num::Of(0);
    u = Select(outside, nothing, u);
    const Num near = Times(u, sign);
    const auto flat = hn::Le(Bottom(near), Bottom(Num::Of(0.5)));
    const Num t = Select(flat, nothing, near * 2.0 + -1.0);
    const Num cube = t * t * t, rest = t * -1.0 + 1.0;
    const Num nu = cube * t * (((t * -20.0 + 70.0) * t + -84.0) * t + 35.0);
    const Num rise = cube * (rest * rest * rest) * (140 * kPi);
    Num sine, cosine, fall, window;
    SinCos(near * kPi, sine, cosine);
    SinCos(nu * (kPi / 2), fall, window);
    psi = Select(outside, nothing, sine * window);
    slope = Times(Select(outside, nothing, cosine * window * kPi - sine * rise * fall), sign);
  }
};

// sin(u) / u; the Hamming window of the Shannon wavelet runs along the keys and is in `w`.
template <class Num>
struct Shannon {
  explicit Shannon(const EdgeKey&) {}
  HWY_INLINE void At(Num& u, Num& psi, Num& slope) const {
    // (-1)^k / (2k + 1)!: to 1e-17 for |u| < 1, where the quotients of the second derivative would
    // lose digits.
    constexpr int kTerms = 10;
    const auto infinite = hn::IsInf(Bottom(u));
    const Num nothing = Num::Of(0);
    u = Select(infinite, nothing, u);
    const auto small = hn::Lt(hn::Abs(Bottom(u)), Bottom(Num::Of(1)));
    const Num square = u * u;
    Num series[kTerms];
    double factor = 1;
    for (int k = 0; k < kTerms; ++k) {
      series[k] = Num::Of(factor);
      factor /= -(2.0 * k + 2) * (2.0 * k + 3);
    }
    Num sine, cosine;
    SinCos(u, sine, cosine);
    const Num inverse = Inverse(Select(small, Num::Of(1), u));
    const Num far = sine * inverse;
    psi = Select(infinite, nothing, Select(small, Horner(square, series), far));
    slope = Select(small, HornerSlope(square, series) * u * 2.0, (cosine - far) * inverse);
  }
};

template <class Num>
using MexicanHatEdge = WaveletEdge<Num, MexicanHat>;
template <class Num>
using MorletEdge = WaveletEdge<Num, Morlet>;
template <class Num>
using DogEdge = WaveletEdge<Num, Dog>;
template <class Num>
using MeyerEdge = WaveletEdge<Num, Meyer>;
template <class Num>
using ShannonEdge = WaveletEdge<Num, Shannon>;

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
