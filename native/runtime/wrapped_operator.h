// Operators made from other operators. A wrapper shares its bases: they live as long as it does.
// Blocks of vectors reach the bases as blocks.
#pragma once

#include <memory>
#include <vector>

#include "native/runtime/operator.h"

namespace losscape {

// Padding of `vector` and `diagonal` (device storage) must be zero, as it is in every vector.

struct OperatorTerm {
  std::shared_ptr<NativeOperator> base;
  double factor = 1;
};

struct RankOneTerm {
  std::vector<double> vector;
  double factor = 1;
};

// sum_i f_i A_i + identity I + sum_j c_j u_j u_j^T. At least one A; all of one dtype and storage.
// Throws Error{ERR_ARGUMENT, ERR_DTYPE, ERR_SHAPE}.
std::unique_ptr<NativeOperator> MakeSumOperator(std::vector<OperatorTerm> terms, double identity,
                                                const std::vector<RankOneTerm>& rankOne);

// A A
std::unique_ptr<NativeOperator> MakeSquareOperator(std::shared_ptr<NativeOperator> base);

// D A D with D = diag(diagonal).
std::unique_ptr<NativeOperator> MakeCongruenceOperator(std::shared_ptr<NativeOperator> base,
                                                       const std::vector<double>& diagonal);

struct InverseOptions {
  double damping = 0;
  double tol = 0;  // of ||b - (A + damping I) x|| / ||b||
  size_t maxIterations = 0;
  bool allowUnconverged = false;
  // Diagonal of M, near A + damping I and positive; padding holds ones. Empty: none.
  std::vector<double> preconditioner;
};

// (A + damping I)^-1 by conjugate gradients, one right-hand side after another. Apply throws
// Error{ERR_OPERATOR} for a direction whose curvature is not positive and, unless
// allowUnconverged, for a residual that stays above max(tol ||b||, 10 eps ||A|| ||x||).
std::unique_ptr<NativeOperator> MakeInverseOperator(std::shared_ptr<NativeOperator> base,
                                                    InverseOptions options);

// Memory that one Apply at a time takes; an Apply that is served inside another has its own.
template <typename Scratch>
class ScratchLease {
 public:
  explicit ScratchLease(std::unique_ptr<Scratch>& idle) : idle_(idle), scratch_(std::move(idle)) {
    if (!scratch_) scratch_ = std::make_unique<Scratch>();
  }
  ~ScratchLease() { idle_ = std::move(scratch_); }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  Scratch* operator->() const { return scratch_.get(); }

 private:
  std::unique_ptr<Scratch>& idle_;
  std::unique_ptr<Scratch> scratch_;
};

// `count` elements of T, not initialised, in memory that grows as needed.
template <typename T>
T* ReserveElements(Allocation& memory, size_t count) {
  if (memory.bytes() < count * sizeof(T)) {
    memory = Allocation();
    memory = Allocation("operator", count * sizeof(T));
  }
  return reinterpret_cast<T*>(memory.data());
}

}  // namespace losscape
