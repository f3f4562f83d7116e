#include "native/cpu/optimizer.h"

#include <algorithm>
#include <cmath>

#include "native/runtime/error.h"
#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/optimizer.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef LOSSCAPE_CPU_OPTIMIZER_ONCE
#define LOSSCAPE_CPU_OPTIMIZER_ONCE
namespace losscape {
namespace {

// One segment's numbers for one step.
struct Rule {
  OptimizerKind kind;
  bool momentum;  // sgd keeps a moment
  bool first;     // ... which starts as the gradient
  bool nesterov;
  double gradientScale;
  double decay;       // added to the gradient
  double shrink;      // theta is multiplied by it (adamw)
  double rate;        // sgd: lr; adam: lr / (1 - beta1^t)
  double firstKeep;   // momentum
  double firstAdd;    // 1 - dampening; 1 - beta1
  double secondKeep;  // beta2
  double secondAdd;   // 1 - beta2
  double secondNorm;  // sqrt(1 - beta2^t)
  double epsilon;
};

}  // namespace
}  // namespace losscape
#endif  // LOSSCAPE_CPU_OPTIMIZER_ONCE

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
HWY_INLINE void UpdateRange(const Rule& rule, const T* gradient, T* theta, T* first, T* second,
                            size_t n) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  const auto set = [d](double value) { return hn::Set(d, static_cast<T>(value)); };
  const auto gradientScale = set(rule.gradientScale), decay = set(rule.decay);
  const auto shrink = set(rule.shrink), rate = set(rule.rate), epsilon = set(rule.epsilon);
  const auto firstKeep = set(rule.firstKeep), firstAdd = set(rule.firstAdd);
  const auto secondKeep = set(rule.secondKeep), secondAdd = set(rule.secondAdd);
  const auto secondNorm = set(rule.secondNorm);

  const auto sgd = [&](const T* gp, T* xp, T* mp, T*) HWY_ATTR {
    const auto x = hn::LoadU(d, xp);
    auto g = hn::MulAdd(decay, x, hn::Mul(gradientScale, hn::LoadU(d, gp)));
    if (rule.momentum) {
      const auto m = rule.first ? g : hn::MulAdd(firstAdd, g, hn::Mul(firstKeep, hn::LoadU(d, mp)));
      hn::StoreU(m, d, mp);
      g = rule.nesterov ? hn::MulAdd(firstKeep, m, g) : m;
    }
    hn::StoreU(hn::NegMulAdd(rate, g, x), d, xp);
  };
  const auto adam = [&](const T* gp, T* xp, T* mp, T* vp) HWY_ATTR {
    const auto x = hn::LoadU(d, xp);
    const auto g = hn::MulAdd(decay, x, hn::Mul(gradientScale, hn::LoadU(d, gp)));
    const auto old = hn::LoadU(d, mp);
    const auto m = hn::MulAdd(firstAdd, hn::Sub(g, old), old);
    hn::StoreU(m, d, mp);
    const auto v = hn::MulAdd(hn::Mul(secondAdd, g), g, hn::Mul(secondKeep, hn::LoadU(d, vp)));
    hn::StoreU(v, d, vp);
    const auto size = hn::Add(hn::Div(hn::Sqrt(v), secondNorm), epsilon);
    hn::StoreU(hn::NegMulAdd(rate, hn::Div(m, size), hn::Mul(shrink, x)), d, xp);
  };
  const auto sweep = [&](const auto& apply) HWY_ATTR {
    const auto at = [](T* base, size_t i) { return base ? base + i : nullptr; };
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      apply(gradient + i, theta + i, at(first, i), at(second, i));
    }
    if (i == n) return;
    // The tail has the arithmetic of the rest, so that where a thread's range ends does not matter.
    constexpr size_t kMost = HWY_MAX_BYTES / sizeof(T);
    T g[kMost] = {}, x[kMost] = {}, m[kMost] = {}, v[kMost] = {};
    std::copy(gradient + i, gradient + n, g);
    std::copy(theta + i, theta + n, x);
    if (first) std::copy(first + i, first + n, m);
    if (second) std::copy(second + i, second + n, v);
    apply(g, x, m, v);
    std::copy(x, x + (n - i), theta + i);
    if (first) std::copy(m, m + (n - i), first + i);
    if (second) std::copy(v, v + (n - i), second + i);
  };
  if (rule.kind == OptimizerKind::kSgd) {
    sweep(sgd);
  } else {
    sweep(adam);
  }
}

void UpdateF32(const Rule& rule, const float* g, float* x, float* m, float* v, size_t n) {
  UpdateRange(rule, g, x, m, v, n);
}
void UpdateF64(const Rule& rule, const double* g, double* x, double* m, double* v, size_t n) {
  UpdateRange(rule, g, x, m, v, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(UpdateF32);
HWY_EXPORT(UpdateF64);

namespace {

constexpr int64_t kGrain = 8192;

void UpdateAny(const Rule& rule, const float* g, float* x, float* m, float* v, size_t n) {
  HWY_DYNAMIC_DISPATCH(UpdateF32)(rule, g, x, m, v, n);
}
void UpdateAny(const Rule& rule, const double* g, double* x, double* m, double* v, size_t n) {
  HWY_DYNAMIC_DISPATCH(UpdateF64)(rule, g, x, m, v, n);
}

Rule MakeRule(const OptimizerSpec& spec, int64_t step, double learningRate, double decay,
              double gradientScale) {
  const double count = static_cast<double>(step) + 1;
  Rule rule{};
  rule.kind = spec.kind;
  rule.nesterov = spec.nesterov;
  rule.gradientScale = gradientScale;
  rule.decay = spec.kind == OptimizerKind::kAdamW ? 0 : decay;
  rule.shrink = spec.kind == OptimizerKind::kAdamW ? 1 - learningRate * decay : 1;
  rule.epsilon = spec.epsilon;
  if (spec.kind == OptimizerKind::kSgd) {
    rule.momentum = spec.momentum != 0;
    rule.first = step == 0;
    rule.rate = learningRate;
    rule.firstKeep = spec.momentum;
    rule.firstAdd = 1 - spec.dampening;
  } else {
    rule.rate = learningRate / (1 - std::pow(spec.beta1, count));
    rule.firstAdd = 1 - spec.beta1;
    rule.secondKeep = spec.beta2;
    rule.secondAdd = 1 - spec.beta2;
    rule.secondNorm = std::sqrt(1 - std::pow(spec.beta2, count));
  }
  return rule;
}

bool AnyFrozen(const OptimizerSegments& segments) {
  return std::any_of(segments.frozen.begin(), segments.frozen.end(), [](uint8_t f) { return f; });
}

}  // namespace

int OptimizerSpec::Moments() const {
  if (kind != OptimizerKind::kSgd) return 2;
  return momentum != 0 ? 1 : 0;
}

void OptimizerSegments::Check(size_t storage) const {
  Segments::Check(storage);
  const size_t count = offsets.size();
  if (learningRateFactor.size() != count || decay.size() != count || frozen.size() != count) {
    throw Error(Code::kShape, "Expected ", count,
                " learning rate factors, decays and frozen flags, one per segment, got ",
                learningRateFactor.size(), ", ", decay.size(), " and ", frozen.size(), ".");
  }
}

template <typename T>
double GradientNorm(const OptimizerSegments& segments, const T* gradient, int threads) {
  if (segments.offsets.empty()) return 0;
  // Padding is zero: one pass over everything, unless something frozen has to be left out.
  if (!AnyFrozen(segments)) {
    return Norm(gradient, segments.offsets.back() + segments.lengths.back(), threads);
  }
  double square = 0;
  for (size_t k = 0; k < segments.offsets.size(); ++k) {
    const T* g = gradient + segments.offsets[k];
    if (!segments.frozen[k]) square += Dot(g, g, segments.lengths[k], threads);
  }
  return std::sqrt(square);
}

double ClipScale(double clipNorm, double norm) {
  return std::isfinite(clipNorm) ? std::min(1.0, clipNorm / (norm + 1e-6)) : 1.0;
}

template <typename T>
void OptimizerStep(const OptimizerSpec& spec, const OptimizerSegments& segments, int64_t step,
                   double learningRate, double gradientScale, const T* gradient, T* theta,
                   T* const* moments, int threads) {
  const int count = spec.Moments();
  T* const first = count > 0 ? moments[0] : nullptr;
  T* const second = count > 1 ? moments[1] : nullptr;
  std::vector<Rule> rules;
  rules.reserve(segments.offsets.size());
  for (size_t k = 0; k < segments.offsets.size(); ++k) {
    rules.push_back(MakeRule(spec, step, learningRate * segments.learningRateFactor[k],
                             segments.decay[k], gradientScale));
  }
  const size_t storage =
      segments.offsets.empty() ? 0 : segments.offsets.back() + segments.lengths.back();
  ParallelFor(threads, static_cast<int64_t>(storage), kGrain, [&](int64_t begin, int64_t end, int) {
    const size_t from = static_cast<size_t>(begin), to = static_cast<size_t>(end);
    for (size_t k = 0; k < segments.offsets.size(); ++k) {
      const size_t low = std::max(from, segments.offsets[k]);
      const size_t high = std::min(to, segments.offsets[k] + segments.lengths[k]);
      if (segments.frozen[k] || low >= high) continue;
      UpdateAny(rules[k], gradient + low, theta + low, first ? first + low : nullptr,
                second ? second + low : nullptr, high - low);
    }
  });
}

template double GradientNorm(const OptimizerSegments&, const float*, int);
template double GradientNorm(const OptimizerSegments&, const double*, int);
template void OptimizerStep(const OptimizerSpec&, const OptimizerSegments&, int64_t, double, double,
                            const float*, float*, float* const*, int);
template void OptimizerStep(const OptimizerSpec&, const OptimizerSegments&, int64_t, double, double,
                            const double*, double*, double* const*, int);

}  // namespace losscape
#endif  // HWY_ONCE
