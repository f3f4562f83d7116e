// matmul: a [.., M, K], b [.., K, N] [, c [.., M, N]] -> y = a b [+ c], leading axes broadcast.
// matmul_pair: a, b, a', b' [, c] -> y = a b + a' b' [+ c]; made by lowering.
//
// 2 B M N K FLOP. Which code runs:
//   f32  oneDNN's SGEMM from about 8 x 8 x 128, SmallGemm below, and in two cases where SmallGemm
//   is
//        1.1 to 1.4 times as fast (measured on Zen 3): few columns, and rows whose length is a
//        multiple of 128, which fall on the same few sets of a cache in oneDNN's packing.
//   f64  OpenBLAS from about two million multiply-adds, SmallGemm below, where OpenBLAS reaches a
//        third of its rate on 30 columns.
//   f16, bf16  converted to f32 in scratch, the result rounded once.
// Leading axes are folded into M where b is shared. Many small products run one per thread, and
// those for SmallGemm over one leading axis as one call.
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "native/cpu/check.h"
#include "native/cpu/half.h"
#include "native/cpu/onednn.h"
#include "native/cpu/small_gemm.h"
#include "native/runtime/blas.h"
#include "native/runtime/parallel.h"

#if defined(__x86_64__) || defined(_M_X64)
#define LOSSCAPE_ONEDNN_GEMM 1
#else
// oneDNN generates no code elsewhere: its SGEMM is then a plain loop.
#define LOSSCAPE_ONEDNN_GEMM 0
#endif

namespace losscape {
namespace {

constexpr int64_t kSmallF32 = 8'192;      // multiply-adds
constexpr int64_t kSmallF64 = 2'000'000;  // multiply-adds
constexpr int64_t kSmallColumns = 32;     // OpenBLAS gains on this many columns only for long rows
constexpr int64_t kBatchWork = 500'000;   // products below this run one per thread
constexpr int64_t kCopyGrain = 16'384;    // elements

bool SuitsSmallGemm(const GemmSize& size, float) {
  if (size.m * size.n * size.k <= kSmallF32) return true;
  if (size.n > 8 && size.n <= 32) return !size.transA || size.m <= 32;
  if (size.transA && size.m <= 32 && size.n <= 64) return true;
  const bool aliasing = size.n % 128 == 0 && (size.transA ? size.m % 128 == 0 : !size.transB);
  return aliasing && size.n <= 512 && size.m <= 512 && size.k >= 128;
}

bool SuitsSmallGemm(const GemmSize& size, double) {
  const bool narrow = std::min(size.m, size.n) <= kSmallColumns;
  return size.m * size.n * size.k <= (narrow ? 8 * kSmallF64 : kSmallF64);
}

void LibraryGemm(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate) {
  if (LOSSCAPE_ONEDNN_GEMM) {
    OneDnnGemm(size, a, b, y, accumulate);
  } else {
    CheckBlas(OpenBlas().sgemm(size.transA, size.transB, size.m, size.n, size.k, 1.0f, a,
                               size.transA ? size.m : size.k, b, size.transB ? size.k : size.n,
                               accumulate ? 1.0f : 0.0f, y, size.n),
              "matmul");
  }
}

void LibraryGemm(const GemmSize& size, const double* a, const double* b, double* y,
                 bool accumulate) {
  CheckBlas(OpenBlas().dgemm(size.transA, size.transB, size.m, size.n, size.k, 1.0, a,
                             size.transA ? size.m : size.k, b, size.transB ? size.k : size.n,
                             accumulate ? 1.0 : 0.0, y, size.n),
            "matmul");
}

template <typename T>
void Product(const GemmSize& size, const T* a, const T* b, T* y, bool accumulate, int threads) {
  if (SuitsSmallGemm(size, T{})) {
    SmallGemm(size, a, b, y, accumulate, threads);
  } else {
    LibraryGemm(size, a, b, y, accumulate);
  }
}

bool IsHalf(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF16; }

void Widen(DType dtype, const void* from, float* to, int64_t count, int threads) {
  const uint16_t* halves = static_cast<const uint16_t*>(from);
  ParallelFor(threads, count, kCopyGrain, [=](int64_t begin, int64_t end, int) {
    if (dtype == DType::kBF16) {
      for (int64_t i = begin; i < end; ++i) to[i] = FloatFromBf16(halves[i]);
    } else {
      for (int64_t i = begin; i < end; ++i) to[i] = FloatFromF16(halves[i]);
    }
  });
}

void Narrow(DType dtype, const float* from, void* to, int64_t count, int threads) {
  uint16_t* halves = static_cast<uint16_t*>(to);
  ParallelFor(threads, count, kCopyGrain, [=](int64_t begin, int64_t end, int) {
    if (dtype == DType::kBF16) {
      for (int64_t i = begin; i < end; ++i) halves[i] = Bf16FromFloat(from[i]);
    } else {
      for (int64_t i = begin; i < end; ++i) halves[i] = F16FromFloat(from[i]);
    }
  });
}

size_t Aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

// One product a b of the sum: its own sizes, and how it walks the leading axes of y.
struct Term {
  TensorType a, b;
  GemmSize size{};
  std::vector<int64_t> stepA;  // elements, per leading axis of y; 0 broadcasts
  std::vector<int64_t> stepB;
};

class Matmul final : public Kernel {
 public:
  explicit Matmul(const OpSpec& op) {
    const size_t count = op.name == "matmul_pair" ? 2 : 1;
    ExpectOperands(op, 2 * count, 2 * count + 1, 1);
    y_ = op.outTypes[0];
    hasC_ = op.inTypes.size() > 2 * count;
    if (hasC_) {
      c_ = op.inTypes.back();
      ExpectShape(op, "c", c_, y_.shape);
    }
    double_ = y_.dtype == DType::kF64;
    for (const TensorType& type : op.inTypes) ExpectElement(op, type);
    ExpectElement(op, y_);
    for (size_t t = 0; t < count; ++t) AddTerm(op, t);
    Fold();
  }

  size_t ScratchBytes(int) const override {
    size_t bytes = IsHalf(y_.dtype) ? Aligned(y_.Elements() * sizeof(float)) : 0;
    for (const Term& term : terms_) {
      for (const TensorType* type : {&term.a, &term.b}) {
        if (IsHalf(type->dtype)) bytes += Aligned(type->Elements() * sizeof(float));
      }
    }
    return bytes;
  }

  bool MayAlias(int in, int out) const override {
    return in == static_cast<int>(2 * terms_.size()) && out == 0 && hasC_ && c_.dtype == y_.dtype;
  }

  void Run(const KernelArgs& args) const override {
    if (y_.Elements() == 0) return;
    // Only the executor's own setting: libraries read how many threads they may use from it.
    if (omp_get_max_threads() != args.threads) omp_set_num_threads(args.threads);
    const size_t operands = 2 * terms_.size();
    const void* addend = hasC_ ? args.in[operands] : nullptr;
    if (double_) {
      const double* in[2 * kGemmTerms];
      for (size_t i = 0; i < operands; ++i) in[i] = static_cast<const double*>(args.in[i]);
      Products(in, static_cast<const double*>(addend), static_cast<double*>(args.out[0]),
               args.threads);
      return;
    }
    char* scratch = static_cast<char*>(args.scratch);
    auto take = [&scratch](const TensorType& type) {
      float* part = reinterpret_cast<float*>(scratch);
      scratch += Aligned(type.Elements() * sizeof(float));
      return part;
    };
    auto widened = [&](const TensorType& type, const void* from) {
      if (!IsHalf(type.dtype)) return static_cast<const float*>(from);
      float* to = take(type);
      Widen(type.dtype, from, to, type.Elements(), args.threads);
      return static_cast<const float*>(to);
    };
    const float* in[2 * kGemmTerms];
    for (size_t t = 0; t < terms_.size(); ++t) {
      in[2 * t] = widened(terms_[t].a, args.in[2 * t]);
      in[2 * t + 1] = widened(terms_[t].b, args.in[2 * t + 1]);
    }
    float* y = IsHalf(y_.dtype) ? take(y_) : static_cast<float*>(args.out[0]);
    const float* c = static_cast<const float*>(addend);
    if (hasC_ && IsHalf(c_.dtype)) {
      // c shares y's f32 storage: it is added to in place.
      Widen(c_.dtype, addend, y, c_.Elements(), args.threads);
      c = y;
    }
    Products(in, c, y, args.threads);
    if (IsHalf(y_.dtype)) Narrow(y_.dtype, y, args.out[0], y_.Elements(), args.threads);
  }

 private:
  void ExpectElement(const OpSpec& op, const TensorType& type) const {
    const bool fits =
        double_ ? type.dtype == DType::kF64 : type.dtype == DType::kF32 || IsHalf(type.dtype);
    if (!fits) ThrowDType(op, type);
  }

  void AddTerm(const OpSpec& op, size_t t) {
    Term term;
    term.a = op.inTypes[2 * t];
    term.b = op.inTypes[2 * t + 1];
    term.size.transA = op.Number(t == 0 ? "transA" : "transA2", 0) != 0;
    term.size.transB = op.Number(t == 0 ? "transB" : "transB2", 0) != 0;
    GemmSize& size = term.size;
    const std::vector<int64_t>&a = term.a.shape, &b = term.b.shape;
    const size_t rank = y_.shape.size();
    if (a.size() < 2 || b.size() < 2 || rank != std::max(a.size(), b.size())) {
      throw Error(Code::kShape, op.name, ": expected matrices, got ", ShapeText(a), " and ",
                  ShapeText(b), ".");
    }
    size.m = a[a.size() - (size.transA ? 1 : 2)];
    size.k = a[a.size() - (size.transA ? 2 : 1)];
    size.n = b[b.size() - (size.transB ? 2 : 1)];
    if (b[b.size() - (size.transB ? 1 : 2)] != size.k) {
      throw Error(Code::kShape, op.name, ": expected equal inner sizes, got ", ShapeText(a),
                  " and ", ShapeText(b), ".");
    }
    std::vector<int64_t> shape(rank, 1);
    shape[rank - 2] = size.m;
    shape[rank - 1] = size.n;
    term.stepA.resize(rank - 2);
    term.stepB.resize(rank - 2);
    int64_t stepA = size.m * size.k, stepB = size.k * size.n;
    for (size_t back = 3; back <= rank; ++back) {
      const int64_t ofA = back <= a.size() ? a[a.size() - back] : 1;
      const int64_t ofB = back <= b.size() ? b[b.size() - back] : 1;
      if (ofA != ofB && ofA != 1 && ofB != 1) {
        throw Error(Code::kShape, op.name, ": expected leading axes that broadcast, got ",
                    ShapeText(a), " and ", ShapeText(b), ".");
      }
      shape[rank - back] = ofA == 1 ? ofB : ofA;
      term.stepA[rank - back] = ofA == 1 ? 0 : stepA;
      term.stepB[rank - back] = ofB == 1 ? 0 : stepB;
      stepA *= ofA;
      stepB *= ofB;
    }
    ExpectShape(op, "the result", y_, shape);
    terms_.push_back(std::move(term));
  }

  // Leading axes of one element go, and neighbours along which all operands go on evenly are one.
  void Fold() {
    sizes_.assign(y_.shape.begin(), y_.shape.end() - 2);
    for (size_t axis = sizes_.size(); axis-- > 0;) {
      if (sizes_[axis] == 1) Erase(axis);
    }
    for (size_t axis = sizes_.size(); axis-- > 1;) {
      bool even = true;
      for (const Term& term : terms_) {
        even &= term.stepA[axis - 1] == sizes_[axis] * term.stepA[axis] &&
                term.stepB[axis - 1] == sizes_[axis] * term.stepB[axis];
      }
      if (!even) continue;
      sizes_[axis] *= sizes_[axis - 1];
      Erase(axis - 1);
    }
    // An axis of a alone, next to M, is more rows of one product.
    Term& first = terms_[0];
    if (terms_.size() == 1 && !sizes_.empty() && !first.size.transA && first.stepB.back() == 0) {
      first.size.m *= sizes_.back();
      Erase(sizes_.size() - 1);
    }
    count_ = 1;
    for (int64_t size : sizes_) count_ *= size;
  }

  void Erase(size_t axis) {
    const auto erase = [axis](std::vector<int64_t>& from) {
      from.erase(from.begin() + static_cast<ptrdiff_t>(axis));
    };
    erase(sizes_);
    for (Term& term : terms_) {
      erase(term.stepA);
      erase(term.stepB);
    }
  }

  // Odometer over the leading axes.
  int64_t Offset(int64_t i, const std::vector<int64_t>& steps) const {
    int64_t offset = 0;
    for (size_t axis = sizes_.size(); axis-- > 0; i /= sizes_[axis]) {
      offset += i % sizes_[axis] * steps[axis];
    }
    return offset;
  }

  // y = c + in[0] in[1] + ..
  template <typename T>
  void Products(const T* const* in, const T* c, T* y, int threads) const {
    const bool accumulate = c != nullptr;
    if (accumulate && c != y) {
      ParallelFor(threads, y_.Elements(), kCopyGrain, [=](int64_t begin, int64_t end, int) {
        std::memcpy(y + begin, c + begin, (end - begin) * sizeof(T));
      });
    }
    bool small = sizes_.size() <= 1;
    for (const Term& term : terms_) {
      small &= SuitsSmallGemm(term.size, T{}) && term.size.transA == terms_[0].size.transA;
    }
    if (small) {
      GemmTerm<T> terms[kGemmTerms];
      for (size_t t = 0; t < terms_.size(); ++t) {
        const Term& term = terms_[t];
        const bool batch = !sizes_.empty();
        terms[t] = {in[2 * t],
                    in[2 * t + 1],
                    term.size.k,
                    term.size.transB,
                    batch ? term.stepA[0] : 0,
                    batch ? term.stepB[0] : 0};
      }
      const GemmSize& size = terms_[0].size;
      SmallGemmSum({count_, size.m, size.n, size.transA}, terms, static_cast<int>(terms_.size()), y,
                   accumulate, threads);
      return;
    }
    for (size_t t = 0; t < terms_.size(); ++t) {
      OneTerm(terms_[t], in[2 * t], in[2 * t + 1], y, accumulate || t > 0, threads);
    }
  }

  template <typename T>
  void OneTerm(const Term& term, const T* a, const T* b, T* y, bool accumulate, int threads) const {
    const GemmSize& size = term.size;
    if (size.k == 0) {
      if (!accumulate) std::memset(y, 0, y_.Elements() * sizeof(T));
      return;
    }
    auto one = [&](int64_t i, int productThreads) {
      Product(size, a + Offset(i, term.stepA), b + Offset(i, term.stepB), y + i * size.m * size.n,
              accumulate, productThreads);
    };
    const int64_t work = size.m * size.n * size.k;
    if (count_ >= threads && threads > 1 && work < kBatchWork) {
      const int64_t grain = std::max<int64_t>(1, 30'000 / std::max<int64_t>(work, 1));
      ParallelFor(threads, count_, grain, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) one(i, 1);
      });
      return;
    }
    for (int64_t i = 0; i < count_; ++i) one(i, threads);
  }

  std::vector<Term> terms_;
  TensorType c_, y_;
  std::vector<int64_t> sizes_;  // of the leading axes
  int64_t count_ = 1;           // of products per term
  bool hasC_ = false, double_ = false;
};

std::unique_ptr<Kernel> MakeMatmul(const OpSpec& op) { return std::make_unique<Matmul>(op); }
LOSSCAPE_KERNEL(matmul, MakeMatmul);
LOSSCAPE_KERNEL(matmul_pair, MakeMatmul);

}  // namespace
}  // namespace losscape
