#include "native/cpu/optimizer.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "native/runtime/error.h"
#include "native/runtime/random.h"
#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

constexpr size_t kStorage = 20100;

// Four segments with padding between; the third is frozen.
OptimizerSegments MakeSegments() {
  OptimizerSegments segments;
  segments.offsets = {0, 64, 10048, 10112};
  segments.lengths = {37, 9961, 50, 9977};
  segments.learningRateFactor = {1, 0.5, 1, 2};
  segments.decay = {0.1, 0, 0.3, 0.01};
  segments.frozen = {0, 0, 1, 0};
  return segments;
}

template <typename T>
std::vector<T> Random(const OptimizerSegments& segments, uint64_t stream) {
  std::vector<T> x(kStorage, T{0});
  for (size_t k = 0; k < segments.offsets.size(); ++k) {
    FillNormals(31, stream * 10 + k, 0, segments.lengths[k], x.data() + segments.offsets[k]);
  }
  return x;
}

// One element after another, as torch.optim documents its algorithms, in f64.
struct Reference {
  std::vector<double> theta, first, second;

  void Step(const OptimizerSpec& spec, const OptimizerSegments& segments, int64_t step, double lr,
            const std::vector<double>& gradient) {
    double square = 0;
    for (size_t k = 0; k < segments.offsets.size(); ++k) {
      if (segments.frozen[k]) continue;
      for (size_t i = 0; i < segments.lengths[k]; ++i) {
        square += std::pow(gradient[segments.offsets[k] + i], 2);
      }
    }
    const double clip = std::min(1.0, spec.clipNorm / (std::sqrt(square) + 1e-6));
    for (size_t k = 0; k < segments.offsets.size(); ++k) {
      if (segments.frozen[k]) continue;
      for (size_t i = 0; i < segments.lengths[k]; ++i) {
        const size_t at = segments.offsets[k] + i;
        Element(spec, step, lr * segments.learningRateFactor[k], segments.decay[k],
                clip * gradient[at], at);
      }
    }
  }

 private:
  void Element(const OptimizerSpec& spec, int64_t step, double lr, double decay, double g,
               size_t i) {
    double& x = theta[i];
    if (spec.kind == OptimizerKind::kSgd) {
      g += decay * x;
      if (spec.momentum != 0) {
        first[i] = step == 0 ? g : spec.momentum * first[i] + (1 - spec.dampening) * g;
        g = spec.nesterov ? g + spec.momentum * first[i] : first[i];
      }
      x -= lr * g;
      return;
    }
    if (spec.kind == OptimizerKind::kAdamW) x *= 1 - lr * decay;
    if (spec.kind == OptimizerKind::kAdam) g += decay * x;
    first[i] = spec.beta1 * first[i] + (1 - spec.beta1) * g;
    second[i] = spec.beta2 * second[i] + (1 - spec.beta2) * g * g;
    const double t = static_cast<double>(step) + 1;
    const double m = first[i] / (1 - std::pow(spec.beta1, t));
    const double v = second[i] / (1 - std::pow(spec.beta2, t));
    x -= lr * m / (std::sqrt(v) + spec.epsilon);
  }
};

template <typename T>
std::vector<T> RunSteps(const OptimizerSpec& spec, int64_t steps, int threads,
                        Reference* reference) {
  const OptimizerSegments segments = MakeSegments();
  std::vector<T> theta = Random<T>(segments, 1), first(kStorage, T{0}), second(kStorage, T{0});
  if (reference) {
    reference->theta.assign(theta.begin(), theta.end());
    reference->first.assign(kStorage, 0.0);
    reference->second.assign(kStorage, 0.0);
  }
  T* moments[2] = {first.data(), second.data()};
  for (int64_t step = 0; step < steps; ++step) {
    const std::vector<T> g = Random<T>(segments, 2 + static_cast<uint64_t>(step));
    const double lr = 0.05 / static_cast<double>(step + 1);
    const double norm = GradientNorm(segments, g.data(), threads);
    OptimizerStep(spec, segments, step, lr, ClipScale(spec.clipNorm, norm), g.data(), theta.data(),
                  moments, threads);
    if (reference) {
      reference->Step(spec, segments, step, lr, std::vector<double>(g.begin(), g.end()));
    }
  }
  return theta;
}

template <typename T>
void CheckAgainstReference(const OptimizerSpec& spec) {
  Reference reference;
  const std::vector<T> theta = RunSteps<T>(spec, 6, 1, &reference);
  double worst = 0;
  for (size_t i = 0; i < kStorage; ++i) {
    worst = std::max(worst, std::fabs(theta[i] - reference.theta[i]));
  }
  // |theta| <= 5; six steps of a few roundings each.
  CHECK(worst < 30 * (sizeof(T) == 4 ? FLT_EPSILON : DBL_EPSILON));
  for (int threads : {2, 3}) CHECK(RunSteps<T>(spec, 6, threads, nullptr) == theta);
}

OptimizerSpec Spec(OptimizerKind kind, double momentum, double dampening, bool nesterov,
                   double clip) {
  OptimizerSpec spec;
  spec.kind = kind;
  spec.momentum = momentum;
  spec.dampening = dampening;
  spec.nesterov = nesterov;
  spec.clipNorm = clip;
  return spec;
}

TEST(OptimizersMatchTheirDefinition) {
  const double off = std::numeric_limits<double>::infinity();
  const OptimizerSpec specs[] = {
      Spec(OptimizerKind::kSgd, 0, 0, false, off),   Spec(OptimizerKind::kSgd, 0.9, 0, false, off),
      Spec(OptimizerKind::kSgd, 0.9, 0.1, false, 2), Spec(OptimizerKind::kSgd, 0.9, 0, true, 1e9),
      Spec(OptimizerKind::kAdam, 0, 0, false, off),  Spec(OptimizerKind::kAdam, 0, 0, false, 0.5),
      Spec(OptimizerKind::kAdamW, 0, 0, false, off),
  };
  ForEachTarget([&] {
    for (const OptimizerSpec& spec : specs) {
      CheckAgainstReference<float>(spec);
      CheckAgainstReference<double>(spec);
    }
  });
}

TEST(OptimizerLeavesFrozenSegmentsAndPadding) {
  const OptimizerSegments segments = MakeSegments();
  std::vector<float> before = Random<float>(segments, 1);
  before[50] = 3;  // padding
  std::vector<float> theta = before, g(kStorage, 1.0f), m(kStorage, 0.0f), v(kStorage, 0.0f);
  float* moments[2] = {m.data(), v.data()};
  OptimizerStep(Spec(OptimizerKind::kAdam, 0, 0, false, 1), segments, 0, 0.1, 1, g.data(),
                theta.data(), moments, 2);
  CHECK(theta[50] == 3 && m[50] == 0);
  for (size_t i = 10048; i < 10098; ++i) CHECK(theta[i] == before[i] && v[i] == 0);
  CHECK(theta[0] != before[0] && theta[10112] != before[10112]);
}

TEST(OptimizerNormLeavesOutWhatIsFrozen) {
  OptimizerSegments segments = MakeSegments();
  std::vector<float> g(kStorage, 0.0f);
  g[3] = 3;
  g[10112] = 4;
  g[10050] = 100;
  CHECK_NEAR(GradientNorm(segments, g.data(), 2), 5, 1e-12);
  segments.frozen[2] = 0;
  CHECK_NEAR(GradientNorm(segments, g.data(), 2), std::sqrt(10025.0), 1e-10);
  CHECK(ClipScale(std::numeric_limits<double>::infinity(), 1e9) == 1);
  CHECK(ClipScale(2, 1) == 1);
  CHECK_NEAR(ClipScale(1, 4), 0.25, 1e-6);
}

TEST(OptimizerSegmentsAreChecked) {
  OptimizerSegments segments = MakeSegments();
  segments.Check(kStorage);
  CHECK_THROWS(segments.Check(20000), Code::kShape);
  segments.decay.pop_back();
  CHECK_THROWS(segments.Check(kStorage), Code::kShape);
  CHECK(Spec(OptimizerKind::kSgd, 0, 0, false, 1).Moments() == 0);
  CHECK(Spec(OptimizerKind::kSgd, 0.5, 0, false, 1).Moments() == 1);
  CHECK(Spec(OptimizerKind::kAdamW, 0, 0, false, 1).Moments() == 2);
}

}  // namespace
}  // namespace losscape::test
