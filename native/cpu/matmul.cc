// matmul: a [.., M, K], b [.., K, N] [, c [.., M, N]] -> y = a b [+ c], leading axes broadcast.
//
// 2 B M N K FLOP. Which code runs:
//   f32  oneDNN's SGEMM from about 8 x 8 x 128, SmallGemm below, and in two cases where SmallGemm
//   is
//        1.1 to 1.4 times as fast (measured on Zen 3): few columns, and rows whose length is a
//        multiple of 128, which fall on the same few sets of a cache in oneDNN's packing.
//   f64  OpenBLAS from about two million multiply-adds, SmallGemm below, where OpenBLAS reaches a
//        third of its rate on 30 columns.
//   f16, bf16  converted to f32 in scratch, the result rounded once.
// Leading axes are folded into M where b is shared. Many small products run one per thread.
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

bool SuitsSmallGemm(const GemmSize& size) {
  if (size.m * size.n * size.k <= kSmallF32) return true;
  if (size.n > 8 && size.n <= 32) return !size.transA;
  const bool aliasing = size.n % 128 == 0 && (size.transA ? size.m % 128 == 0 : !size.transB);
  return aliasing && size.n <= 512 && size.m <= 512 && size.k >= 128;
}

void Product(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate,
             int threads) {
  if (SuitsSmallGemm(size)) {
    SmallGemm(size, a, b, y, accumulate, threads);
  } else if (LOSSCAPE_ONEDNN_GEMM) {
    OneDnnGemm(size, a, b, y, accumulate);
  } else {
    CheckBlas(OpenBlas().sgemm(size.transA, size.transB, size.m, size.n, size.k, 1.0f, a,
                               size.transA ? size.m : size.k, b, size.transB ? size.k : size.n,
                               accumulate ? 1.0f : 0.0f, y, size.n),
              "matmul");
  }
}

void Product(const GemmSize& size, const double* a, const double* b, double* y, bool accumulate,
             int threads) {
  const bool narrow = std::min(size.m, size.n) <= kSmallColumns;
  if (size.m * size.n * size.k <= (narrow ? 8 * kSmallF64 : kSmallF64)) {
    SmallGemm(size, a, b, y, accumulate, threads);
  } else {
    CheckBlas(OpenBlas().dgemm(size.transA, size.transB, size.m, size.n, size.k, 1.0, a,
                               size.transA ? size.m : size.k, b, size.transB ? size.k : size.n,
                               accumulate ? 1.0 : 0.0, y, size.n),
              "matmul");
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

// Where product i of the batch finds its operands: odometer over the leading axes.
struct Batch {
  std::vector<int64_t> sizes;
  std::vector<int64_t> strideA;  // in matrices; 0 broadcasts
  std::vector<int64_t> strideB;
  int64_t count = 1;

  void Find(int64_t i, int64_t& a, int64_t& b) const {
    a = b = 0;
    for (size_t axis = sizes.size(); axis-- > 0; i /= sizes[axis]) {
      a += i % sizes[axis] * strideA[axis];
      b += i % sizes[axis] * strideB[axis];
    }
  }
};

class Matmul final : public Kernel {
 public:
  explicit Matmul(const OpSpec& op) {
    ExpectOperands(op, 2, 3, 1);
    a_ = op.inTypes[0];
    b_ = op.inTypes[1];
    y_ = op.outTypes[0];
    hasC_ = op.inTypes.size() == 3;
    if (hasC_) {
      c_ = op.inTypes[2];
      ExpectShape(op, "c", c_, y_.shape);
    }
    double_ = y_.dtype == DType::kF64;
    for (const TensorType* type : {&a_, &b_, &y_, hasC_ ? &c_ : &y_}) {
      const bool fits =
          double_ ? type->dtype == DType::kF64 : type->dtype == DType::kF32 || IsHalf(type->dtype);
      if (!fits) ThrowDType(op, *type);
    }
    SetSizes(op);
  }

  size_t ScratchBytes(int) const override {
    size_t bytes = 0;
    for (const TensorType* type : {&a_, &b_, &y_}) {
      if (IsHalf(type->dtype)) bytes += Aligned(type->Elements() * sizeof(float));
    }
    return bytes;
  }

  bool MayAlias(int in, int out) const override {
    return in == 2 && out == 0 && hasC_ && c_.dtype == y_.dtype;
  }

  void Run(const KernelArgs& args) const override {
    if (y_.Elements() == 0) return;
    if (double_) {
      const double* c = hasC_ ? static_cast<const double*>(args.in[2]) : nullptr;
      Products(static_cast<const double*>(args.in[0]), static_cast<const double*>(args.in[1]), c,
               static_cast<double*>(args.out[0]), args.threads);
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
    const float* a = widened(a_, args.in[0]);
    const float* b = widened(b_, args.in[1]);
    float* y = IsHalf(y_.dtype) ? take(y_) : static_cast<float*>(args.out[0]);
    const float* c = hasC_ ? static_cast<const float*>(args.in[2]) : nullptr;
    if (hasC_ && IsHalf(c_.dtype)) {
      // c shares y's f32 storage: it is added to in place.
      Widen(c_.dtype, args.in[2], y, c_.Elements(), args.threads);
      c = y;
    }
    Products(a, b, c, y, args.threads);
    if (IsHalf(y_.dtype)) Narrow(y_.dtype, y, args.out[0], y_.Elements(), args.threads);
  }

 private:
  void SetSizes(const OpSpec& op) {
    size_.transA = op.Number("transA", 0) != 0;
    size_.transB = op.Number("transB", 0) != 0;
    const size_t rankA = a_.shape.size(), rankB = b_.shape.size(), rank = y_.shape.size();
    if (rankA < 2 || rankB < 2 || rank != std::max(rankA, rankB)) {
      throw Error(Code::kShape, "matmul: expected matrices, got ", ShapeText(a_.shape), " and ",
                  ShapeText(b_.shape), ".");
    }
    size_.m = a_.shape[rankA - (size_.transA ? 1 : 2)];
    size_.k = a_.shape[rankA - (size_.transA ? 2 : 1)];
    size_.n = b_.shape[rankB - (size_.transB ? 2 : 1)];
    if (b_.shape[rankB - (size_.transB ? 1 : 2)] != size_.k) {
      throw Error(Code::kShape, "matmul: expected equal inner sizes, got ", ShapeText(a_.shape),
                  " and ", ShapeText(b_.shape), ".");
    }
    std::vector<int64_t> shape(rank);
    shape[rank - 2] = size_.m;
    shape[rank - 1] = size_.n;
    matrixA_ = size_.m * size_.k;
    matrixB_ = size_.k * size_.n;
    int64_t strideA = 1, strideB = 1;
    for (size_t back = 3; back <= rank; ++back) {
      const int64_t a = back <= rankA ? a_.shape[rankA - back] : 1;
      const int64_t b = back <= rankB ? b_.shape[rankB - back] : 1;
      if (a != b && a != 1 && b != 1) {
        throw Error(Code::kShape, "matmul: expected leading axes that broadcast, got ",
                    ShapeText(a_.shape), " and ", ShapeText(b_.shape), ".");
      }
      const int64_t size = a == 1 ? b : a;
      shape[rank - back] = size;
      if (size == 1) continue;
      // An axis of a alone, next to M, is more rows of one product.
      if (batch_.sizes.empty() && b == 1 && !size_.transA) {
        size_.m *= size;
        strideA = 1;
        matrixA_ = size_.m * size_.k;
        continue;
      }
      batch_.sizes.insert(batch_.sizes.begin(), size);
      batch_.strideA.insert(batch_.strideA.begin(), a == 1 ? 0 : strideA);
      batch_.strideB.insert(batch_.strideB.begin(), b == 1 ? 0 : strideB);
      batch_.count *= size;
      strideA *= a;
      strideB *= b;
    }
    ExpectShape(op, "the result", y_, shape);
  }

  template <typename T>
  void Products(const T* a, const T* b, const T* c, T* y, int threads) const {
    // Only the executor's own setting: libraries read how many threads they may use from it.
    if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
    const bool accumulate = c != nullptr;
    if (accumulate && c != y) {
      ParallelFor(threads, y_.Elements(), kCopyGrain, [=](int64_t begin, int64_t end, int) {
        std::memcpy(y + begin, c + begin, (end - begin) * sizeof(T));
      });
    }
    if (size_.k == 0) {
      if (!accumulate) std::memset(y, 0, y_.Elements() * sizeof(T));
      return;
    }
    auto one = [&](int64_t i, int productThreads) {
      int64_t fromA, fromB;
      batch_.Find(i, fromA, fromB);
      Product(size_, a + fromA * matrixA_, b + fromB * matrixB_, y + i * size_.m * size_.n,
              accumulate, productThreads);
    };
    const int64_t work = size_.m * size_.n * size_.k;
    if (batch_.count >= threads && threads > 1 && work < kBatchWork) {
      const int64_t grain = std::max<int64_t>(1, 30'000 / std::max<int64_t>(work, 1));
      ParallelFor(threads, batch_.count, grain, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) one(i, 1);
      });
      return;
    }
    for (int64_t i = 0; i < batch_.count; ++i) one(i, threads);
  }

  TensorType a_, b_, c_, y_;
  GemmSize size_{};
  Batch batch_;
  int64_t matrixA_ = 0, matrixB_ = 0;
  bool hasC_ = false, double_ = false;
};

std::unique_ptr<Kernel> MakeMatmul(const OpSpec& op) { return std::make_unique<Matmul>(op); }
LOSSCAPE_KERNEL(matmul, MakeMatmul);

}  // namespace
}  // namespace losscape
