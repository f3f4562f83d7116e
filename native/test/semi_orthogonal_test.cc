#include "native/runtime/semi_orthogonal.h"

#include <algorithm>
#include <cmath>

#include "native/runtime/error.h"
#include "native/runtime/lanczos.h"
#include "native/runtime/tridiagonal.h"
#include "native/test/lanczos_support.h"
#include "native/test/test.h"

namespace losscape::test {
namespace {

constexpr double kPi = 3.14159265358979323846;

TEST(TridiagonalSolvesToeplitzAndSplitMatrices) {
  const size_t m = 50;
  const std::vector<double> alpha(m, 2.0), beta(m - 1, -1.0);
  const TridiagonalEigen eigen = SolveTridiagonal(alpha.data(), beta.data(), m, EigenRows::kAll);
  const TridiagonalEigen ends = SolveTridiagonal(alpha.data(), beta.data(), m, EigenRows::kLast);
  for (size_t i = 0; i < m; ++i) {
    const double angle = static_cast<double>(i + 1) * kPi / static_cast<double>(m + 1);
    CHECK_NEAR(eigen.values[i], 2 - 2 * std::cos(angle), 1e-13);
    CHECK_NEAR(std::fabs(eigen.rows[(m - 1) * m + i]), std::fabs(ends.rows[i]), 1e-13);
    // Vector i of the Toeplitz matrix: sqrt(2 / (m + 1)) sin((r + 1) angle).
    for (size_t r = 0; r < m; ++r) {
      const double expected = std::sqrt(2.0 / static_cast<double>(m + 1)) *
                              std::sin(static_cast<double>(r + 1) * angle);
      CHECK_NEAR(std::fabs(eigen.rows[r * m + i]), std::fabs(expected), 1e-12);
    }
  }
  const double diagonal[] = {3, 0, 0, 1}, split[] = {0, 0, 0};
  const TridiagonalEigen parts = SolveTridiagonal(diagonal, split, 4, EigenRows::kLast);
  CHECK(parts.values == (std::vector<double>{0, 0, 1, 3}));
  CHECK(std::fabs(parts.rows[2]) == 1 && parts.rows[3] == 0);
  const double bad[] = {NAN, 1}, one[] = {1};
  CHECK_THROWS(SolveTridiagonal(bad, one, 2, EigenRows::kLast), Code::kRange);
}

LanczosSpec Semi(DType dtype, size_t n, size_t steps, Reorthogonalize how) {
  LanczosSpec spec = Spec(dtype, n, steps);
  spec.reorthogonalize = how;
  return spec;
}

// Eigenvalues as good as full reorthogonalisation's, no ghosts, and few vectors reorthogonalised.
template <typename T>
void CheckSemi(DType dtype, Reorthogonalize how, size_t steps, double tolerance,
               double orthogonality, int64_t most) {
  const std::vector<double> values = Spectrum();
  Rotated<T> op(values);
  auto full = Started<T>(Spec(dtype, values.size(), steps));
  auto semi = Started<T>(Semi(dtype, values.size(), steps, how));
  RunAll(*full, op);
  RunAll(*semi, op);
  CHECK(semi->state().steps == static_cast<int64_t>(steps));
  CHECK(Above(semi->state(), 3.9) == 10);
  // Not a single copy anywhere that full reorthogonalisation does not have.
  for (double x : {30.0, 10.0, 1.05, 0.9, 0.7, 0.5}) {
    CHECK(Above(semi->state(), x) == Above(full->state(), x));
  }
  const size_t m = steps;
  for (size_t i = 0; i < m; ++i) {
    CHECK_NEAR(RitzValue(semi->state(), i), RitzValue(full->state(), i), tolerance * 50);
  }
  RunContext context(2);
  CHECK(semi->Orthogonality(context) < orthogonality);
  CHECK(full->state().reorthogonalizations == static_cast<int64_t>(steps) - 2);
  CHECK(semi->state().reorthogonalizations <= most);
}

// The outliers' overlaps grow by ||A|| / beta = 100 and more per step here, so that f32 has hardly
// two steps from rounding to sqrt(eps).
TEST(PartialReorthogonalizationIsAsGoodAsFull) {
  CheckSemi<float>(DType::kF32, Reorthogonalize::kPartial, 80, 1e-6, 1e-3, 70);
  CheckSemi<double>(DType::kF64, Reorthogonalize::kPartial, 80, 1e-13, 1e-7, 40);
}

TEST(SelectiveReorthogonalizationIsAsGoodAsFull) {
  CheckSemi<float>(DType::kF32, Reorthogonalize::kSelective, 80, 1e-6, 1e-2, 70);
  CheckSemi<double>(DType::kF64, Reorthogonalize::kSelective, 80, 1e-13, 1e-6, 45);
}

// A slow spectrum asks for little: a tenth of the vectors.
TEST(PartialReorthogonalizationOfALaplacian) {
  std::vector<double> values(2000);
  for (size_t k = 0; k < values.size(); ++k) {
    values[k] = 2 - 2 * std::cos(static_cast<double>(k + 1) * kPi / 2001);
  }
  Rotated<double> op(values);
  auto full = Started<double>(Spec(DType::kF64, values.size(), 200));
  RunAll(*full, op);
  for (auto how : {Reorthogonalize::kPartial, Reorthogonalize::kSelective}) {
    auto semi = Started<double>(Semi(DType::kF64, values.size(), 200, how));
    RunAll(*semi, op);
    for (size_t i = 0; i < 200; i += 7) {
      CHECK_NEAR(RitzValue(semi->state(), i), RitzValue(full->state(), i), 1e-12);
    }
    CHECK(semi->state().reorthogonalizations < 60);
  }
}

// Products with an error of a thousandth are known for what they are, and nothing is lost.
class Shaky final : public NativeOperator {
 public:
  explicit Shaky(NativeOperator& inner, double noise)
      : NativeOperator(inner.dtype(), inner.storage()), inner_(inner), noise_(noise) {}
  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    inner_.Apply(in, out, count, context, progress);
    std::vector<float> error(storage());
    FillProbe(ProbeKind::kNormal, 8, stream_++, Segments{{0}, {storage()}}, error.data(), storage(),
              1);
    float* y = static_cast<float*>(out);
    const double size = Norm(y, storage(), 1) / std::sqrt(static_cast<double>(storage()));
    Axpy(noise_ * size, error.data(), y, storage(), 1);
  }

 private:
  NativeOperator& inner_;
  double noise_;
  uint64_t stream_ = 0;
};

TEST(PartialReorthogonalizationFollowsTheNoiseOfProducts) {
  const std::vector<double> values = Spectrum();
  Rotated<float> exact(values);
  Shaky op(exact, 1e-3);
  auto semi = Started<float>(Semi(DType::kF32, values.size(), 60, Reorthogonalize::kPartial));
  RunAll(*semi, op);
  RunContext context(2);
  CHECK(semi->Orthogonality(context) < 1e-2);
  CHECK(Above(semi->state(), 3.9) == 10);
  CHECK(WorstOutlier(semi->state(), values) < 1e-3);
}

TEST(SemiOrthogonalRunsGoOnAfterBreakdowns) {
  std::vector<double> values(300, 1.0);
  std::fill(values.begin(), values.begin() + 20, 50.0);
  Rotated<double> op(values);
  for (auto how : {Reorthogonalize::kPartial, Reorthogonalize::kSelective}) {
    auto lanczos = Started<double>(Semi(DType::kF64, 300, 60, how));
    RunAll(*lanczos, op);
    CHECK(lanczos->state().steps == 60);
    CHECK(lanczos->state().breakdowns > 20);
    CHECK(Above(lanczos->state(), 25) == 20);
    for (double ritz : RitzValues(lanczos->state())) {
      CHECK(std::min(std::fabs(ritz - 1), std::fabs(ritz - 50)) < 1e-8);
    }
    Rotated<double> zero(std::vector<double>(64, 0.0));
    auto nothing = Started<double>(Semi(DType::kF64, 64, 64, how));
    RunAll(*nothing, zero);
    CHECK(nothing->state().exhausted && Above(nothing->state(), 1e-12) == 0);
  }
}

// p Ritz vectors and the residual go on as if nothing had happened.
template <typename T>
void CheckRestart(DType dtype, double tolerance) {
  std::vector<double> values(400);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::pow(0.9, static_cast<double>(i));
  Rotated<T> op(values);
  const size_t m = 30, p = 12;
  auto lanczos = Started<T>(Spec(dtype, values.size(), m));
  RunContext context(2);
  RunAll(*lanczos, op);
  CHECK(lanczos->Finished());
  const LanczosState before = lanczos->state();
  const TridiagonalEigen eigen =
      SolveTridiagonal(before.alpha.data(), before.beta.data(), m, EigenRows::kAll);
  std::vector<double> coefficients(p * m), kept(p);
  for (size_t k = 0; k < p; ++k) {
    kept[k] = eigen.values[m - 1 - k];
    for (size_t r = 0; r < m; ++r) coefficients[k * m + r] = eigen.rows[r * m + m - 1 - k];
  }
  CHECK_THROWS(lanczos->Restart(coefficients.data(), kept.data(), m, context), Code::kArgument);
  const size_t bytes = lanczos->BasisBytes();
  lanczos->Restart(coefficients.data(), kept.data(), p, context);
  const LanczosState& state = lanczos->state();
  CHECK(state.steps == static_cast<int64_t>(p) && state.kept == state.steps);
  CHECK(state.products == static_cast<int64_t>(m) && state.restarts == 1);
  CHECK(lanczos->Orthogonality(context) < tolerance);
  CHECK(!lanczos->Finished());
  CHECK(lanczos->BasisBytes() == bytes);
  // Row p couples to what was kept as the arrow says: asymmetry would tell.
  RunAll(*lanczos, op);
  CHECK(lanczos->state().steps == static_cast<int64_t>(m));
  CHECK(lanczos->state().asymmetry < tolerance);
  CHECK(lanczos->state().noise < tolerance);
  CHECK(lanczos->Orthogonality(context) < tolerance);

  // A Ritz vector of the first cycle is still one of the operator.
  std::vector<T> y(values.size()), ay(values.size());
  lanczos->ReadBasis(0, y.data());
  op.Apply(y.data(), ay.data(), 1, context, nullptr);
  Axpy(-kept[0], y.data(), ay.data(), y.size(), 1);
  CHECK_NEAR(Norm(ay.data(), ay.size(), 1), std::fabs(state.beta[0]), tolerance);
}

TEST(LanczosRestartsInPlace) {
  CheckRestart<float>(DType::kF32, 1e-5);
  CheckRestart<double>(DType::kF64, 1e-12);
  Rotated<double> op(std::vector<double>(50, 1.0));
  auto partial = Started<double>(Semi(DType::kF64, 50, 9, Reorthogonalize::kPartial));
  RunAll(*partial, op, 6);
  RunContext context(1);
  const double zeros[6] = {};
  CHECK_THROWS(partial->Restart(zeros, zeros, 1, context), Code::kArgument);
}

}  // namespace
}  // namespace losscape::test
