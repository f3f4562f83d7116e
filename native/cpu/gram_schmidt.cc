#include "native/cpu/gram_schmidt.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/gram_schmidt.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.h.
#include "native/cpu/wide-inl.h"

#ifndef LOSSCAPE_CPU_GRAM_SCHMIDT_ONCE
#define LOSSCAPE_CPU_GRAM_SCHMIDT_ONCE
namespace losscape {
namespace {

// Columns [begin, end): what one thread takes at a time, with partial sums of its own.
struct Block {
  size_t begin;
  size_t end;
};

}  // namespace
}  // namespace losscape
#endif  // LOSSCAPE_CPU_GRAM_SCHMIDT_ONCE

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows that share the loads of w. Also the streams that the hardware prefetchers follow at once:
// one stream per core reads 33 GB/s on Zen 3, four 44 GB/s; software prefetches made it slower.
constexpr size_t kRowsPerDot = 4;
constexpr size_t kRowsPerUpdate = 8;

// x[r] += rows[r] w and, with kTwo, y[r] += rows[r] newest, over the block; R rows.
template <size_t R, bool kTwo, typename T>
HWY_INLINE void DotRows(const T* const* rows, const T* w, const T* newest, Block block, double* x,
                        double* y) {
  const Wide d;
  const T* HWY_RESTRICT r0 = rows[0];
  const T* HWY_RESTRICT r1 = rows[R > 1 ? 1 : 0];
  const T* HWY_RESTRICT r2 = rows[R > 2 ? 2 : 0];
  const T* HWY_RESTRICT r3 = rows[R > 3 ? 3 : 0];
  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  for (size_t i = block.begin; i < block.end; i += hn::Lanes(d)) {
    const auto p = LoadWide(d, w + i);
    [[maybe_unused]] const auto q = LoadWide(d, newest + i);
    const auto v0 = LoadWide(d, r0 + i);
    a0 = hn::MulAdd(v0, p, a0);
    if constexpr (kTwo) b0 = hn::MulAdd(v0, q, b0);
    if constexpr (R > 1) {
      const auto v1 = LoadWide(d, r1 + i);
      a1 = hn::MulAdd(v1, p, a1);
      if constexpr (kTwo) b1 = hn::MulAdd(v1, q, b1);
    }
    if constexpr (R > 2) {
      const auto v2 = LoadWide(d, r2 + i);
      a2 = hn::MulAdd(v2, p, a2);
      if constexpr (kTwo) b2 = hn::MulAdd(v2, q, b2);
    }
    if constexpr (R > 3) {
      const auto v3 = LoadWide(d, r3 + i);
      a3 = hn::MulAdd(v3, p, a3);
      if constexpr (kTwo) b3 = hn::MulAdd(v3, q, b3);
    }
  }
  const auto sum = [d](auto v) HWY_ATTR { return hn::GetLane(hn::SumOfLanes(d, v)); };
  x[0] += sum(a0);
  if constexpr (R > 1) x[1] += sum(a1);
  if constexpr (R > 2) x[2] += sum(a2);
  if constexpr (R > 3) x[3] += sum(a3);
  if constexpr (kTwo) {
    y[0] += sum(b0);
    if constexpr (R > 1) y[1] += sum(b1);
    if constexpr (R > 2) y[2] += sum(b2);
    if constexpr (R > 3) y[3] += sum(b3);
  }
}

// left -= sum_r factors[r] rows[r] over the block; R rows. left[0] is column block.begin.
template <size_t R, typename T>
HWY_INLINE void UpdateRows(const T* const* rows, const double* factors, double* HWY_RESTRICT left,
                           Block block) {
  const Wide d;
  const T* HWY_RESTRICT r0 = rows[0] + block.begin;
  const T* HWY_RESTRICT r1 = rows[R > 1 ? 1 : 0] + block.begin;
  const T* HWY_RESTRICT r2 = rows[R > 2 ? 2 : 0] + block.begin;
  const T* HWY_RESTRICT r3 = rows[R > 3 ? 3 : 0] + block.begin;
  const T* HWY_RESTRICT r4 = rows[R > 4 ? 4 : 0] + block.begin;
  const T* HWY_RESTRICT r5 = rows[R > 5 ? 5 : 0] + block.begin;
  const T* HWY_RESTRICT r6 = rows[R > 6 ? 6 : 0] + block.begin;
  const T* HWY_RESTRICT r7 = rows[R > 7 ? 7 : 0] + block.begin;
  const auto f0 = hn::Set(d, factors[0]);
  const auto f1 = hn::Set(d, factors[R > 1 ? 1 : 0]);
  const auto f2 = hn::Set(d, factors[R > 2 ? 2 : 0]);
  const auto f3 = hn::Set(d, factors[R > 3 ? 3 : 0]);
  const auto f4 = hn::Set(d, factors[R > 4 ? 4 : 0]);
  const auto f5 = hn::Set(d, factors[R > 5 ? 5 : 0]);
  const auto f6 = hn::Set(d, factors[R > 6 ? 6 : 0]);
  const auto f7 = hn::Set(d, factors[R > 7 ? 7 : 0]);
  const size_t size = block.end - block.begin;
  for (size_t i = 0; i < size; i += hn::Lanes(d)) {
    auto p = hn::NegMulAdd(f0, LoadWide(d, r0 + i), hn::Load(d, left + i));
    if constexpr (R > 1) p = hn::NegMulAdd(f1, LoadWide(d, r1 + i), p);
    if constexpr (R > 2) p = hn::NegMulAdd(f2, LoadWide(d, r2 + i), p);
    if constexpr (R > 3) p = hn::NegMulAdd(f3, LoadWide(d, r3 + i), p);
    if constexpr (R > 4) p = hn::NegMulAdd(f4, LoadWide(d, r4 + i), p);
    if constexpr (R > 5) p = hn::NegMulAdd(f5, LoadWide(d, r5 + i), p);
    if constexpr (R > 6) p = hn::NegMulAdd(f6, LoadWide(d, r6 + i), p);
    if constexpr (R > 7) p = hn::NegMulAdd(f7, LoadWide(d, r7 + i), p);
    hn::Store(p, d, left + i);
  }
}

template <typename T>
HWY_INLINE double SumSquares(const T* HWY_RESTRICT w, Block block) {
  const Wide d;
  const size_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = a;
  for (size_t i = block.begin; i < block.end; i += 2 * lanes) {
    const auto p = LoadWide(d, w + i);
    const auto q = LoadWide(d, w + i + lanes);
    a = hn::MulAdd(p, p, a);
    b = hn::MulAdd(q, q, b);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
}

HWY_INLINE void Widen(const float* HWY_RESTRICT from, double* HWY_RESTRICT to, size_t n) {
  const Wide d;
  for (size_t i = 0; i < n; i += hn::Lanes(d)) hn::Store(LoadWide(d, from + i), d, to + i);
}

HWY_INLINE void Narrow(const double* HWY_RESTRICT from, float* HWY_RESTRICT to, size_t n) {
  const Wide d;
  const hn::Rebind<float, Wide> narrow;
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    hn::Store(math::ToFloat(narrow, hn::Load(d, from + i)), narrow, to + i);
  }
}

// sums[count]: rows w; sums[count .. 2 count]: rows newest, when there is one; then w w.
template <typename T>
HWY_INLINE void DotBlock(const T* const* rows, size_t count, const T* w, const T* newest,
                         Block block, double* sums) {
  double* x = sums;
  double* y = sums + count;
  const auto dot = [&](auto size, size_t r) {
    if (newest) {
      DotRows<decltype(size)::value, true>(rows + r, w, newest, block, x + r, y + r);
    } else {
      DotRows<decltype(size)::value, false>(rows + r, w, w, block, x + r, y + r);
    }
  };
  size_t r = 0;
  for (; r + kRowsPerDot <= count; r += kRowsPerDot) {
    dot(std::integral_constant<size_t, kRowsPerDot>(), r);
  }
  if (count - r == 3) dot(std::integral_constant<size_t, 3>(), r);
  if (count - r == 2) dot(std::integral_constant<size_t, 2>(), r);
  if (count - r == 1) dot(std::integral_constant<size_t, 1>(), r);
  sums[2 * count] = SumSquares(w, block);
}

// Returns sum w^2 of what is left. The columns of w stay in f64 until all rows are off.
template <typename T>
HWY_INLINE double UpdateBlock(const T* const* rows, size_t count, const double* factors, T* w,
                              Block block, double* scratch) {
  double* left = scratch;
  const size_t size = block.end - block.begin;
  if constexpr (sizeof(T) == 4) {
    Widen(w + block.begin, left, size);
  } else {
    left = w + block.begin;
  }
  size_t r = 0;
  for (; r + kRowsPerUpdate <= count; r += kRowsPerUpdate) {
    UpdateRows<kRowsPerUpdate>(rows + r, factors + r, left, block);
  }
  if (count - r >= 4) {
    UpdateRows<4>(rows + r, factors + r, left, block);
    r += 4;
  }
  if (count - r >= 2) {
    UpdateRows<2>(rows + r, factors + r, left, block);
    r += 2;
  }
  if (count - r == 1) UpdateRows<1>(rows + r, factors + r, left, block);
  if constexpr (sizeof(T) == 4) Narrow(left, w + block.begin, size);
  return SumSquares(w, block);
}

void DotF32(const float* const* rows, size_t count, const float* w, const float* newest,
            Block block, double* sums) {
  DotBlock(rows, count, w, newest, block, sums);
}
void DotF64(const double* const* rows, size_t count, const double* w, const double* newest,
            Block block, double* sums) {
  DotBlock(rows, count, w, newest, block, sums);
}
double UpdateF32(const float* const* rows, size_t count, const double* factors, float* w,
                 Block block, double* scratch) {
  return UpdateBlock(rows, count, factors, w, block, scratch);
}
double UpdateF64(const double* const* rows, size_t count, const double* factors, double* w,
                 Block block, double* scratch) {
  return UpdateBlock(rows, count, factors, w, block, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(DotF32);
HWY_EXPORT(DotF64);
HWY_EXPORT(UpdateF32);
HWY_EXPORT(UpdateF64);

namespace {

// Below this share of w that is left, its rounding errors count too.
constexpr double kCancellation = 0.1;

// Elements of V below which a second thread costs more than it saves.
constexpr size_t kParallel = size_t{1} << 16;

// Columns of a block, by n alone so that the bits do not depend on the threads: pieces of a row
// long enough for the prefetchers (16384 columns: 43 GB/s, 4096: 40, 1024: 29), w's in the
// second-level cache, and blocks enough to share out evenly.
size_t BlockColumns(size_t n) {
  return std::min<size_t>(16384, std::max<size_t>(1024, PadToBasis(n / 32)));
}

size_t Blocks(size_t n) { return (n + BlockColumns(n) - 1) / BlockColumns(n); }

Block BlockAt(size_t n, size_t index) {
  const size_t columns = BlockColumns(n);
  return {index * columns, std::min(n, (index + 1) * columns)};
}

// Blocks are taken as threads become free: which thread takes one does not change its sums.
template <typename Body>
void ForBlocks(size_t count, size_t n, int threads, const Body& body) {
  const size_t blocks = Blocks(n);
  std::atomic<size_t> next{0};
  const auto take = [&](int thread) {
    for (size_t b = next++; b < blocks; b = next++) body(b, BlockAt(n, b), thread);
  };
  if (count * n < kParallel) threads = 1;
  RunTeam(
      threads, [](void* context, int thread) { (*static_cast<decltype(take)*>(context))(thread); },
      const_cast<void*>(static_cast<const void*>(&take)));
}

}  // namespace

template <typename T>
void GramSchmidt<T>::Dots(const T* const* rows, size_t count, const T* w, const T* newest, size_t n,
                          int threads) {
  const size_t width = 2 * count + 1;
  const size_t blocks = Blocks(n);
  partial_.assign(blocks * width, 0.0);
  ForBlocks(count, n, threads, [&](size_t b, Block block, int) {
    double* sums = partial_.data() + b * width;
    if constexpr (sizeof(T) == 4) {
      HWY_DYNAMIC_DISPATCH(DotF32)(rows, count, w, newest, block, sums);
    } else {
      HWY_DYNAMIC_DISPATCH(DotF64)(rows, count, w, newest, block, sums);
    }
  });
  dots_.assign(width, 0.0);
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t k = 0; k < width; ++k) dots_[k] += partial_[b * width + k];
  }
}

// w -= V^T coefficients; returns the norm of what is left.
template <typename T>
double GramSchmidt<T>::Remove(const T* const* rows, size_t count, T* w, size_t n,
                              const double* coefficients, int threads) {
  const size_t columns = BlockColumns(n);
  const size_t lines = sizeof(T) == 4 ? columns / 8 : 0;
  scratch_.resize(std::max<size_t>(1, lines * static_cast<size_t>(threads)));
  partial_.assign(Blocks(n), 0.0);
  ForBlocks(count, n, threads, [&](size_t b, Block block, int thread) {
    double* scratch = scratch_[lines * static_cast<size_t>(thread)].values;
    if constexpr (sizeof(T) == 4) {
      partial_[b] = HWY_DYNAMIC_DISPATCH(UpdateF32)(rows, count, coefficients, w, block, scratch);
    } else {
      partial_[b] = HWY_DYNAMIC_DISPATCH(UpdateF64)(rows, count, coefficients, w, block, scratch);
    }
  });
  double square = 0;
  for (double part : partial_) square += part;
  return std::sqrt(square);
}

template <typename T>
void GramSchmidt<T>::Project(const T* const* rows, size_t count, const T* w, size_t n,
                             double* coefficients, int threads) {
  Dots(rows, count, w, nullptr, n, threads);
  std::copy_n(dots_.begin(), count, coefficients);
}

template <typename T>
GramSchmidtNorms GramSchmidt<T>::Once(const T* const* rows, size_t count, T* w, size_t n,
                                      double* coefficients, int threads) {
  Dots(rows, count, w, nullptr, n, threads);
  std::copy_n(dots_.begin(), count, coefficients);
  const double before = std::sqrt(dots_[2 * count]);
  return {before, Remove(rows, count, w, n, coefficients, threads)};
}

template <typename T>
GramSchmidtNorms GramSchmidt<T>::Twice(const T* const* rows, size_t count, T* w, size_t n,
                                       double* coefficients, int threads) {
  while (gram_.size() + 1 < count) {
    const size_t k = gram_.size();
    Dots(rows, k + 1, rows[k], nullptr, n, threads);
    gram_.emplace_back(dots_.begin(), dots_.begin() + static_cast<ptrdiff_t>(k + 1));
  }
  const bool fresh = gram_.size() < count;
  Dots(rows, count, w, fresh ? rows[count - 1] : nullptr, n, threads);
  if (fresh) {
    const auto newest = dots_.begin() + static_cast<ptrdiff_t>(count);
    gram_.emplace_back(newest, newest + static_cast<ptrdiff_t>(count));
  }

  // c + d = 2 c - (V V^T) c
  for (size_t i = 0; i < count; ++i) coefficients[i] = 2 * dots_[i];
  for (size_t i = 0; i < count; ++i) {
    const std::vector<double>& row = gram_[i];
    for (size_t k = 0; k < i; ++k) {
      coefficients[i] -= row[k] * dots_[k];
      coefficients[k] -= row[k] * dots_[i];
    }
    coefficients[i] -= row[i] * dots_[i];
  }
  const double before = std::sqrt(dots_[2 * count]);
  double after = Remove(rows, count, w, n, coefficients, threads);

  if (after < kCancellation * before) {
    Dots(rows, count, w, nullptr, n, threads);
    after = Remove(rows, count, w, n, dots_.data(), threads);
    for (size_t k = 0; k < count; ++k) coefficients[k] += dots_[k];
  }
  return {before, after};
}

template class GramSchmidt<float>;
template class GramSchmidt<double>;

}  // namespace losscape
#endif  // HWY_ONCE
