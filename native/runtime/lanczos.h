// Lanczos with reorthogonalisation as a resumable state machine.
//
//   w = A V[j];  (c, d, beta) = orthogonalise(w, V[0..j]);  alpha[j] = c[j] + d[j];
//   beta[j] = ||w||;  V[j+1] = w / beta[j]
//
// Thick restart (Wu and Simon 2000) keeps p Ritz vectors as rows 0 .. p - 1 and the last residual
// as row p. The projection of A is then no longer tridiagonal: alpha[i] is Ritz value i and beta[i]
// couples i and p, for i < p; from p on alpha and beta are as ever.
//
// The basis may be f32; coefficients, dots and norms are f64. A residual is a breakdown when
// beta <= breakdown * max(||A V[j]||, max over i < j of ||A V[i]|| / 100), the norms taken from T:
// the product of a vector near the null space is itself rounding of the size of ||A||, so nothing
// relative to it alone would ever be small. (A hundredth, because a bulk may lie that far below the
// outliers and is no rounding.) beta then becomes exactly 0 (T splits there) and, on `kRestart`, a
// fresh Philox vector orthogonal to the basis goes on; when none can be had (up to 3 draws) the
// space is exhausted. Without reorthogonalisation a breakdown always stops: there is no basis to
// make a fresh vector orthogonal to.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "native/cpu/vector.h"
#include "native/runtime/operator.h"
#include "native/runtime/overlap.h"

namespace losscape {

enum class Reorthogonalize { kCgs2, kCgs1, kPartial, kSelective, kNone };
enum class OnBreakdown { kStop, kRestart };

struct LanczosSpec {
  DType dtype = DType::kF32;
  size_t storage = 0;
  Segments segments;
  size_t maxSteps = 0;  // columns of the projection; more products take a restart
  Reorthogonalize reorthogonalize = Reorthogonalize::kCgs2;
  double breakdown = 0;
  OnBreakdown onBreakdown = OnBreakdown::kRestart;
  uint64_t seed = 0;
  uint64_t stream = 0;
};

struct LanczosState {
  int64_t steps = 0;     // columns of T
  int64_t kept = 0;      // of these, Ritz vectors kept by the last restart
  int64_t products = 0;  // products in all
  int64_t restarts = 0;
  int64_t breakdowns = 0;            // residuals that vanished
  int64_t reorthogonalizations = 0;  // vectors made orthogonal to more than the last two
  std::vector<double> alpha;         // [steps]
  std::vector<double> beta;  // [steps]; beta[j] couples j and j + 1, the last is the residual norm
  double asymmetry = 0;      // largest |c[j-1] - beta[j-1]|
  double noise = 0;          // largest |c[i]|, i < j - 1, where it was taken
  int64_t invariantSubspaceAt = -1;
  bool exhausted = false;
  OverlapEstimate estimate;  // kPartial and kSelective
};

class NativeLanczos {
 public:
  virtual ~NativeLanczos() = default;

  virtual const LanczosSpec& spec() const = 0;
  virtual const LanczosState& state() const = 0;
  // No further step can be made: maxSteps reached, exhausted, or stopped by a breakdown.
  virtual bool Finished() const = 0;

  // V[0] = vector / ||vector||, all else forgotten. Throws Error{ERR_ARGUMENT} for a zero vector
  // and Error{ERR_NOT_FINITE} for one with a NaN.
  virtual void Start(const void* vector, RunContext& context) = 0;
  // One product and its reorthogonalisation. Nothing is changed when it throws (the operator
  // failed, was cancelled: ERR_ABORTED, or gave a NaN: ERR_NOT_FINITE), so it can be repeated.
  // Throws Error{ERR_ARGUMENT} before Start and when Finished.
  virtual void Step(NativeOperator& op, RunContext& context) = 0;
  // Thick restart: rows 0 .. count - 1 become sum_j coefficients[k * steps + j] V[j], which must be
  // eigenvectors of the projection, with `values`; row count becomes Current(). Throws
  // Error{ERR_ARGUMENT} unless 1 <= count < steps, with kCgs2 or kCgs1 only, and when exhausted.
  virtual void Restart(const double* coefficients, const double* values, size_t count,
                       RunContext& context) = 0;
  // The vector that the operator is to be applied to next, `storage` elements.
  virtual const void* Current() const = 0;
  // Step with the product of Current() given.
  virtual void Feed(const void* product, RunContext& context) = 0;

  // Basis rows 0 .. steps (row `steps` is Current()); without reorthogonalisation only rows
  // steps - 1 and steps exist. WriteBasis and then Restore resume bit for bit.
  virtual void ReadBasis(size_t row, void* target) const = 0;
  virtual void WriteBasis(size_t row, const void* source) = 0;
  virtual void Restore(const LanczosState& state) = 0;

  // out[k] = sum_j coefficients[k * steps + j] V[j], j < steps.
  virtual void Combine(const double* coefficients, size_t count, void* out,
                       RunContext& context) = 0;
  // V V^T of rows 0 .. steps - 1, [steps, steps].
  virtual std::vector<double> Gram(RunContext& context) = 0;
  // max |V V^T - I| over rows 0 .. steps - 1.
  virtual double Orthogonality(RunContext& context) = 0;
  // Any thread.
  virtual size_t BasisBytes() const = 0;
};

std::unique_ptr<NativeLanczos> MakeLanczos(LanczosSpec spec);

// Seconds per reorthogonalisation (two passes) of an f32 vector against `rows` rows, `repeats` of
// them, each in the place it has in a run: everything is known of the rows but the newest.
std::vector<double> ReorthogonalizationTime(size_t storage, size_t rows, size_t repeats,
                                            int threads);

}  // namespace losscape
