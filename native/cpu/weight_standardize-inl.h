// The loops of weight_standardize.cc, compiled once per SIMD target. Every row is read from memory
// once; the further passes find it in the first- or second-level cache.

#if defined(LOSSCAPE_CPU_WEIGHT_STANDARDIZE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_WEIGHT_STANDARDIZE_INL
#undef LOSSCAPE_CPU_WEIGHT_STANDARDIZE_INL
#else
#define LOSSCAPE_CPU_WEIGHT_STANDARDIZE_INL
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "native/cpu/weight_standardize.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One vector of a row; `x - mean` of lanes behind the end is 0.
template <class D>
struct WholeVector {
  using T = hn::TFromD<D>;
  D d;
  HWY_INLINE hn::Vec<D> operator()(const T* x) const { return hn::LoadU(d, x); }
  HWY_INLINE hn::Vec<D> operator()(const T* x, hn::Vec<D> mean) const {
    return hn::Sub(hn::LoadU(d, x), mean);
  }
};
template <class D>
struct FirstLanes {
  using T = hn::TFromD<D>;
  D d;
  size_t count;
  HWY_INLINE hn::Vec<D> operator()(const T* x) const {
    HWY_ALIGN T line[HWY_MAX_BYTES / sizeof(T)] = {};
    std::copy_n(x, count, line);
    return hn::Load(d, line);
  }
  HWY_INLINE hn::Vec<D> operator()(const T* x, hn::Vec<D> mean) const {
    return hn::IfThenElseZero(hn::FirstN(d, count), hn::Sub((*this)(x), mean));
  }
};

// sums[k] of a row; add(load, i, sum) adds the vector at i to kSums sums. kChains of each hide the
// latency of additions, and blocks keep the error of f32 that of some tens of terms.
template <int kSums, int kChains, class D, class F>
HWY_INLINE void RowSums(D d, int64_t count, double* sums, F&& add) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kBlock = 32;
  const WholeVector<D> whole{d};
  V total[kSums];
  for (int k = 0; k < kSums; ++k) total[k] = hn::Zero(d);
  int64_t i = 0;
  while (i + kChains * lanes <= count) {
    V sum[kChains][kSums];
    for (int c = 0; c < kChains; ++c) {
      for (int k = 0; k < kSums; ++k) sum[c][k] = hn::Zero(d);
    }
    const int64_t stop = std::min(count, i + kBlock * kChains * lanes);
    for (; i + kChains * lanes <= stop; i += kChains * lanes) {
      for (int c = 0; c < kChains; ++c) add(whole, i + c * lanes, sum[c]);
    }
    for (int k = 0; k < kSums; ++k) {
      V all = sum[0][k];
      for (int c = 1; c < kChains; ++c) all = hn::Add(all, sum[c][k]);
      total[k] = hn::Add(total[k], all);
    }
  }
  for (; i + lanes <= count; i += lanes) add(whole, i, total);
  if (i < count) add(FirstLanes<D>{d, static_cast<size_t>(count - i)}, i, total);
  for (int k = 0; k < kSums; ++k)
    sums[k] = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, total[k])));
}

// out[i] = value(load, i). Streamed writes skip the read of a line that is about to be overwritten.
template <class D, class F, typename T = hn::TFromD<D>>
HWY_INLINE void WriteRow(D d, int64_t count, T* out, bool stream, F&& value) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const WholeVector<D> whole{d};
  int64_t i = 0;
  if (stream && reinterpret_cast<uintptr_t>(out) % (lanes * sizeof(T)) == 0) {
    for (; i + lanes <= count; i += lanes) hn::Stream(value(whole, i), d, out + i);
  } else {
    for (; i + lanes <= count; i += lanes) hn::StoreU(value(whole, i), d, out + i);
  }
  if (i < count) {
    const size_t rest = static_cast<size_t>(count - i);
    HWY_ALIGN T line[HWY_MAX_BYTES / sizeof(T)];
    hn::Store(value(FirstLanes<D>{d, rest}, i), d, line);
    std::copy_n(line, rest, out + i);
  }
}

// What the weights of a row say: U = (w - mean) - residual, r = 1 / sigma, d sigma / dU = kappa U.
struct RowScale {
  double mean, residual;
  double r, nu;    // nu = r kappa
  double nuSlope;  // the tangent of nu along B = sum U U' is nuSlope B
};

template <class D, typename T = hn::TFromD<D>>
HWY_INLINE RowScale ScaleOfRow(D d, const WeightBank<T>& bank, const T* w) {
  const double count = static_cast<double>(bank.columns);
  double sum[1] = {0}, moments[2];
  if (bank.center) {
    // About the first weight: equal weights then have exactly the mean that they are.
    const auto first = hn::Set(d, w[0]);
    RowSums<1, 4>(d, bank.columns, sum, [&](auto load, int64_t i, auto* s) HWY_ATTR {
      s[0] = hn::Add(s[0], load(w + i, first));
    });
  }
  // As the loops see it: rounded to T. What that misses is the residual.
  const T mean = bank.center ? static_cast<T>(static_cast<double>(w[0]) + sum[0] / count) : T{0};
  const auto center = hn::Set(d, mean);
  RowSums<2, 4>(d, bank.columns, moments, [&](auto load, int64_t i, auto* s) HWY_ATTR {
    const auto x = load(w + i, center);
    s[0] = hn::Add(s[0], x);
    s[1] = hn::MulAdd(x, x, s[1]);
  });
  RowScale scale = {static_cast<double>(mean), bank.center ? moments[0] / count : 0, 1, 0, 0};
  double squares = moments[1] - count * scale.residual * scale.residual;
  if (squares < 0) squares = 0;  // rounding; NaN stays
  const double divisor = count - bank.delta, q = squares / divisor;
  switch (bank.form) {
    case WeightForm::kIn:
      scale.r = 1 / std::sqrt(q + bank.epsilon);
      scale.nu = scale.r * scale.r / divisor;
      scale.nuSlope = -2 * scale.nu * scale.nu;
      break;
    case WeightForm::kOut: {
      const double root = std::sqrt(q);
      scale.r = 1 / (root + bank.epsilon);
      if (root == 0) break;  // the sub-gradient 0
      const double kappa = 1 / (divisor * root);
      scale.nu = scale.r * kappa;
      scale.nuSlope = -scale.nu * kappa * (scale.r + 1 / root);
      break;
    }
    case WeightForm::kMax:
      scale.r = 1 / std::sqrt(std::max(squares, bank.epsilon));
      if (!(squares > bank.epsilon)) break;
      scale.nu = scale.r * scale.r;
      scale.nuSlope = -2 * scale.nu * scale.nu;
      break;
    case WeightForm::kOne:
      break;
  }
  // A row of equal weights with epsilon 0: U is 0 and r infinite; 0 times r is meant to be 0.
  if (!std::isfinite(scale.r) && squares == 0) scale = {scale.mean, scale.residual, 0, 0, 0};
  return scale;
}

// out = factor r U
template <typename T>
void StandardizeRows(const WeightBank<T>& bank, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  for (int64_t row = begin; row < end; ++row) {
    const T* w = bank.w + row * bank.columns;
    const RowScale scale = ScaleOfRow(d, bank, w);
    const double r = bank.factor * scale.r;
    const auto mean = hn::Set(d, static_cast<T>(scale.mean));
    const auto slope = hn::Set(d, static_cast<T>(r));
    const auto shift = hn::Set(d, static_cast<T>(-r * scale.residual));
    WriteRow(d, bank.columns, bank.out + row * bank.columns, bank.stream,
             [&](auto load, int64_t i)
                 HWY_ATTR { return hn::MulAdd(load(w + i, mean), slope, shift); });
  }
  if (bank.stream) hwy::FlushStream();
}

// out = factor r (v - mean v - nu A U),  A = sum v U
template <typename T>
void StandardizeJvpRows(const WeightBank<T>& bank, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const double count = static_cast<double>(bank.columns);
  for (int64_t row = begin; row < end; ++row) {
    const T* w = bank.w + row * bank.columns;
    const RowScale scale = ScaleOfRow(d, bank, w);
    const auto mean = hn::Set(d, static_cast<T>(scale.mean));
    for (int64_t tangent = 0; tangent < bank.tangents; ++tangent) {
      const int64_t offset = (tangent * bank.rows + row) * bank.columns;
      const T* v = bank.v + offset;
      double sum[2];
      RowSums<2, 4>(d, bank.columns, sum, [&](auto load, int64_t i, auto* s) HWY_ATTR {
        const auto x = load(v + i);
        s[0] = hn::Add(s[0], x);
        s[1] = hn::MulAdd(x, load(w + i, mean), s[1]);
      });
      const double a = sum[1] - scale.residual * sum[0];
      const double r = bank.factor * scale.r, bend = -r * scale.nu * a;
      const auto center = hn::Set(d, static_cast<T>(bank.center ? sum[0] / count : 0));
      const auto straight = hn::Set(d, static_cast<T>(r));
      const auto radial = hn::Set(d, static_cast<T>(bend));
      const auto shift = hn::Set(d, static_cast<T>(-bend * scale.residual));
      WriteRow(d, bank.columns, bank.out + offset, bank.stream, [&](auto load, int64_t i) HWY_ATTR {
        const auto own = hn::MulAdd(load(w + i, mean), radial, shift);
        return hn::MulAdd(load(v + i, center), straight, own);
      });
    }
  }
  if (bank.stream) hwy::FlushStream();
}

// out = factor r (v - mean v - nu B (p - mean p) - nu A (u - mean u) + c U), with A = sum p U,
// B = sum u U, A' = sum (v U + p u'), c = nu^2 A B - nu' A - nu A'
template <typename T>
void StandardizeVjpJvpRows(const WeightBank<T>& bank, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const double count = static_cast<double>(bank.columns);
  for (int64_t row = begin; row < end; ++row) {
    const T* w = bank.w + row * bank.columns;
    const T* p = bank.p + row * bank.columns;
    const RowScale scale = ScaleOfRow(d, bank, w);
    const auto mean = hn::Set(d, static_cast<T>(scale.mean));
    double point[2];
    RowSums<2, 4>(d, bank.columns, point, [&](auto load, int64_t i, auto* s) HWY_ATTR {
      const auto x = load(p + i);
      s[0] = hn::Add(s[0], x);
      s[1] = hn::MulAdd(x, load(w + i, mean), s[1]);
    });
    const double a = point[1] - scale.residual * point[0];
    for (int64_t tangent = 0; tangent < bank.tangents; ++tangent) {
      const int64_t offset = (tangent * bank.rows + row) * bank.columns;
      const T* u = bank.u + offset;
      // Without v its terms are those of a zero tangent: u times 0.
      const T* v = bank.v ? bank.v + offset : u;
      const auto straight = hn::Set(d, static_cast<T>(bank.v ? 1 : 0));
      double sum[5];
      RowSums<5, 2>(d, bank.columns, sum, [&](auto load, int64_t i, auto* s) HWY_ATTR {
        const auto own = load(w + i, mean), x = load(u + i);
        s[0] = hn::Add(s[0], x);
        s[1] = hn::MulAdd(x, own, s[1]);
        s[2] = hn::MulAdd(x, load(p + i), s[2]);
        const auto y = hn::Mul(load(v + i), straight);
        s[3] = hn::Add(s[3], y);
        s[4] = hn::MulAdd(y, own, s[4]);
      });
      const double b = sum[1] - scale.residual * sum[0];
      const double meanU = bank.center ? sum[0] / count : 0;
      const double moved = sum[4] - scale.residual * sum[3] + sum[2] - meanU * point[0];
      const double r = bank.factor * scale.r, nu = scale.nu;
      const double bend = r * (nu * nu * a * b - scale.nuSlope * b * a - nu * moved);
      const auto byV = hn::Set(d, static_cast<T>(bank.v ? r : 0));
      const auto byP = hn::Set(d, static_cast<T>(-r * nu * b));
      const auto byU = hn::Set(d, static_cast<T>(-r * nu * a));
      const auto radial = hn::Set(d, static_cast<T>(bend));
      const auto centerV = hn::Set(d, static_cast<T>(bank.center ? sum[3] / count : 0));
      const auto centerP = hn::Set(d, static_cast<T>(bank.center ? point[0] / count : 0));
      const auto centerU = hn::Set(d, static_cast<T>(meanU));
      const auto shift = hn::Set(d, static_cast<T>(-bend * scale.residual));
      WriteRow(d, bank.columns, bank.out + offset, bank.stream, [&](auto load, int64_t i) HWY_ATTR {
        auto y = hn::MulAdd(load(w + i, mean), radial, shift);
        y = hn::MulAdd(load(p + i, centerP), byP, y);
        y = hn::MulAdd(load(u + i, centerU), byU, y);
        return hn::MulAdd(load(v + i, centerV), byV, y);
      });
    }
  }
  if (bank.stream) hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
