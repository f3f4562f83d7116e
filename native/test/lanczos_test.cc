#include "native/runtime/lanczos.h"

#include <algorithm>
#include <cstring>

#include "native/runtime/error.h"
#include "native/runtime/probe.h"
#include "native/test/lanczos_support.h"
#include "native/test/test.h"

namespace losscape::test {
namespace {

TEST(LanczosFindsOutliersOfARotatedDiagonal) {
  const std::vector<double> values = Spectrum();
  Rotated<float> narrow(values);
  Rotated<double> wide(values);
  RunContext context(2);

  auto f32 = Started<float>(Spec(DType::kF32, values.size(), 80));
  RunAll(*f32, narrow);
  CHECK(f32->state().steps == 80);
  CHECK(f32->state().invariantSubspaceAt == -1);
  CHECK(WorstOutlier(f32->state(), values) < 1e-6);
  CHECK(f32->Orthogonality(context) < 1e-7);
  CHECK(Above(f32->state(), 3.9) == 10);
  CHECK(f32->state().asymmetry < 1e-4);
  CHECK(f32->state().noise < 1e-4);

  auto f64 = Started<double>(Spec(DType::kF64, values.size(), 80));
  RunAll(*f64, wide);
  CHECK(WorstOutlier(f64->state(), values) < 1e-13);
  // A dot product of n = 20,000 terms, in which V is measured and orthogonalised, is off by about
  // sqrt(n) eps / 2 = 1.6e-14 where a target adds in few chains.
  CHECK(f64->Orthogonality(context) < 1e-13);
  CHECK(Above(f64->state(), 3.9) == 10);

  // One pass, and a second one where little is left, keeps orthogonality well enough to count.
  LanczosSpec once = Spec(DType::kF32, values.size(), 80);
  once.reorthogonalize = Reorthogonalize::kCgs1;
  auto cgs1 = Started<float>(once);
  RunAll(*cgs1, narrow);
  CHECK(WorstOutlier(cgs1->state(), values) < 1e-5);
  CHECK(cgs1->Orthogonality(context) < 1e-5);
  CHECK(Above(cgs1->state(), 3.9) == 10);
}

TEST(LanczosWithoutReorthogonalizationShowsGhosts) {
  const std::vector<double> values = Spectrum();
  Rotated<float> op(values);
  LanczosSpec spec = Spec(DType::kF32, values.size(), 80);
  spec.reorthogonalize = Reorthogonalize::kNone;
  auto lanczos = Started<float>(spec);
  RunAll(*lanczos, op);
  CHECK(Above(lanczos->state(), 3.9) > 20);
  CHECK_NEAR(RitzValue(lanczos->state(), 79), 50, 1e-4);
  CHECK(lanczos->BasisBytes() < 4 * values.size() * sizeof(float));
  RunContext context(1);
  CHECK_THROWS(lanczos->Orthogonality(context), Code::kArgument);
}

TEST(LanczosGivesAllEigenvaluesWhenStepsAreN) {
  for (size_t n : {1, 2, 40}) {
    std::vector<double> values(n);
    for (size_t i = 0; i < n; ++i) values[i] = std::cos(static_cast<double>(i) * 1.3) * 5;
    Rotated<double> op(values);
    std::sort(values.begin(), values.end());
    for (size_t steps : {n, n + 5}) {
      auto lanczos = Started<double>(Spec(DType::kF64, n, steps));
      RunAll(*lanczos, op);
      CHECK(lanczos->state().steps == static_cast<int64_t>(n));
      CHECK(lanczos->state().exhausted);
      CHECK(lanczos->state().beta.back() == 0);
      const std::vector<double> ritz = RitzValues(lanczos->state());
      for (size_t i = 0; i < n; ++i) CHECK_NEAR(ritz[i], values[i], 1e-12);
    }
    // One step less leaves a residual.
    if (n == 40) {
      auto shorter = Started<double>(Spec(DType::kF64, n, n - 1));
      RunAll(*shorter, op);
      CHECK(!shorter->state().exhausted);
      CHECK(shorter->state().beta.back() > 0);
    }
  }
}

template <typename T>
void CheckTwoValues(DType dtype, double tolerance) {
  std::vector<double> values(200, 1.0);
  std::fill(values.begin(), values.begin() + 100, 50.0);
  Rotated<T> op(values);
  auto lanczos = Started<T>(Spec(dtype, 200, 20));
  RunAll(*lanczos, op);
  CHECK(lanczos->state().steps == 20);
  CHECK(lanczos->state().invariantSubspaceAt == 1);
  for (double ritz : RitzValues(lanczos->state())) {
    CHECK(std::min(std::fabs(ritz - 1), std::fabs(ritz - 50)) < tolerance);
  }
  RunContext context(1);
  CHECK(lanczos->Orthogonality(context) < tolerance);
}

TEST(LanczosSurvivesATwoValuedSpectrum) {
  CheckTwoValues<float>(DType::kF32, 1e-4);
  CheckTwoValues<double>(DType::kF64, 1e-11);
}

TEST(LanczosStopsAtABreakdownWhenAsked) {
  std::vector<double> values(300, 0.0);
  for (size_t i = 0; i < 6; ++i) values[i] = static_cast<double>(i) + 1;
  Rotated<double> op(values);
  LanczosSpec spec = Spec(DType::kF64, 300, 50);
  spec.onBreakdown = OnBreakdown::kStop;
  // Every step adds rounding of eps ||A|| to the basis, and divides by beta: over these seven, with
  // ||A|| / beta up to 14, that makes a residual of 0.8e-13 to 4e-13, by the order of the sums.
  spec.breakdown = 1e-11;
  auto lanczos = Started<double>(spec);
  RunAll(*lanczos, op);
  // Rank r: the Krylov space has dimension r + 1.
  CHECK(lanczos->state().steps == 7);
  CHECK(lanczos->state().invariantSubspaceAt == 6);
  CHECK(lanczos->state().beta.back() == 0);
  CHECK(!lanczos->state().exhausted);
  CHECK(lanczos->Finished());
  const std::vector<double> ritz = RitzValues(lanczos->state());
  for (size_t i = 0; i < 7; ++i) CHECK_NEAR(ritz[i], static_cast<double>(i), 1e-10);
  RunContext context(1);
  CHECK_THROWS(lanczos->Step(op, context), Code::kArgument);
}

// e0 e0^T with rounding of its own in every product, as that of a large program has.
class Noisy final : public NativeOperator {
 public:
  explicit Noisy(size_t n) : NativeOperator(DType::kF64, n) {}
  void Apply(const void* in, void* out, int, RunContext&, const OperatorProgress&) override {
    double* y = static_cast<double*>(out);
    FillProbe(ProbeKind::kNormal, 5, products_++, Segments{{0}, {storage()}}, y, storage(), 1);
    Scale(1e-17, y, y, storage(), 1);
    y[0] += static_cast<const double*>(in)[0];
  }

 private:
  uint64_t products_ = 0;
};

TEST(LanczosTakesProductsThatAreRoundingForZero) {
  Noisy op(300);
  auto lanczos = Started<double>(Spec(DType::kF64, 300, 8));
  RunAll(*lanczos, op);
  CHECK(lanczos->state().steps == 8);
  CHECK(lanczos->state().invariantSubspaceAt == 1);
  // In the null space ||A v|| is 2e-16 and so is the residual: small to ||A|| only.
  for (size_t j = 1; j < 8; ++j) CHECK(lanczos->state().beta[j] == 0);
  CHECK_NEAR(RitzValue(lanczos->state(), 7), 1, 1e-14);
}

TEST(LanczosOfZeroAndOfAnEigenvector) {
  Rotated<float> zero(std::vector<double>(100, 0.0));
  auto lanczos = Started<float>(Spec(DType::kF32, 100, 5));
  RunAll(*lanczos, zero);
  CHECK(lanczos->state().steps == 5);
  CHECK(lanczos->state().invariantSubspaceAt == 0);
  for (int j = 0; j < 5; ++j)
    CHECK(lanczos->state().alpha[j] == 0 && lanczos->state().beta[j] == 0);
  RunContext context(1);
  CHECK(lanczos->Orthogonality(context) < 1e-6);

  std::vector<double> values(100);
  for (size_t i = 0; i < 100; ++i) values[i] = static_cast<double>(i);
  Rotated<double> op(values);
  auto inside = MakeLanczos(Spec(DType::kF64, 100, 10));
  inside->Start(op.Eigenvector(42).data(), context);
  inside->Step(op, context);
  CHECK(inside->state().invariantSubspaceAt == 0);
  CHECK_NEAR(inside->state().alpha[0], 42, 1e-11);
  CHECK(inside->state().beta[0] == 0);
  RunAll(*inside, op);
  CHECK(inside->state().steps == 10);
  CHECK(inside->Orthogonality(context) < 1e-13);
}

template <typename T>
void CheckResume(Reorthogonalize how, const std::vector<double>& values) {
  const size_t n = values.size();
  Rotated<T> op(values);
  LanczosSpec spec = Spec(sizeof(T) == 4 ? DType::kF32 : DType::kF64, n, 30);
  spec.reorthogonalize = how;
  auto whole = Started<T>(spec);
  RunAll(*whole, op);
  for (int64_t stop : {1, 2, 13}) {
    auto first = Started<T>(spec);
    RunAll(*first, op, stop);
    auto second = MakeLanczos(spec);
    std::vector<T> row(n);
    const int64_t from = how == Reorthogonalize::kNone ? stop - 1 : 0;
    for (int64_t r = from; r <= first->state().steps; ++r) {
      first->ReadBasis(static_cast<size_t>(r), row.data());
      second->WriteBasis(static_cast<size_t>(r), row.data());
    }
    second->Restore(first->state());
    RunAll(*second, op);
    CHECK(SameState(second->state(), whole->state()));
    CHECK(second->state().steps == whole->state().steps);
  }
}

TEST(LanczosResumesBitForBit) {
  std::vector<double> values(700);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<double>(i * i));
  for (auto how : {Reorthogonalize::kCgs2, Reorthogonalize::kCgs1, Reorthogonalize::kPartial,
                   Reorthogonalize::kSelective, Reorthogonalize::kNone}) {
    CheckResume<float>(how, values);
    CheckResume<double>(how, values);
  }
  // With restarts.
  CheckResume<float>(Reorthogonalize::kCgs2, std::vector<double>(100, 3.0));
}

TEST(LanczosFeedEqualsStep) {
  std::vector<double> values(300);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 17);
  Rotated<float> op(values);
  auto stepped = Started<float>(Spec(DType::kF32, 300, 12));
  auto fed = Started<float>(Spec(DType::kF32, 300, 12));
  RunAll(*stepped, op);
  RunContext context(2);
  std::vector<float> product(300);
  while (!fed->Finished()) {
    op.Apply(fed->Current(), product.data(), 1, context, nullptr);
    fed->Feed(product.data(), context);
  }
  CHECK(SameState(stepped->state(), fed->state()));
}

TEST(LanczosCombinesRitzVectors) {
  std::vector<double> values(500, 0.0);
  for (size_t i = 0; i < 500; ++i)
    values[i] = i < 3 ? 20 - 4.0 * static_cast<double>(i) : 0.001 * static_cast<double>(i);
  Rotated<double> op(values);
  auto lanczos = Started<double>(Spec(DType::kF64, 500, 40));
  RunAll(*lanczos, op);
  const LanczosState& state = lanczos->state();
  // Eigenvector of T for its largest value: (16 / 20)^200 of anything else is left.
  std::vector<double> s(40, 1.0), t(40);
  for (int k = 0; k < 200; ++k) {
    for (size_t j = 0; j < 40; ++j) {
      t[j] = state.alpha[j] * s[j] + (j > 0 ? state.beta[j - 1] * s[j - 1] : 0) +
             (j + 1 < 40 ? state.beta[j] * s[j + 1] : 0);
    }
    Scale(1 / Norm(t.data(), 40, 1), t.data(), s.data(), 40, 1);
  }
  std::vector<double> out(500);
  RunContext context(2);
  lanczos->Combine(s.data(), 1, out.data(), context);
  const std::vector<double> expected = op.Eigenvector(0);
  CHECK_NEAR(std::fabs(Dot(out.data(), expected.data(), 500, 1)), 1, 1e-10);
}

TEST(LanczosRespectsPadding) {
  LanczosSpec spec = Spec(DType::kF32, 200, 4);
  spec.segments = Segments{{0, 64}, {50, 100}};
  auto lanczos = MakeLanczos(spec);
  std::vector<float> v(200, 1.0f), row(200);
  RunContext context(1);
  lanczos->Start(v.data(), context);
  lanczos->ReadBasis(0, row.data());
  CHECK(row[49] > 0 && row[50] == 0 && row[63] == 0 && row[64] > 0 && row[164] == 0);
  CHECK_NEAR(row[0], 1 / std::sqrt(150.0), 1e-7);
  for (size_t i = 0; i < 200; ++i) v[i] = static_cast<float>(i);
  lanczos->Feed(v.data(), context);
  lanczos->ReadBasis(1, row.data());
  CHECK(row[50] == 0 && row[199] == 0);
}

TEST(LanczosRejectsMisuse) {
  RunContext context(1);
  Rotated<float> op(std::vector<double>(64, 1.0)), other(std::vector<double>(65, 1.0));
  auto lanczos = MakeLanczos(Spec(DType::kF32, 64, 4));
  CHECK_THROWS(lanczos->Step(op, context), Code::kArgument);
  CHECK_THROWS(lanczos->Current(), Code::kArgument);
  std::vector<float> v(64, 0.0f);
  CHECK_THROWS(lanczos->Start(v.data(), context), Code::kArgument);
  v[3] = NAN;
  CHECK_THROWS(lanczos->Start(v.data(), context), Code::kNotFinite);
  v[3] = 1;
  lanczos->Start(v.data(), context);
  CHECK_THROWS(lanczos->Step(other, context), Code::kShape);
  CHECK_THROWS(lanczos->ReadBasis(1, v.data()), Code::kRange);
  std::vector<float> bad(64, INFINITY);
  CHECK_THROWS(lanczos->Feed(bad.data(), context), Code::kNotFinite);
  CHECK(lanczos->state().steps == 0);
  LanczosState state;
  state.steps = 2;
  CHECK_THROWS(lanczos->Restore(state), Code::kShape);
  state.alpha = state.beta = {1, 1};
  CHECK_THROWS(MakeLanczos(Spec(DType::kF32, 64, 4))->Restore(state), Code::kArgument);
  CHECK_THROWS(MakeLanczos(Spec(DType::kI32, 64, 4)), Code::kDType);
  CHECK_THROWS(MakeLanczos(Spec(DType::kF32, 64, 0)), Code::kArgument);
}

// A failed or cancelled product leaves the state as it was, and the step can be made again.
class Failing final : public NativeOperator {
 public:
  explicit Failing(NativeOperator& inner)
      : NativeOperator(inner.dtype(), inner.storage()), inner_(inner) {}
  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    inner_.Apply(in, out, count, context, progress);
    if (fail) throw Error(Code::kAborted, "Cancelled.");
    if (poison) *static_cast<double*>(out) = NAN;
  }
  bool fail = false;
  bool poison = false;

 private:
  NativeOperator& inner_;
};

TEST(LanczosStepCanBeRepeatedAfterAFailure) {
  std::vector<double> values(150);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
  Rotated<double> op(values);
  auto whole = Started<double>(Spec(DType::kF64, 150, 9));
  RunAll(*whole, op);
  auto broken = Started<double>(Spec(DType::kF64, 150, 9));
  Failing failing(op);
  RunContext context(2);
  for (int k = 0; !broken->Finished(); ++k) {
    failing.fail = k % 4 == 1;
    failing.poison = k % 4 == 2;
    if (failing.fail) {
      CHECK_THROWS(broken->Step(failing, context), Code::kAborted);
    } else if (failing.poison) {
      CHECK_THROWS(broken->Step(failing, context), Code::kNotFinite);
    } else {
      broken->Step(failing, context);
    }
  }
  CHECK(SameState(broken->state(), whole->state()));
}

TEST(ReorthogonalizationTimeIsMeasured) {
  const std::vector<double> seconds = ReorthogonalizationTime(5000, 10, 3, 2);
  CHECK(seconds.size() == 3);
  for (double s : seconds) CHECK(s > 0 && s < 1);
}

}  // namespace
}  // namespace losscape::test
