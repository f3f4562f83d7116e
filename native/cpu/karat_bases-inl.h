// The bases of karat_features.h whose features have derivatives of their own, for inclusion once
// per target: panel j of `values`, `slopes` and `curvatures` holds f_j, f_j' and f_j'' of `count`
// scores. The last two are written up to derivative `order`.

#if defined(LOSSCAPE_CPU_KARAT_BASES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_KARAT_BASES_INL
#undef LOSSCAPE_CPU_KARAT_BASES_INL
#else
#define LOSSCAPE_CPU_KARAT_BASES_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "native/cpu/karat_features.h"
#include "native/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
struct KaratPanels {
  int order;
  int64_t count;  // a multiple of the lanes
  T* values;
  T* slopes;
  T* curvatures;
};

// T_1(t) .. T_degree(t), t = tanh x, with t' = 1 - t^2 and t'' = -2 t t'.
template <class D, typename T = hn::TFromD<D>>
void ChebyshevPanels(D d, int64_t degree, const T* HWY_RESTRICT x, const KaratPanels<T>& to) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V one = hn::Set(d, T{1}), two = hn::Set(d, T{2});
  for (int64_t i = 0; i < to.count; i += lanes) {
    const V t = math::Tanh(d, hn::LoadU(d, x + i));
    const V rise = hn::NegMulAdd(t, t, one);
    const V twice = hn::Add(t, t);
    // T, dT/dt and d2T/dt2 of the last two degrees.
    V a = one, da = hn::Zero(d), dda = da;
    V b = t, db = one, ddb = da;
    for (int64_t n = 0; n < degree; ++n) {
      const int64_t at = n * to.count + i;
      hn::StoreU(b, d, to.values + at);
      if (to.order >= 1) {
        hn::StoreU(hn::Mul(db, rise), d, to.slopes + at);
        const V nextSlope = hn::MulAdd(two, b, hn::MulSub(twice, db, da));
        if (to.order >= 2) {
          const V bend = hn::Mul(rise, hn::MulSub(ddb, rise, hn::Mul(twice, db)));
          hn::StoreU(bend, d, to.curvatures + at);
          const V next = hn::MulAdd(hn::Set(d, T{4}), db, hn::MulSub(twice, ddb, dda));
          dda = ddb;
          ddb = next;
        }
        da = db;
        db = nextSlope;
      }
      const V next = hn::MulSub(twice, b, a);
      a = b;
      b = next;
    }
  }
}

// e^(-u^2), u = (x - c) / h at centers c = low + n h.
template <class D, typename T = hn::TFromD<D>>
void GaussianPanels(D d, int64_t centers, double low, double high, const T* HWY_RESTRICT x,
                    const KaratPanels<T>& to) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const double h = (high - low) / static_cast<double>(centers - 1);
  const V inverse = hn::Set(d, static_cast<T>(1 / h));
  const V slopeScale = hn::Set(d, static_cast<T>(-2 / h));
  const V bendScale = hn::Set(d, static_cast<T>(2 / (h * h)));
  for (int64_t n = 0; n < centers; ++n) {
    const V center = hn::Set(d, static_cast<T>(low + static_cast<double>(n) * h));
    for (int64_t i = 0; i < to.count; i += lanes) {
      const int64_t at = n * to.count + i;
      // Far away everything is 0, not infinity times 0.
      const V u =
          math::Clamp(d, hn::Mul(hn::Sub(hn::LoadU(d, x + i), center), inverse), T{-30}, T{30});
      const V square = hn::Mul(u, u);
      const V e = math::Exp(d, hn::Neg(square));
      hn::StoreU(e, d, to.values + at);
      if (to.order >= 1) hn::StoreU(hn::Mul(hn::Mul(slopeScale, u), e), d, to.slopes + at);
      if (to.order >= 2) {
        const V bend = hn::Sub(hn::Add(square, square), hn::Set(d, T{1}));
        hn::StoreU(hn::Mul(hn::Mul(bendScale, bend), e), d, to.curvatures + at);
      }
    }
  }
}

// w[m] = B(u + m), m <= degree, of the B-spline of one degree more on the knots 0, 1, ..
template <class V, class D, typename T = hn::TFromD<D>>
HWY_INLINE void RaiseDegree(D d, int64_t degree, V u, V* w) {
  const V scale = hn::Set(d, T{1} / static_cast<T>(degree));
  for (int64_t m = degree; m >= 0; --m) {
    V sum = hn::Zero(d);
    if (m < degree) sum = hn::Mul(hn::Add(u, hn::Set(d, static_cast<T>(m))), w[m]);
    if (m > 0) {
      const V fall = hn::Sub(hn::Set(d, static_cast<T>(degree + 1 - m)), u);
      sum = hn::MulAdd(fall, w[m - 1], sum);
    }
    w[m] = hn::Mul(sum, scale);
  }
}

// At score x = -range + (n + u) h, 0 <= u < 1, those of features n .. n + order that exist are not
// 0: the cardinal spline at u + order .. u. Its derivatives are differences of those of lower
// degree.
template <class D, typename T = hn::TFromD<D>>
void SplinePanels(D d, int64_t order, int64_t intervals, double range, const T* HWY_RESTRICT x,
                  const KaratPanels<T>& to) {
  using V = hn::Vec<D>;
  constexpr int64_t kPieces = kMaxSplineOrder + 1;
  constexpr size_t kLanes = hn::MaxLanes(D());
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t features = intervals + order;
  const T perStep = static_cast<T>(static_cast<double>(intervals) / (2 * range));
  const V zero = hn::Zero(d);
  const V lowest = hn::Set(d, static_cast<T>(-order)),
          highest = hn::Set(d, static_cast<T>(features));
  T* const outputs[3] = {to.values, to.slopes, to.curvatures};
  HWY_ALIGN T pieces[3][kPieces][kLanes];
  HWY_ALIGN T step[kLanes];
  HWY_ALIGN T number[kLanes];
  for (int64_t i = 0; i < to.count; i += lanes) {
    const V score = hn::LoadU(d, x + i);
    const V y = hn::MulAdd(score, hn::Set(d, perStep), hn::Set(d, static_cast<T>(range) * perStep));
    const auto inside = hn::And(hn::Ge(y, lowest), hn::Lt(y, highest));
    const V within = hn::IfThenElseZero(inside, y);
    const V n = hn::Floor(within);
    const V u = hn::Sub(within, n);
    // Outside lanes go to an interval without features.
    hn::Store(hn::IfThenElse(inside, n, highest), d, step);
    hn::Store(score, d, number);
    V w[kPieces], slope[kPieces], bend[kPieces];
    w[0] = hn::Set(d, T{1});
    auto difference = [&](const V* from, int64_t degree, V* result) HWY_ATTR {
      for (int64_t m = degree + 1; m >= 0; --m) {
        const V high = m <= degree ? from[m] : zero, low = m > 0 ? from[m - 1] : zero;
        result[m] = hn::Mul(hn::Sub(high, low), hn::Set(d, perStep));
      }
    };
    for (int64_t m = 0; m <= order; ++m) bend[m] = zero;
    for (int64_t degree = 1; degree <= order; ++degree) {
      if (to.order >= 2 && degree == order - 1) {
        difference(w, degree - 1, bend);
        difference(bend, degree, bend);
      }
      if (to.order >= 1 && degree == order) difference(w, degree - 1, slope);
      RaiseDegree(d, degree, u, w);
    }
    for (int64_t m = 0; m <= order; ++m) {
      hn::Store(w[m], d, pieces[0][m]);
      if (to.order >= 1) hn::Store(slope[m], d, pieces[1][m]);
      if (to.order >= 2) hn::Store(bend[m], d, pieces[2][m]);
    }
    for (int derivative = 0; derivative <= to.order; ++derivative) {
      T* panel = outputs[derivative] + i;
      for (int64_t j = 0; j < features; ++j) hn::StoreU(zero, d, panel + j * to.count);
      for (int64_t l = 0; l < lanes; ++l) {
        if (std::isnan(number[l])) {
          for (int64_t j = 0; j < features; ++j) panel[j * to.count + l] = number[l];
          continue;
        }
        const int64_t first = static_cast<int64_t>(step[l]);
        if (first == features) continue;
        const int64_t begin = std::max<int64_t>(0, first);
        const int64_t end = std::min(features, first + order + 1);
        for (int64_t j = begin; j < end; ++j) {
          panel[j * to.count + l] = pieces[derivative][first + order - j][l];
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
