#include "native/runtime/wrapped_operator.h"

#include <algorithm>
#include <utility>

#include "native/cpu/multiply.h"
#include "native/runtime/error.h"
#include "native/runtime/memory.h"

namespace losscape {
namespace {

// Rows of intermediate results that are held at a time.
constexpr int kRows = 64;

// Progress of part `part` of `parts` products that make up one.
OperatorProgress Part(const OperatorProgress& progress, size_t part, size_t parts) {
  if (!progress) return nullptr;
  return [&progress, part, parts](size_t done, size_t total) {
    progress(part * total + done, parts * total);
  };
}

// Calls body(first row, rows, group, groups) for blocks of at most kRows rows.
template <typename Body>
void ForGroups(int count, Body&& body) {
  const size_t groups = static_cast<size_t>((count + kRows - 1) / kRows);
  for (size_t group = 0; group < groups; ++group) {
    const int first = static_cast<int>(group) * kRows;
    body(static_cast<size_t>(first), std::min(kRows, count - first), group, groups);
  }
}

template <typename T>
Allocation Narrowed(const std::vector<double>& values) {
  Allocation memory("operator", values.size() * sizeof(T));
  T* out = reinterpret_cast<T*>(memory.data());
  for (size_t i = 0; i < values.size(); ++i) out[i] = static_cast<T>(values[i]);
  return memory;
}

void ExpectStorage(const NativeOperator& base, const char* what, size_t elements) {
  if (elements == base.storage()) return;
  throw Error(Code::kShape, "Operator: expected ", base.storage(), " elements of ", what, ", got ",
              elements, ".");
}

struct OneBlock {
  Allocation memory;
};

template <typename T>
class SumOperator final : public NativeOperator {
 public:
  SumOperator(std::vector<OperatorTerm> terms, double identity,
              const std::vector<RankOneTerm>& rankOne)
      : NativeOperator(terms.front().base->dtype(), terms.front().base->storage()),
        terms_(std::move(terms)),
        identity_(identity) {
    for (const RankOneTerm& term : rankOne) {
      ExpectStorage(*this, "a rank-one vector", term.vector.size());
      vectors_.push_back({Narrowed<T>(term.vector), term.factor});
    }
  }

  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    const size_t n = storage();
    const int threads = context.threads();
    const ScratchLease<OneBlock> scratch(idle_);
    ForGroups(count, [&](size_t first, int rows, size_t group, size_t groups) {
      const T* x = static_cast<const T*>(in) + first * n;
      T* y = static_cast<T*>(out) + first * n;
      const size_t all = static_cast<size_t>(rows) * n;
      T* product = terms_.size() > 1 ? ReserveElements<T>(scratch->memory, all) : nullptr;
      for (size_t k = 0; k < terms_.size(); ++k) {
        T* target = k == 0 ? y : product;
        const OperatorProgress part =
            Part(progress, group * terms_.size() + k, groups * terms_.size());
        terms_[k].base->Apply(x, target, rows, context, part);
        if (k > 0) {
          Axpy(terms_[k].factor, target, y, all, threads);
        } else if (terms_[k].factor != 1) {
          Scale(terms_[k].factor, y, y, all, threads);
        }
      }
      if (identity_ != 0) Axpy(identity_, x, y, all, threads);
      for (const auto& [memory, factor] : vectors_) {
        const T* u = reinterpret_cast<const T*>(memory.data());
        for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
          Axpy(factor * Dot(u, x + r * n, n, threads), u, y + r * n, n, threads);
        }
      }
      context.Yield();
    });
  }

  void Invalidate() override {
    for (const OperatorTerm& term : terms_) term.base->Invalidate();
  }

  size_t KeptBytes() const override {
    size_t bytes = 0;
    for (const OperatorTerm& term : terms_) bytes += term.base->KeptBytes();
    return bytes;
  }

 private:
  struct Vector {
    Allocation memory;
    double factor;
  };

  std::vector<OperatorTerm> terms_;
  double identity_;
  std::vector<Vector> vectors_;
  std::unique_ptr<OneBlock> idle_;
};

// Common to wrappers of a single operator.
class Wrapper : public NativeOperator {
 public:
  explicit Wrapper(std::shared_ptr<NativeOperator> base)
      : NativeOperator(base->dtype(), base->storage()), base_(std::move(base)) {}
  void Invalidate() override { base_->Invalidate(); }
  size_t KeptBytes() const override { return base_->KeptBytes(); }

 protected:
  std::shared_ptr<NativeOperator> base_;
  std::unique_ptr<OneBlock> idle_;
};

template <typename T>
class SquareOperator final : public Wrapper {
 public:
  using Wrapper::Wrapper;

  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    const size_t n = storage();
    const ScratchLease<OneBlock> scratch(idle_);
    ForGroups(count, [&](size_t first, int rows, size_t group, size_t groups) {
      const T* x = static_cast<const T*>(in) + first * n;
      T* y = static_cast<T*>(out) + first * n;
      T* once = ReserveElements<T>(scratch->memory, static_cast<size_t>(rows) * n);
      base_->Apply(x, once, rows, context, Part(progress, 2 * group, 2 * groups));
      base_->Apply(once, y, rows, context, Part(progress, 2 * group + 1, 2 * groups));
    });
  }
};

template <typename T>
class CongruenceOperator final : public Wrapper {
 public:
  CongruenceOperator(std::shared_ptr<NativeOperator> base, const std::vector<double>& diagonal)
      : Wrapper(std::move(base)), diagonal_(Narrowed<T>(diagonal)) {}

  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    const size_t n = storage();
    const T* d = reinterpret_cast<const T*>(diagonal_.data());
    const int threads = context.threads();
    const ScratchLease<OneBlock> scratch(idle_);
    ForGroups(count, [&](size_t first, int rows, size_t group, size_t groups) {
      const T* x = static_cast<const T*>(in) + first * n;
      T* y = static_cast<T*>(out) + first * n;
      T* scaled = ReserveElements<T>(scratch->memory, static_cast<size_t>(rows) * n);
      for (size_t at = 0; at < static_cast<size_t>(rows) * n; at += n) {
        Multiply(d, x + at, scaled + at, n, false, threads);
      }
      base_->Apply(scaled, y, rows, context, Part(progress, group, groups));
      for (size_t at = 0; at < static_cast<size_t>(rows) * n; at += n) {
        Multiply(d, y + at, y + at, n, false, threads);
      }
    });
  }

 private:
  Allocation diagonal_;
};

}  // namespace

std::unique_ptr<NativeOperator> MakeSumOperator(std::vector<OperatorTerm> terms, double identity,
                                                const std::vector<RankOneTerm>& rankOne) {
  if (terms.empty()) {
    throw Error(Code::kArgument, "Operator: expected a sum of at least one operator, got none.");
  }
  const NativeOperator& first = *terms.front().base;
  for (const OperatorTerm& term : terms) {
    ExpectStorage(first, "each operator of a sum", term.base->storage());
    if (term.base->dtype() != first.dtype()) {
      throw Error(Code::kDType, "Operator: expected operators of ", Name(first.dtype()),
                  " in the sum, got one of ", Name(term.base->dtype()), ".");
    }
  }
  if (first.dtype() == DType::kF64) {
    return std::make_unique<SumOperator<double>>(std::move(terms), identity, rankOne);
  }
  return std::make_unique<SumOperator<float>>(std::move(terms), identity, rankOne);
}

std::unique_ptr<NativeOperator> MakeSquareOperator(std::shared_ptr<NativeOperator> base) {
  if (base->dtype() == DType::kF64) return std::make_unique<SquareOperator<double>>(base);
  return std::make_unique<SquareOperator<float>>(std::move(base));
}

std::unique_ptr<NativeOperator> MakeCongruenceOperator(std::shared_ptr<NativeOperator> base,
                                                       const std::vector<double>& diagonal) {
  ExpectStorage(*base, "the diagonal", diagonal.size());
  if (base->dtype() == DType::kF64) {
    return std::make_unique<CongruenceOperator<double>>(std::move(base), diagonal);
  }
  return std::make_unique<CongruenceOperator<float>>(std::move(base), diagonal);
}

}  // namespace losscape
