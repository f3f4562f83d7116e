#include <cstdint>

#include "native/runtime/error.h"
#include "native/runtime/memory.h"
#include "native/runtime/operator.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

template <typename T>
class DenseOperator final : public NativeOperator {
 public:
  DenseOperator(const double* matrix, size_t size, DType dtype)
      : NativeOperator(dtype, size), memory_("operator", size * size * sizeof(T)) {
    T* a = reinterpret_cast<T*>(memory_.data());
    for (size_t i = 0; i < size * size; ++i) a[i] = static_cast<T>(matrix[i]);
  }

  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    const size_t n = storage();
    const T* a = reinterpret_cast<const T*>(memory_.data());
    const int64_t grain = static_cast<int64_t>(kGrain / (n + 1) + 1);
    for (int r = 0; r < count; ++r) {
      const T* x = static_cast<const T*>(in) + static_cast<size_t>(r) * n;
      T* y = static_cast<T*>(out) + static_cast<size_t>(r) * n;
      ParallelFor(context.threads(), static_cast<int64_t>(n), grain,
                  [&](int64_t begin, int64_t end, int) {
                    for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
                      y[i] = static_cast<T>(Dot(a + i * n, x, n, 1));
                    }
                  });
      if (progress) progress(static_cast<size_t>(r) + 1, static_cast<size_t>(count));
      context.Yield();
    }
  }

 private:
  static constexpr size_t kGrain = 32768;  // elements of the matrix for one thread at least

  Allocation memory_;
};

}  // namespace

std::unique_ptr<NativeOperator> MakeDenseOperator(const double* matrix, size_t size, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return std::make_unique<DenseOperator<float>>(matrix, size, dtype);
    case DType::kF64:
      return std::make_unique<DenseOperator<double>>(matrix, size, dtype);
    default:
      throw Error(Code::kDType, "Operator: expected f32 or f64, got ", Name(dtype), ".");
  }
}

}  // namespace losscape
