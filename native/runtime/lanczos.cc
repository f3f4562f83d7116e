#include "native/runtime/lanczos.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "native/cpu/combine.h"
#include "native/cpu/gram_schmidt.h"
#include "native/cpu/rotate_rows.h"
#include "native/runtime/basis.h"
#include "native/runtime/error.h"
#include "native/runtime/probe.h"
#include "native/runtime/semi_orthogonal.h"

namespace losscape {
namespace {

// A vector that keeps this part of its norm in a pass of Gram-Schmidt needs no further one.
constexpr double kEnough = 0.7;

template <typename T>
class Lanczos final : public NativeLanczos {
 public:
  explicit Lanczos(LanczosSpec spec)
      : spec_(std::move(spec)),
        logical_(spec_.segments.Logical()),
        local_(spec_.reorthogonalize == Reorthogonalize::kNone),
        semi_(spec_.reorthogonalize == Reorthogonalize::kPartial ||
              spec_.reorthogonalize == Reorthogonalize::kSelective),
        basis_(spec_.storage, local_ ? 3 : spec_.maxSteps + 1),
        semiOrthogonalizer_(spec_.storage, spec_.maxSteps,
                            spec_.reorthogonalize == Reorthogonalize::kSelective) {
    spec_.segments.Check(spec_.storage);
    if (logical_ == 0 || spec_.maxSteps == 0) {
      throw Error(Code::kArgument,
                  "Lanczos: expected at least one element and one step, got a vector of ", logical_,
                  " elements and ", spec_.maxSteps, " steps.");
    }
    if (!(spec_.breakdown >= 0 && spec_.breakdown < 1)) {
      throw Error(Code::kArgument, "Lanczos: expected a breakdown threshold in [0, 1), got ",
                  spec_.breakdown, ".");
    }
  }

  const LanczosSpec& spec() const override { return spec_; }
  const LanczosState& state() const override { return state_; }

  bool Finished() const override {
    if (!started_) return false;
    const bool split = state_.steps > 0 && state_.beta.back() == 0;
    return static_cast<size_t>(state_.steps) >= spec_.maxSteps || state_.exhausted ||
           (split && !Restarts());
  }

  void Start(const void* vector, RunContext& context) override {
    const Busy busy(*this);
    const int threads = context.threads();
    started_ = false;
    basis_.Reserve(1);
    T* first = basis_.row(0);
    Copy(static_cast<const T*>(vector), first, spec_.storage, threads);
    ZeroPadding(spec_.segments, first, spec_.storage);
    const double norm = Norm(first, spec_.storage, threads);
    if (!std::isfinite(norm)) {
      throw Error(Code::kNotFinite,
                  "Lanczos: expected a finite start vector, got one with NaN or infinity.");
    }
    if (norm == 0) {
      throw Error(Code::kArgument, "Lanczos: expected a start vector that is not zero.");
    }
    Scale(1 / norm, first, first, spec_.storage, threads);
    Forget(0);
    state_ = LanczosState();
    started_ = true;
  }

  void Step(NativeOperator& op, RunContext& context) override {
    const Busy busy(*this);
    if (op.storage() != spec_.storage || op.dtype() != spec_.dtype) {
      throw Error(Code::kShape, "Lanczos: expected an operator on ", spec_.storage, " elements of ",
                  Name(spec_.dtype), ", got one on ", op.storage(), " elements of ",
                  Name(op.dtype()), ".");
    }
    T* w = Next();
    op.Apply(CurrentRow(), w, 1, context);
    Advance(w, context);
  }

  const void* Current() const override {
    if (!started_) throw NotStarted();
    return CurrentRow();
  }

  void Feed(const void* product, RunContext& context) override {
    const Busy busy(*this);
    T* w = Next();
    Copy(static_cast<const T*>(product), w, spec_.storage, context.threads());
    ZeroPadding(spec_.segments, w, spec_.storage);
    Advance(w, context);
  }

  void ReadBasis(size_t row, void* target) const override {
    const size_t steps = static_cast<size_t>(state_.steps);
    if (!started_ || row > steps || (local_ && row + 1 < steps)) {
      throw Error(Code::kRange, "Lanczos: expected a basis row from ",
                  local_ && steps > 0 ? steps - 1 : 0, " to ", steps, ", got ", row, ".");
    }
    std::memcpy(target, basis_.row(Slot(row)), spec_.storage * sizeof(T));
  }

  void WriteBasis(size_t row, const void* source) override {
    const Busy busy(*this);
    if (row > spec_.maxSteps) {
      throw Error(Code::kRange, "Lanczos: expected a basis row from 0 to ", spec_.maxSteps,
                  ", got ", row, ".");
    }
    basis_.Reserve(Slot(row) + 1);
    T* target = basis_.row(Slot(row));
    std::memcpy(target, source, spec_.storage * sizeof(T));
    ZeroPadding(spec_.segments, target, spec_.storage);
    Forget(row);
  }

  void Restore(const LanczosState& state) override {
    const Busy busy(*this);
    const size_t steps = static_cast<size_t>(state.steps);
    if (state.steps < 0 || steps > spec_.maxSteps || state.alpha.size() != steps ||
        state.beta.size() != steps || state.kept < 0 || state.kept > state.steps) {
      throw Error(Code::kShape, "Lanczos: expected as many alpha and beta as steps, at most ",
                  spec_.maxSteps, ", got ", state.steps, " steps, ", state.alpha.size(),
                  " alpha and ", state.beta.size(), " beta.");
    }
    // The row after an exhausted space holds nothing that would be worth writing.
    const size_t rows = local_ ? std::min<size_t>(3, steps + 1) : steps + (state.exhausted ? 0 : 1);
    if (basis_.count() < rows) {
      throw Error(Code::kArgument, "Lanczos: expected basis rows up to ", rows,
                  " to be written before the state is restored.");
    }
    if (semi_) CheckEstimate(state);
    basis_.Reserve(local_ ? 3 : steps + 1);
    semiOrthogonalizer_.Reset();
    state_ = state;
    started_ = true;
  }

  void Combine(const double* coefficients, size_t count, void* out, RunContext& context) override {
    ExpectBasis("combine basis rows");
    CombineRows(basis_.rows(), static_cast<size_t>(state_.steps), coefficients, count,
                static_cast<T*>(out), spec_.storage, spec_.storage, context.threads());
  }

  std::vector<double> Gram(RunContext& context) override {
    ExpectBasis("measure orthogonality");
    const size_t steps = static_cast<size_t>(state_.steps);
    GramSchmidt<T> kernel;
    std::vector<double> gram(steps * steps), row(steps);
    for (size_t k = 0; k < steps; ++k) {
      context.Yield();
      kernel.Project(basis_.rows(), k + 1, basis_.row(k), basis_.stride(), row.data(),
                     context.threads());
      for (size_t i = 0; i <= k; ++i) gram[k * steps + i] = gram[i * steps + k] = row[i];
    }
    return gram;
  }

  double Orthogonality(RunContext& context) override {
    const std::vector<double> gram = Gram(context);
    const size_t steps = static_cast<size_t>(state_.steps);
    double worst = 0;
    for (size_t at = 0; at < gram.size(); ++at) {
      worst = std::max(worst, std::fabs(gram[at] - (at / steps == at % steps ? 1 : 0)));
    }
    return worst;
  }

  void Restart(const double* coefficients, const double* values, size_t count,
               RunContext& context) override {
    const Busy busy(*this);
    ExpectBasis("restart");
    const size_t steps = static_cast<size_t>(state_.steps);
    if (semi_ || state_.exhausted || count < 1 || count >= steps) {
      throw Error(Code::kArgument, "Lanczos: expected a restart with 1 to ", steps,
                  " - 1 vectors of a basis under 'cgs2' or 'cgs1' that can go on, got ", count,
                  ".");
    }
    const int threads = context.threads();
    LanczosState next = state_;
    next.alpha.assign(values, values + count);
    next.beta.clear();
    for (size_t k = 0; k < count; ++k) {
      next.beta.push_back(state_.beta.back() * coefficients[k * steps + steps - 1]);
    }
    next.steps = next.kept = static_cast<int64_t>(count);
    next.restarts += 1;

    RotateRows(basis_.mutableRows(), steps, coefficients, count, spec_.storage, threads);
    T* w = basis_.row(count);
    Copy(basis_.row(steps), w, spec_.storage, threads);
    gramSchmidt_.Truncate(0);
    std::vector<double> removed(count);
    const GramSchmidtNorms norms =
        gramSchmidt_.Twice(basis_.rows(), count, w, basis_.stride(), removed.data(), threads);
    if (norms.after > 0.5 * norms.before) {
      Scale(1 / norms.after, w, w, spec_.storage, threads);
    } else {
      // It lay among the rows: what was coupled to it is coupled to nothing.
      std::fill(next.beta.begin(), next.beta.end(), 0.0);
      if (!Refresh(count, w, threads)) next.exhausted = true;
    }
    state_ = std::move(next);
  }

  size_t BasisBytes() const override { return basis_.Bytes() + semiOrthogonalizer_.Bytes(); }

 private:
  // A product yields to urgent jobs; one of them must not change what this step works on.
  class Busy {
   public:
    explicit Busy(Lanczos& owner) : owner_(owner) {
      if (owner.busy_) {
        throw Error(Code::kArgument,
                    "Lanczos: expected no step to be under way; wait for run to settle.");
      }
      owner.busy_ = true;
    }
    ~Busy() { owner_.busy_ = false; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    Lanczos& owner_;
  };

  static Error NotStarted() {
    return Error(Code::kArgument, "Lanczos: expected a start vector before the first step.");
  }

  // Without the basis a fresh vector cannot be made orthogonal to what was found.
  bool Restarts() const { return spec_.onBreakdown == OnBreakdown::kRestart && !local_; }

  // Rows from `row` on change.
  void Forget(size_t row) {
    gramSchmidt_.Truncate(row);
    semiOrthogonalizer_.Reset();
  }

  static void CheckEstimate(const LanczosState& state) {
    const size_t steps = static_cast<size_t>(state.steps);
    bool fits = state.estimate.current.size() == steps &&
                state.estimate.previous.size() + (steps > 0 ? 1 : 0) == steps;
    for (const ConvergedRitz& ritz : state.estimate.ritz) {
      fits =
          fits && ritz.at >= 1 && ritz.at <= state.steps && ritz.index >= 0 && ritz.index < ritz.at;
    }
    if (!fits) {
      throw Error(Code::kShape, "Lanczos: expected the estimates of overlaps that belong to ",
                  steps, " steps of a run with the same reorthogonalisation.");
    }
  }

  size_t Slot(size_t row) const { return local_ ? row % 3 : row; }
  T* CurrentRow() const { return basis_.row(Slot(static_cast<size_t>(state_.steps))); }

  void ExpectBasis(const char* what) const {
    if (local_) {
      throw Error(Code::kArgument, "Lanczos: expected a reorthogonalization to ", what,
                  ", because 'none' keeps no basis.");
    }
    if (!started_) throw NotStarted();
  }

  // Where the product of the current vector goes; also the place of the vector after it.
  T* Next() {
    if (!started_) throw NotStarted();
    if (Finished()) {
      throw Error(Code::kArgument, "Lanczos: expected a run that can go on, but ", state_.steps,
                  " of ", spec_.maxSteps, " steps are done",
                  state_.exhausted ? " and the space is exhausted." : ".");
    }
    const size_t slot = Slot(static_cast<size_t>(state_.steps) + 1);
    basis_.Reserve(slot + 1);
    return basis_.row(slot);
  }

  // One pass, and a second one where most of w cancels: what is left is rounding of the rest then.
  GramSchmidtNorms OnceOrTwice(size_t count, T* w, std::vector<double>& removed, int threads) {
    const size_t stride = basis_.stride();
    const GramSchmidtNorms first =
        gramSchmidt_.Once(basis_.rows(), count, w, stride, removed.data(), threads);
    if (first.after > kEnough * first.before) return first;
    std::vector<double> more(removed.size());
    const GramSchmidtNorms second =
        gramSchmidt_.Once(basis_.rows(), count, w, stride, more.data(), threads);
    for (size_t i = 0; i < count; ++i) removed[i] += more[i];
    return {first.before, second.after};
  }

  GramSchmidtNorms Orthogonalize(size_t j, T* w, std::vector<double>& removed, LanczosState* next,
                                 int threads) {
    const size_t stride = basis_.stride();
    bool reorthogonalized = j > 1;
    if (semi_) {
      const GramSchmidtNorms norms =
          semiOrthogonalizer_.Orthogonalize(basis_, {state_.alpha, state_.beta}, w, removed,
                                            &next->estimate, &reorthogonalized, threads);
      next->reorthogonalizations += reorthogonalized;
      return norms;
    }
    next->reorthogonalizations += reorthogonalized && !local_;
    switch (spec_.reorthogonalize) {
      case Reorthogonalize::kCgs2:
        return gramSchmidt_.Twice(basis_.rows(), j + 1, w, stride, removed.data(), threads);
      case Reorthogonalize::kCgs1:
        return OnceOrTwice(j + 1, w, removed, threads);
      default:
        break;
    }
    const size_t count = j > 0 ? 2 : 1;
    const T* rows[2] = {basis_.row(Slot(j - (count - 1))), basis_.row(Slot(j))};
    return gramSchmidt_.Once(rows, count, w, stride, removed.data() + (j + 1 - count), threads);
  }

  void Advance(T* w, RunContext& context) {
    const size_t j = static_cast<size_t>(state_.steps);
    const int threads = context.threads();
    std::vector<double> removed(j + 1, 0.0);
    LanczosState next = state_;
    const GramSchmidtNorms norms = Orthogonalize(j, w, removed, &next, threads);
    if (!std::isfinite(norms.before) || !std::isfinite(norms.after)) {
      // Orthogonalisation spread it over the row's padding too, which no product writes again.
      std::fill_n(w, basis_.stride(), T{0});
      throw Error(Code::kNotFinite, "Lanczos: expected a finite product at step ", j,
                  ", got one with NaN or infinity. Check the parameters and the data.");
    }
    // Row kept couples to all Ritz vectors, any other to the one before it.
    const size_t kept = static_cast<size_t>(next.kept);
    const size_t coupled = j == kept ? 0 : j - 1;
    for (size_t i = coupled; i < j; ++i) {
      next.asymmetry = std::max(next.asymmetry, std::fabs(removed[i] - next.beta[i]));
    }
    for (size_t i = 0; i < coupled; ++i) next.noise = std::max(next.noise, std::fabs(removed[i]));
    next.steps += 1;
    next.products += 1;
    next.alpha.push_back(removed[j]);
    next.beta.push_back(norms.after);

    const bool full = j + 1 >= logical_;
    if (full || norms.after <= spec_.breakdown * std::max(norms.before, 0.01 * Largest())) {
      next.beta.back() = 0;
      next.breakdowns += 1;
      if (semi_) semiOrthogonalizer_.Replaced(&next.estimate);
      if (next.invariantSubspaceAt < 0) next.invariantSubspaceAt = static_cast<int64_t>(j);
      if (full || (Restarts() && !Refresh(j + 1, w, threads))) next.exhausted = true;
      if (next.exhausted || !Restarts()) std::fill_n(w, basis_.stride(), T{0});
    } else {
      Scale(1 / norms.after, w, w, spec_.storage, threads);
    }
    state_ = std::move(next);
  }

  // The largest ||A V[i]|| of the steps done, from T: a lower bound of ||A||.
  double Largest() const {
    double largest = 0;
    for (size_t i = 0; i < state_.alpha.size(); ++i) {
      largest = std::max(largest, std::hypot(state_.alpha[i], state_.beta[i]));
    }
    return largest;
  }

  // w = a random unit vector orthogonal to the first `count` rows; false when none can be had.
  bool Refresh(size_t count, T* w, int threads) {
    // Streams of their own, by product and draw, so that a resumed run draws the same.
    constexpr uint64_t kFresh = uint64_t{1} << 63;
    constexpr uint64_t kDraws = 3;
    const double vanished = 100 * static_cast<double>(std::numeric_limits<T>::epsilon());
    const uint64_t product = static_cast<uint64_t>(state_.products) + 1;
    std::vector<double> removed(count);
    for (uint64_t draw = 0; draw < kDraws; ++draw) {
      const uint64_t stream = (kFresh | ((product * 4 + draw) << 40)) ^ spec_.stream;
      FillProbe(ProbeKind::kNormal, spec_.seed, stream, spec_.segments, w, spec_.storage, threads);
      double left = 1;
      for (int pass = 0; pass < 2 && left > vanished; ++pass) {
        const GramSchmidtNorms norms =
            gramSchmidt_.Twice(basis_.rows(), count, w, basis_.stride(), removed.data(), threads);
        left = norms.before > 0 ? norms.after / norms.before : 0;
        if (left > vanished) Scale(1 / norms.after, w, w, spec_.storage, threads);
      }
      if (left > vanished) return true;
    }
    return false;
  }

  LanczosSpec spec_;
  size_t logical_;
  bool local_;  // three rows, row i in place i % 3
  bool semi_;   // reorthogonalisation when the estimate asks for it
  Basis<T> basis_;
  SemiOrthogonalizer<T> semiOrthogonalizer_;
  GramSchmidt<T> gramSchmidt_;
  LanczosState state_;
  bool started_ = false;
  bool busy_ = false;
};

}  // namespace

std::unique_ptr<NativeLanczos> MakeLanczos(LanczosSpec spec) {
  switch (spec.dtype) {
    case DType::kF32:
      return std::make_unique<Lanczos<float>>(std::move(spec));
    case DType::kF64:
      return std::make_unique<Lanczos<double>>(std::move(spec));
    default:
      throw Error(Code::kDType, "Lanczos: expected f32 or f64, got ", Name(spec.dtype), ".");
  }
}

std::vector<double> ReorthogonalizationTime(size_t storage, size_t rows, size_t repeats,
                                            int threads) {
  if (storage == 0 || rows == 0) {
    throw Error(Code::kArgument, "Expected at least one element and one row, got ", storage,
                " and ", rows, ".");
  }
  Basis<float> basis(storage, rows + 1);
  basis.Reserve(rows + 1);
  const Segments all{{0}, {storage}};
  const double scale = 1 / std::sqrt(static_cast<double>(storage));
  for (size_t r = 0; r < rows; ++r) {
    FillProbe(ProbeKind::kRademacher, 0, r, all, basis.row(r), storage, threads);
    Scale(scale, basis.row(r), basis.row(r), storage, threads);
  }
  float* w = basis.row(rows);
  GramSchmidt<float> kernel;
  std::vector<double> removed(rows);
  std::vector<double> seconds;
  // The first one also takes the products of earlier rows, which a run has at that point.
  for (size_t k = 0; k <= repeats; ++k) {
    FillProbe(ProbeKind::kRademacher, 0, rows, all, w, storage, threads);
    kernel.Truncate(rows - 1);
    const auto start = std::chrono::steady_clock::now();
    kernel.Twice(basis.rows(), rows, w, basis.stride(), removed.data(), threads);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (k > 0) seconds.push_back(elapsed.count());
  }
  return seconds;
}

}  // namespace losscape
