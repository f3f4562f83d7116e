#include "native/cpu/small_gemm.h"

#include <algorithm>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/small_gemm.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/small_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

void BlockF32(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate,
              GemmBlock block) {
  GemmRange(size, a, b, y, accumulate, block);
}

void BlockF64(const GemmSize& size, const double* a, const double* b, double* y, bool accumulate,
              GemmBlock block) {
  GemmRange(size, a, b, y, accumulate, block);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {
namespace {

HWY_EXPORT(BlockF32);
HWY_EXPORT(BlockF64);

void Block(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate,
           GemmBlock block) {
  HWY_DYNAMIC_DISPATCH(BlockF32)(size, a, b, y, accumulate, block);
}

void Block(const GemmSize& size, const double* a, const double* b, double* y, bool accumulate,
           GemmBlock block) {
  HWY_DYNAMIC_DISPATCH(BlockF64)(size, a, b, y, accumulate, block);
}

// A parallel region costs about as much as this many multiply-adds on one thread.
constexpr int64_t kWorkPerThread = 60'000;
// Rows and columns that a thread gets are multiples of what the kernels take at once.
constexpr int64_t kRowGrain = 12;
constexpr int64_t kColumnGrain = 32;

template <typename T>
void Gemm(const GemmSize& size, const T* a, const T* b, T* y, bool accumulate, int threads) {
  if (size.m == 0 || size.n == 0) return;
  if (size.k == 0) {
    if (!accumulate) std::fill(y, y + size.m * size.n, T{0});
    return;
  }
  const int64_t work = size.m * size.n * size.k;
  const int64_t useful = std::min<int64_t>(threads, 1 + work / kWorkPerThread);
  if (useful <= 1) {
    Block(size, a, b, y, accumulate, {0, size.m, 0, size.n});
    return;
  }
  // Splitting columns makes every thread read all of a, splitting rows all of b.
  const int64_t rowParts = (size.m + kRowGrain - 1) / kRowGrain;
  const int64_t columnParts = (size.n + kColumnGrain - 1) / kColumnGrain;
  // Always the whole team (see RunTeam): a coarser grain leaves the threads without work that are
  // not worth waking.
  const auto grain = [&](int64_t parts) {
    return useful < threads ? (parts + useful - 1) / useful : int64_t{1};
  };
  if (rowParts >= useful || rowParts >= columnParts) {
    ParallelFor(threads, rowParts, grain(rowParts), [&](int64_t begin, int64_t end, int) {
      Block(size, a, b, y, accumulate,
            {begin * kRowGrain, std::min(end * kRowGrain, size.m), 0, size.n});
    });
  } else {
    ParallelFor(threads, columnParts, grain(columnParts), [&](int64_t begin, int64_t end, int) {
      Block(size, a, b, y, accumulate,
            {0, size.m, begin * kColumnGrain, std::min(end * kColumnGrain, size.n)});
    });
  }
}

}  // namespace

void SmallGemm(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate,
               int threads) {
  Gemm(size, a, b, y, accumulate, threads);
}

void SmallGemm(const GemmSize& size, const double* a, const double* b, double* y, bool accumulate,
               int threads) {
  Gemm(size, a, b, y, accumulate, threads);
}

}  // namespace losscape
#endif  // HWY_ONCE
