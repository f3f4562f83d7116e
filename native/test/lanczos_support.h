// Operators with known spectra and ways to read a projection, for the tests of Lanczos.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "native/runtime/lanczos.h"
#include "native/runtime/probe.h"

namespace losscape::test {

// diag(values) turned by three Householder reflections, applied in f64.
template <typename T>
class Rotated final : public NativeOperator {
 public:
  explicit Rotated(std::vector<double> values)
      : NativeOperator(sizeof(T) == 4 ? DType::kF32 : DType::kF64, values.size()),
        values_(std::move(values)) {
    for (uint64_t k = 0; k < 3; ++k) {
      std::vector<double> u(storage());
      FillProbe(ProbeKind::kNormal, 77, k, Segments{{0}, {u.size()}}, u.data(), u.size(), 1);
      Scale(1 / Norm(u.data(), u.size(), 1), u.data(), u.data(), u.size(), 1);
      mirrors_.push_back(std::move(u));
    }
  }

  void Apply(const void* in, void* out, int, RunContext&, const OperatorProgress&) override {
    ++products;
    const T* x = static_cast<const T*>(in);
    std::vector<double> w(x, x + storage());
    for (size_t k = 0; k < 3; ++k) Reflect(mirrors_[k], w);
    for (size_t i = 0; i < w.size(); ++i) w[i] *= values_[i];
    for (size_t k = 3; k-- > 0;) Reflect(mirrors_[k], w);
    std::transform(w.begin(), w.end(), static_cast<T*>(out),
                   [](double v) { return static_cast<T>(v); });
  }

  // The vector along which the operator is values[index].
  std::vector<T> Eigenvector(size_t index) const {
    std::vector<double> w(storage(), 0.0);
    w[index] = 1;
    for (size_t k = 3; k-- > 0;) Reflect(mirrors_[k], w);
    return std::vector<T>(w.begin(), w.end());
  }

  int products = 0;

 private:
  static void Reflect(const std::vector<double>& u, std::vector<double>& w) {
    Axpy(-2 * Dot(u.data(), w.data(), w.size(), 1), u.data(), w.data(), w.size(), 1);
  }

  std::vector<double> values_;
  std::vector<std::vector<double>> mirrors_;
};

inline LanczosSpec Spec(DType dtype, size_t n, size_t steps) {
  LanczosSpec spec;
  spec.dtype = dtype;
  spec.storage = n;
  spec.segments = Segments{{0}, {n}};
  spec.maxSteps = steps;
  spec.breakdown = dtype == DType::kF32 ? 1e-5 : 1e-13;
  spec.seed = 3;
  spec.stream = 4;
  return spec;
}

template <typename T>
std::unique_ptr<NativeLanczos> Started(const LanczosSpec& spec) {
  std::unique_ptr<NativeLanczos> lanczos = MakeLanczos(spec);
  std::vector<T> v(spec.storage);
  FillProbe(ProbeKind::kNormal, 1, 2, spec.segments, v.data(), v.size(), 1);
  RunContext context(2);
  lanczos->Start(v.data(), context);
  return lanczos;
}

inline void RunAll(NativeLanczos& lanczos, NativeOperator& op, int64_t steps = INT64_MAX) {
  RunContext context(2);
  while (!lanczos.Finished() && lanczos.state().steps < steps) lanczos.Step(op, context);
}

// Eigenvalues of T below x, by the signs of the pivots of T - x (Sturm).
inline size_t Below(const LanczosState& state, double x) {
  size_t count = 0;
  double pivot = 1;
  for (size_t j = 0; j < state.alpha.size(); ++j) {
    const double coupling = j > 0 ? state.beta[j - 1] : 0;
    pivot = state.alpha[j] - x - (coupling == 0 ? 0 : coupling * coupling / pivot);
    if (pivot == 0) pivot = 1e-300;
    if (pivot < 0) ++count;
  }
  return count;
}

// Eigenvalue `index` of T, ascending, by bisection.
inline double RitzValue(const LanczosState& state, size_t index) {
  double low = -1e4, high = 1e4;
  for (int k = 0; k < 200 && low < high; ++k) {
    const double middle = (low + high) / 2;
    (Below(state, middle) > index ? high : low) = middle;
  }
  return (low + high) / 2;
}

inline std::vector<double> RitzValues(const LanczosState& state) {
  std::vector<double> values;
  for (size_t k = 0; k < state.alpha.size(); ++k) values.push_back(RitzValue(state, k));
  return values;
}

// Ten outliers from 50 to 4, 190 values between, a bulk near zero, 400 slightly negative.
inline std::vector<double> Spectrum() {
  std::vector<double> values(20000);
  for (size_t i = 0; i < 10; ++i) values[i] = 50 * std::pow(4.0 / 50, static_cast<double>(i) / 9);
  for (size_t i = 0; i < 190; ++i) values[10 + i] = 0.05 + static_cast<double>(i) / 200;
  for (size_t i = 200; i < 19600; ++i) values[i] = 1e-4 * (static_cast<double>(i % 97) / 97);
  for (size_t i = 19600; i < 20000; ++i) values[i] = -0.01 * static_cast<double>(i - 19600) / 400;
  return values;
}

inline size_t Above(const LanczosState& state, double x) {
  return state.alpha.size() - Below(state, x);
}

inline double WorstOutlier(const LanczosState& state, const std::vector<double>& values) {
  double worst = 0;
  const size_t m = state.alpha.size();
  for (size_t i = 0; i < 10; ++i) {
    worst = std::max(worst, std::fabs(RitzValue(state, m - 1 - i) / values[i] - 1));
  }
  return worst;
}

inline bool SameState(const LanczosState& a, const LanczosState& b) {
  return a.steps == b.steps && a.alpha == b.alpha && a.beta == b.beta &&
         a.asymmetry == b.asymmetry && a.noise == b.noise &&
         a.invariantSubspaceAt == b.invariantSubspaceAt && a.exhausted == b.exhausted &&
         a.kept == b.kept && a.products == b.products && a.restarts == b.restarts &&
         a.breakdowns == b.breakdowns && a.reorthogonalizations == b.reorthogonalizations &&
         a.estimate.current == b.estimate.current && a.estimate.previous == b.estimate.previous &&
         a.estimate.noise == b.estimate.noise && a.estimate.pending == b.estimate.pending &&
         a.estimate.ritz.size() == b.estimate.ritz.size();
}

}  // namespace losscape::test
