#include "native/cpu/karat_features.h"

#include <algorithm>
#include <string>

#include "native/runtime/error.h"

namespace losscape {

namespace {

struct BasisName {
  const char* name;
  KaratBasis basis;
  size_t numbers;
};

constexpr BasisName kBases[] = {
    {"fourier", KaratBasis::kFourier, 1},
    {"chebyshev", KaratBasis::kChebyshev, 1},
    {"rbf", KaratBasis::kGaussian, 3},
    {"bspline", KaratBasis::kSpline, 3},
};

struct BaseName {
  const char* name;
  KaratBase base;
};

constexpr BaseName kBaseNames[] = {
    {"zero", KaratBase::kZero},
    {"identity", KaratBase::kIdentity},
    {"silu", KaratBase::kSilu},
    {"gelu", KaratBase::kGelu},
};

}  // namespace

KaratFeatures::KaratFeatures(const OpSpec& op) : numbers_(op.Numbers("basisNumbers")) {
  const std::string& basis = op.String("basis");
  const auto* found = std::find_if(std::begin(kBases), std::end(kBases),
                                   [&](const BasisName& b) { return basis == b.name; });
  if (found == std::end(kBases) || found->numbers != numbers_.size()) {
    throw Error(Code::kProgram, op.name, ": no basis '", basis, "' with ", numbers_.size(),
                " numbers.");
  }
  basis_ = found->basis;
  const std::string& base = op.String("base");
  const auto* named = std::find_if(std::begin(kBaseNames), std::end(kBaseNames),
                                   [&](const BaseName& b) { return base == b.name; });
  if (named == std::end(kBaseNames)) {
    throw Error(Code::kProgram, op.name, ": no base function '", base, "'.");
  }
  base_ = named->base;
  if (!NumbersFit()) {
    throw Error(Code::kProgram, op.name, ": the numbers of basis '", basis, "' are out of range.");
  }
}

bool KaratFeatures::NumbersFit() const {
  if (!(numbers_[0] >= 1)) return false;
  switch (basis_) {
    case KaratBasis::kFourier:
    case KaratBasis::kChebyshev:
      return true;
    case KaratBasis::kGaussian:
      return numbers_[0] >= 2 && numbers_[1] < numbers_[2];
    case KaratBasis::kSpline:
      return numbers_[0] <= kMaxSplineOrder && numbers_[1] >= 1 && numbers_[2] > 0;
  }
  return false;
}

int64_t KaratFeatures::BasisCount() const {
  switch (basis_) {
    case KaratBasis::kFourier:
      return 2 * static_cast<int64_t>(numbers_[0]);
    case KaratBasis::kChebyshev:
    case KaratBasis::kGaussian:
      return static_cast<int64_t>(numbers_[0]);
    case KaratBasis::kSpline:
      return static_cast<int64_t>(numbers_[0]) + static_cast<int64_t>(numbers_[1]);
  }
  return 0;
}

int64_t KaratFeatures::Own() const {
  return basis_ == KaratBasis::kFourier ? base_ != KaratBase::kZero : Count();
}

KaratDerivative KaratFeatures::Slope(int64_t j) const {
  const int64_t shared = Count() - Own();
  if (j >= shared) return {Count() + j - shared, 1};
  const int64_t harmonics = BasisCount() / 2;
  if (j < harmonics) return {harmonics + j, -static_cast<double>(j + 1)};
  return {j - harmonics, static_cast<double>(j - harmonics + 1)};
}

KaratDerivative KaratFeatures::Curvature(int64_t j) const {
  const int64_t shared = Count() - Own();
  if (j >= shared) return {Count() + Own() + j - shared, 1};
  const double m = static_cast<double>(j % (BasisCount() / 2) + 1);
  return {j, -m * m};
}

}  // namespace losscape
