#include "native/cpu/vector.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "native/runtime/error.h"
#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/vector.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.h.
#include "native/cpu/wide-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Products of f32 are exact in f64; four chains hide the latency of the additions.
template <typename T>
HWY_INLINE double DotRange(const T* a, const T* b, size_t n) {
  const Wide d;
  const size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::MulAdd(LoadWide(d, a + i), LoadWide(d, b + i), s0);
    s1 = hn::MulAdd(LoadWide(d, a + i + lanes), LoadWide(d, b + i + lanes), s1);
    s2 = hn::MulAdd(LoadWide(d, a + i + 2 * lanes), LoadWide(d, b + i + 2 * lanes), s2);
    s3 = hn::MulAdd(LoadWide(d, a + i + 3 * lanes), LoadWide(d, b + i + 3 * lanes), s3);
  }
  for (; i + lanes <= n; i += lanes) {
    s0 = hn::MulAdd(LoadWide(d, a + i), LoadWide(d, b + i), s0);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// y = factor x + addend y, in f64, rounded once; addend 0 does not read y.
template <typename From, typename To>
HWY_INLINE void LinearRange(double factor, const From* x, double addend, To* y, size_t n) {
  const Wide d;
  const size_t lanes = hn::Lanes(d);
  const auto f = hn::Set(d, factor);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = LoadWide(d, x + i);
    StoreWide(d, addend == 0 ? hn::Mul(f, v) : hn::MulAdd(f, v, LoadWide(d, y + i)), y + i);
  }
  // The tail has the arithmetic of the rest, so that where a range ends does not matter.
  HWY_ALIGN From from[HWY_MAX_BYTES / sizeof(double)] = {};
  HWY_ALIGN To to[HWY_MAX_BYTES / sizeof(double)] = {};
  if (i == n) return;
  std::copy(x + i, x + n, from);
  std::copy(y + i, y + n, to);
  const auto v = LoadWide(d, from);
  StoreWide(d, addend == 0 ? hn::Mul(f, v) : hn::MulAdd(f, v, LoadWide(d, to)), to);
  std::copy(to, to + (n - i), y + i);
}

double DotF32(const float* a, const float* b, size_t n) { return DotRange(a, b, n); }
double DotF64(const double* a, const double* b, size_t n) { return DotRange(a, b, n); }
void LinearF32(double f, const float* x, double g, float* y, size_t n) {
  LinearRange(f, x, g, y, n);
}
void LinearF64(double f, const double* x, double g, double* y, size_t n) {
  LinearRange(f, x, g, y, n);
}
void Widen(double f, const float* x, double g, double* y, size_t n) { LinearRange(f, x, g, y, n); }
void Narrow(double f, const double* x, double g, float* y, size_t n) { LinearRange(f, x, g, y, n); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(DotF32);
HWY_EXPORT(DotF64);
HWY_EXPORT(LinearF32);
HWY_EXPORT(LinearF64);
HWY_EXPORT(Widen);
HWY_EXPORT(Narrow);

namespace {

// Elements between partial sums, by nothing but n: the bits must not depend on the threads.
constexpr size_t kBlock = 4096;
// Elements for one thread at least.
constexpr int64_t kGrain = 16384;
// Elements whose f64 sums stay in the first-level cache.
constexpr size_t kSumBlock = 512;

double DotBlock(const float* a, const float* b, size_t n) {
  return HWY_DYNAMIC_DISPATCH(DotF32)(a, b, n);
}
double DotBlock(const double* a, const double* b, size_t n) {
  return HWY_DYNAMIC_DISPATCH(DotF64)(a, b, n);
}
void Linear(double f, const float* x, double g, float* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(LinearF32)(f, x, g, y, n);
}
void Linear(double f, const double* x, double g, double* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(LinearF64)(f, x, g, y, n);
}
void Linear(double f, const float* x, double g, double* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(Widen)(f, x, g, y, n);
}
void Linear(double f, const double* x, double g, float* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(Narrow)(f, x, g, y, n);
}

template <typename Body>
void ForRanges(size_t n, int threads, Body body) {
  ParallelFor(threads, static_cast<int64_t>(n), kGrain, [&](int64_t begin, int64_t end, int) {
    body(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  });
}

template <typename From, typename To>
void LinearAll(double f, const From* x, double g, To* y, size_t n, int threads) {
  ForRanges(n, threads, [&](size_t at, size_t size) { Linear(f, x + at, g, y + at, size); });
}

template <typename Body>
void ForBlocks(size_t n, int threads, Body body) {
  ForRanges(n, threads, [&](size_t at, size_t size) {
    for (size_t done = 0; done < size; done += kSumBlock) {
      body(at + done, std::min(kSumBlock, size - done));
    }
  });
}

}  // namespace

size_t Segments::Logical() const {
  size_t n = 0;
  for (size_t length : lengths) n += length;
  return n;
}

void Segments::Check(size_t storage) const {
  if (offsets.size() != lengths.size()) {
    throw Error(Code::kShape, "Expected as many segment offsets as lengths, got ", offsets.size(),
                " and ", lengths.size(), ".");
  }
  size_t end = 0;
  for (size_t k = 0; k < offsets.size(); ++k) {
    if (offsets[k] < end || offsets[k] > storage || lengths[k] > storage - offsets[k]) {
      throw Error(Code::kShape, "Expected segment ", k, " to lie in elements [", end, ", ", storage,
                  ") of the storage, got offset ", offsets[k], " and length ", lengths[k], ".");
    }
    end = offsets[k] + lengths[k];
  }
}

template <typename T>
double Dot(const T* a, const T* b, size_t n, int threads) {
  if (n <= kBlock) return DotBlock(a, b, n);
  const size_t blocks = (n + kBlock - 1) / kBlock;
  std::vector<double> partial(blocks);
  ParallelFor(threads, static_cast<int64_t>(blocks), kGrain / static_cast<int64_t>(kBlock),
              [&](int64_t begin, int64_t end, int) {
                for (int64_t k = begin; k < end; ++k) {
                  const size_t at = static_cast<size_t>(k) * kBlock;
                  partial[k] = DotBlock(a + at, b + at, std::min(kBlock, n - at));
                }
              });
  double sum = 0;
  for (double part : partial) sum += part;
  return sum;
}

template <typename T>
double Norm(const T* x, size_t n, int threads) {
  return std::sqrt(Dot(x, x, n, threads));
}

template <typename T>
void Scale(double factor, const T* x, T* y, size_t n, int threads) {
  LinearAll(factor, x, 0.0, y, n, threads);
}

template <typename T>
void Axpy(double factor, const T* x, T* y, size_t n, int threads) {
  LinearAll(factor, x, 1.0, y, n, threads);
}

template <typename T>
void Copy(const T* x, T* y, size_t n, int threads) {
  ForRanges(n, threads,
            [&](size_t at, size_t size) { std::memcpy(y + at, x + at, size * sizeof(T)); });
}

template <typename T>
void Zero(T* x, size_t n, int threads) {
  ForRanges(n, threads, [&](size_t at, size_t size) { std::fill_n(x + at, size, T{0}); });
}

template <typename T>
void AccumulateAll(const T* const* x, size_t count, double* sum, size_t n, int threads) {
  ForBlocks(n, threads, [&](size_t at, size_t size) {
    for (size_t i = 0; i < count; ++i) Linear(1.0, x[i] + at, 1.0, sum + at, size);
  });
}

template <typename T>
void SumAll(double factor, const T* const* x, size_t count, T* y, size_t n, int threads) {
  if (count == 1) return Scale(factor, x[0], y, n, threads);
  ForBlocks(n, threads, [&](size_t at, size_t size) {
    double sum[kSumBlock];
    for (size_t i = 0; i < count; ++i) Linear(1.0, x[i] + at, i == 0 ? 0.0 : 1.0, sum, size);
    Linear(factor, sum, 0.0, y + at, size);
  });
}

template <typename T>
void Round(double factor, const double* x, T* y, size_t n, int threads) {
  LinearAll(factor, x, 0.0, y, n, threads);
}

template <typename T>
void ZeroPadding(const Segments& segments, T* x, size_t storage) {
  size_t end = 0;
  for (size_t k = 0; k < segments.offsets.size(); ++k) {
    std::fill(x + end, x + segments.offsets[k], T{0});
    end = segments.offsets[k] + segments.lengths[k];
  }
  std::fill(x + end, x + storage, T{0});
}

#define LOSSCAPE_INSTANTIATE(T)                                               \
  template double Dot(const T*, const T*, size_t, int);                       \
  template double Norm(const T*, size_t, int);                                \
  template void Scale(double, const T*, T*, size_t, int);                     \
  template void Axpy(double, const T*, T*, size_t, int);                      \
  template void Copy(const T*, T*, size_t, int);                              \
  template void Zero(T*, size_t, int);                                        \
  template void AccumulateAll(const T* const*, size_t, double*, size_t, int); \
  template void SumAll(double, const T* const*, size_t, T*, size_t, int);     \
  template void Round(double, const double*, T*, size_t, int);                \
  template void ZeroPadding(const Segments&, T*, size_t)
LOSSCAPE_INSTANTIATE(float);
LOSSCAPE_INSTANTIATE(double);
#undef LOSSCAPE_INSTANTIATE

}  // namespace losscape
#endif  // HWY_ONCE
