// Optimiser steps over one flat vector, one fused pass; PyTorch's update rules.
//
//   g' = scale g + decay theta            (decay: sgd and adam; adamw: theta *= 1 - lr decay)
//   sgd:    m = first step ? g' : momentum m + (1 - dampening) g'
//           theta -= lr (nesterov ? g' + momentum m : m)      (momentum 0: theta -= lr g')
//   adam:   m += (1 - beta1)(g' - m);  v = beta2 v + (1 - beta2) g'^2
//           theta -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
//
// `scale` is the clipping factor min(1, clipNorm / (||g|| + 1e-6)). lr and decay are per segment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "native/cpu/vector.h"

namespace losscape {

enum class OptimizerKind { kSgd, kAdam, kAdamW };

struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kSgd;
  double momentum = 0;
  double dampening = 0;
  bool nesterov = false;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double clipNorm = std::numeric_limits<double>::infinity();  // off

  // Moment vectors: 0 (sgd without momentum), 1 (with), 2 (adam, adamw).
  int Moments() const;
};

struct OptimizerSegments : Segments {
  std::vector<double> learningRateFactor;
  std::vector<double> decay;
  std::vector<uint8_t> frozen;

  // Throws Error{ERR_SHAPE, ERR_ARGUMENT}.
  void Check(size_t storage) const;
};

// ||g|| over the segments that are not frozen.
template <typename T>
double GradientNorm(const OptimizerSegments& segments, const T* gradient, int threads);

// min(1, clipNorm / (norm + 1e-6)); 1 when clipNorm is not finite.
double ClipScale(double clipNorm, double norm);

// Step `step` (0 is the first ever made). moments: `Moments()` vectors of storage elements.
template <typename T>
void OptimizerStep(const OptimizerSpec& spec, const OptimizerSegments& segments, int64_t step,
                   double learningRate, double gradientScale, const T* gradient, T* theta,
                   T* const* moments, int threads);

}  // namespace losscape
