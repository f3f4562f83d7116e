// Conjugate gradients (Hestenes and Stiefel 1952) on (A + damping I) x = b, preconditioned with a
// diagonal. Sums are f64, vectors have the operator's dtype. The recurrence's residual drifts from
// the true one, so that the end is decided by a true residual: where it is not small enough, the
// iteration starts again from it.
#include <cmath>
#include <limits>
#include <utility>

#include "native/runtime/error.h"
#include "native/runtime/memory.h"
#include "native/runtime/parallel.h"
#include "native/runtime/wrapped_operator.h"

namespace losscape {
namespace {

template <typename T>
class InverseOperator final : public NativeOperator {
 public:
  InverseOperator(std::shared_ptr<NativeOperator> base, InverseOptions options)
      : NativeOperator(base->dtype(), base->storage()),
        base_(std::move(base)),
        options_(std::move(options)) {}

  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    const ScratchLease<Scratch> scratch(idle_);
    const size_t n = storage();
    T* memory = ReserveElements<T>(scratch->memory, 4 * n);
    Vectors vectors{memory, memory + n, memory + 2 * n, memory + 3 * n};
    if (options_.preconditioner.empty()) vectors.z = vectors.r;
    for (size_t r = 0; r < static_cast<size_t>(count); ++r) {
      const size_t at = r * n;
      Solve(static_cast<const T*>(in) + at, static_cast<T*>(out) + at, vectors, context);
      if (progress) progress(r + 1, static_cast<size_t>(count));
    }
  }

  void Invalidate() override { base_->Invalidate(); }
  size_t KeptBytes() const override { return base_->KeptBytes(); }

 private:
  struct Scratch {
    Allocation memory;
  };
  struct Vectors {
    T *r, *p, *product, *z;
  };

  void Solve(const T* b, T* x, const Vectors& v, RunContext& context) {
    const size_t n = storage();
    const int threads = context.threads();
    const double size = Norm(b, n, threads);
    if (!std::isfinite(size)) {
      throw Error(Code::kNotFinite, "The right-hand side of conjugate gradients is not finite.");
    }
    Zero(x, n, threads);
    Copy(b, v.r, n, threads);
    size_t iterations = 0;
    double residual = size;
    double operatorNorm = 0;
    while (residual > Limit(size, operatorNorm, x, threads)) {
      if (iterations >= options_.maxIterations) return Fail(residual / size, iterations);
      Iterate(size, x, v, &iterations, &operatorNorm, context);
      Product(x, v.product, context);
      Copy(b, v.r, n, threads);
      Axpy(-1.0, v.product, v.r, n, threads);
      const double before = residual;
      residual = Norm(v.r, n, threads);
      if (!std::isfinite(residual)) ThrowNotFinite();
      // What a restart does not halve is rounding.
      const bool done = residual <= Limit(size, operatorNorm, x, threads);
      if (!done && residual > 0.5 * before) return Fail(residual / size, iterations);
    }
  }

  double Limit(double size, double operatorNorm, const T* x, int threads) const {
    const double epsilon = std::numeric_limits<T>::epsilon();
    const double rounding = 10 * epsilon * operatorNorm * Norm(x, storage(), threads);
    return std::max(options_.tol * size, rounding);
  }

  // From the true residual v.r until the recurrence says that it is small.
  void Iterate(double size, T* x, const Vectors& v, size_t* iterations, double* operatorNorm,
               RunContext& context) {
    const size_t n = storage();
    const int threads = context.threads();
    Precondition(v, threads);
    Copy(v.z, v.p, n, threads);
    double rz = Dot(v.r, v.z, n, threads);
    while (*iterations < options_.maxIterations) {
      Product(v.p, v.product, context);
      ++*iterations;
      const double length = Norm(v.p, n, threads);
      const double energy = Dot(v.p, v.product, n, threads);
      if (!std::isfinite(energy)) ThrowNotFinite();
      if (!(energy > 0)) {
        throw Error(Code::kOperator, "Conjugate gradients found a direction of curvature ",
                    energy / (length * length),
                    ": A + damping I is not positive definite. Use a larger damping than ",
                    options_.damping, ".");
      }
      *operatorNorm = std::max(*operatorNorm, Norm(v.product, n, threads) / length);
      const double step = rz / energy;
      Axpy(step, v.p, x, n, threads);
      Axpy(-step, v.product, v.r, n, threads);
      if (Norm(v.r, n, threads) <= Limit(size, *operatorNorm, x, threads)) return;
      Precondition(v, threads);
      const double next = Dot(v.r, v.z, n, threads);
      Scale(next / rz, v.p, v.p, n, threads);
      Axpy(1.0, v.z, v.p, n, threads);
      rz = next;
      context.Yield();
    }
  }

  void Product(const T* x, T* y, RunContext& context) {
    base_->Apply(x, y, 1, context);
    if (options_.damping != 0) Axpy(options_.damping, x, y, storage(), context.threads());
  }

  // z = M^-1 r
  void Precondition(const Vectors& v, int threads) const {
    if (options_.preconditioner.empty()) return;
    const double* m = options_.preconditioner.data();
    ParallelFor(threads, static_cast<int64_t>(storage()), 32768,
                [&](int64_t begin, int64_t end, int) {
                  for (int64_t i = begin; i < end; ++i) v.z[i] = static_cast<T>(v.r[i] / m[i]);
                });
  }

  void Fail(double residual, size_t iterations) const {
    if (options_.allowUnconverged) return;
    throw Error(Code::kOperator, "Conjugate gradients stopped at a relative residual of ", residual,
                " after ", iterations, " iterations, which is above tol = ", options_.tol,
                ". Raise maxIterations, damping or tol, use f64, or set allowUnconverged.");
  }

  [[noreturn]] static void ThrowNotFinite() {
    throw Error(Code::kNotFinite, "A product of conjugate gradients is not finite.");
  }

  std::shared_ptr<NativeOperator> base_;
  InverseOptions options_;
  std::unique_ptr<Scratch> idle_;
};

}  // namespace

std::unique_ptr<NativeOperator> MakeInverseOperator(std::shared_ptr<NativeOperator> base,
                                                    InverseOptions options) {
  const size_t given = options.preconditioner.size();
  if (given != 0 && given != base->storage()) {
    throw Error(Code::kShape, "Operator: expected ", base->storage(),
                " elements of the preconditioner, got ", given, ".");
  }
  if (base->dtype() == DType::kF64) {
    return std::make_unique<InverseOperator<double>>(std::move(base), std::move(options));
  }
  return std::make_unique<InverseOperator<float>>(std::move(base), std::move(options));
}

}  // namespace losscape
