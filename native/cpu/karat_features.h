// The features f_j of Kolmogorov-Arnold attention: functions of a score x that every (query, key)
// pair shares, of which the coefficients make the learned functions. What a basis has to say is
// here (how many features, where their derivatives stand) and in karat_features-inl.h (values).
#pragma once

#include <cstdint>
#include <vector>

#include "native/runtime/kernel.h"

namespace losscape {

enum class KaratBasis {
  kFourier,    // numbers [G]: cos x .. cos Gx, sin x .. sin Gx
  kChebyshev,  // [degree]: T_1(t) .. T_degree(t), t = tanh x
  kGaussian,   // [J, low, high]: exp(-((x - low - j h) / h)^2), h = (high - low) / (J - 1)
  kSpline,     // [order, intervals, range]: B-splines of that degree on uniform knots
};

constexpr int64_t kMaxSplineOrder = 15;

// One more feature b(x) behind those of the basis.
enum class KaratBase { kZero, kIdentity, kSilu, kGelu };

// A derivative of a feature: `scale` times a panel.
struct KaratDerivative {
  int64_t panel;
  double scale;
};

// The features of a tile of `count` scores lie in panels of `count` numbers: panels 0 .. J-1 hold
// f_0 .. f_{J-1}. Derivatives that are multiples of values (sines and cosines) need no panel; the
// last `own` features have panels J .. J+own-1 for f' and J+own .. J+2 own-1 for f''.
//
// A new basis needs a name and its numbers' check in karat_features.cc, its count in BasisCount,
// its values in karat_bases-inl.h, and nothing else: unless Own() says otherwise all its features
// have panels of their own for both derivatives.
class KaratFeatures {
 public:
  KaratFeatures() = default;
  // From strings basis, base; numbers basisNumbers. Throws Error{ERR_PROGRAM}.
  explicit KaratFeatures(const OpSpec& op);

  KaratBasis basis() const { return basis_; }
  KaratBase base() const { return base_; }
  // A number of the basis, as the comment of KaratBasis lists them.
  double Number(size_t i) const { return numbers_[i]; }

  int64_t BasisCount() const;
  int64_t Count() const { return BasisCount() + (base_ != KaratBase::kZero); }
  // Panels that hold everything up to the derivative `order` (0, 1, 2).
  int64_t Panels(int order) const { return Count() + order * Own(); }
  KaratDerivative Slope(int64_t j) const;
  KaratDerivative Curvature(int64_t j) const;

 private:
  int64_t Own() const;
  bool NumbersFit() const;

  KaratBasis basis_ = KaratBasis::kFourier;
  KaratBase base_ = KaratBase::kZero;
  std::vector<double> numbers_;
};

}  // namespace losscape
