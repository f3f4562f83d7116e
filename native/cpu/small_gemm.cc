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

void BlockF32(const GemmBatch& batch, const GemmTerm<float>* terms, int count, float* y,
              bool accumulate, GemmBlock block) {
  GemmRange(batch, terms, count, y, accumulate, block);
}

void BlockF64(const GemmBatch& batch, const GemmTerm<double>* terms, int count, double* y,
              bool accumulate, GemmBlock block) {
  GemmRange(batch, terms, count, y, accumulate, block);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {
namespace {

HWY_EXPORT(BlockF32);
HWY_EXPORT(BlockF64);

void Block(const GemmBatch& batch, const GemmTerm<float>* terms, int count, float* y,
           bool accumulate, GemmBlock block) {
  HWY_DYNAMIC_DISPATCH(BlockF32)(batch, terms, count, y, accumulate, block);
}

void Block(const GemmBatch& batch, const GemmTerm<double>* terms, int count, double* y,
           bool accumulate, GemmBlock block) {
  HWY_DYNAMIC_DISPATCH(BlockF64)(batch, terms, count, y, accumulate, block);
}

// A parallel region costs about as much as this many multiply-adds on one thread.
constexpr int64_t kWorkPerThread = 60'000;
// Rows and columns that a thread gets are multiples of what the kernels take at once.
constexpr int64_t kRowGrain = 12;
constexpr int64_t kColumnGrain = 32;

template <typename T>
void Gemm(const GemmBatch& batch, const GemmTerm<T>* terms, int count, T* y, bool accumulate,
          int threads) {
  const int64_t elements = batch.count * batch.m * batch.n;
  if (elements == 0) return;
  int64_t depth = 0;
  for (int t = 0; t < count; ++t) depth += terms[t].k;
  if (depth == 0) {
    if (!accumulate) std::fill(y, y + elements, T{0});
    return;
  }
  const int64_t work = elements * depth;
  const int64_t useful = std::min<int64_t>(threads, 1 + work / kWorkPerThread);
  const GemmBlock whole{0, batch.count, 0, batch.m, 0, batch.n};
  if (useful <= 1) {
    Block(batch, terms, count, y, accumulate, whole);
    return;
  }
  // Always the whole team (see RunTeam): a coarser grain leaves the threads without work that are
  // not worth waking.
  const auto split = [&](int64_t parts, auto narrow) {
    const int64_t grain = useful < threads ? (parts + useful - 1) / useful : int64_t{1};
    ParallelFor(threads, parts, grain, [&](int64_t begin, int64_t end, int) {
      GemmBlock block = whole;
      narrow(block, begin, end);
      Block(batch, terms, count, y, accumulate, block);
    });
  };
  // Splitting columns makes every thread read all of a, splitting rows all of b.
  const int64_t rowParts = (batch.m + kRowGrain - 1) / kRowGrain;
  const int64_t columnParts = (batch.n + kColumnGrain - 1) / kColumnGrain;
  if (batch.count % useful == 0 || batch.count >= 4 * useful) {
    split(batch.count, [](GemmBlock& block, int64_t begin, int64_t end) {
      block.begin = begin;
      block.end = end;
    });
  } else if (rowParts >= useful || rowParts >= columnParts) {
    split(rowParts, [&](GemmBlock& block, int64_t begin, int64_t end) {
      block.rowBegin = begin * kRowGrain;
      block.rowEnd = std::min(end * kRowGrain, batch.m);
    });
  } else {
    split(columnParts, [&](GemmBlock& block, int64_t begin, int64_t end) {
      block.columnBegin = begin * kColumnGrain;
      block.columnEnd = std::min(end * kColumnGrain, batch.n);
    });
  }
}

template <typename T>
void One(const GemmSize& size, const T* a, const T* b, T* y, bool accumulate, int threads) {
  const GemmTerm<T> term{a, b, size.k, size.transB, 0, 0};
  Gemm({1, size.m, size.n, size.transA}, &term, 1, y, accumulate, threads);
}

}  // namespace

void SmallGemm(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate,
               int threads) {
  One(size, a, b, y, accumulate, threads);
}

void SmallGemm(const GemmSize& size, const double* a, const double* b, double* y, bool accumulate,
               int threads) {
  One(size, a, b, y, accumulate, threads);
}

void SmallGemmSum(const GemmBatch& batch, const GemmTerm<float>* terms, int count, float* y,
                  bool accumulate, int threads) {
  Gemm(batch, terms, count, y, accumulate, threads);
}

void SmallGemmSum(const GemmBatch& batch, const GemmTerm<double>* terms, int count, double* y,
                  bool accumulate, int threads) {
  Gemm(batch, terms, count, y, accumulate, threads);
}

}  // namespace losscape
#endif  // HWY_ONCE
