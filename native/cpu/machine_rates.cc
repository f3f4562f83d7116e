#include "native/cpu/machine_rates.h"

#include <hwy/cache_control.h>

#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/machine_rates.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// y = x past the caches; n is a multiple of 64 and both are aligned.
void StreamCopy(const float* x, float* y, size_t n) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < n; i += lanes) hn::Stream(hn::Load(d, x + i), d, y + i);
  hwy::FlushStream();
}

// Eight chains: two loads a cycle must not wait for one chain of additions.
float ReadSum(const float* x, size_t n) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  size_t i = 0;
  for (; i + 8 * lanes <= n; i += 8 * lanes) {
    s0 = hn::Add(s0, hn::Load(d, x + i));
    s1 = hn::Add(s1, hn::Load(d, x + i + lanes));
    s2 = hn::Add(s2, hn::Load(d, x + i + 2 * lanes));
    s3 = hn::Add(s3, hn::Load(d, x + i + 3 * lanes));
    s4 = hn::Add(s4, hn::Load(d, x + i + 4 * lanes));
    s5 = hn::Add(s5, hn::Load(d, x + i + 5 * lanes));
    s6 = hn::Add(s6, hn::Load(d, x + i + 6 * lanes));
    s7 = hn::Add(s7, hn::Load(d, x + i + 7 * lanes));
  }
  for (; i < n; i += lanes) s0 = hn::Add(s0, hn::Load(d, x + i));
  const auto low = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
  const auto high = hn::Add(hn::Add(s4, s5), hn::Add(s6, s7));
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(low, high)));
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "native/cpu/onednn.h"
#include "native/runtime/blas.h"
#include "native/runtime/error.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

HWY_EXPORT(StreamCopy);
HWY_EXPORT(ReadSum);

constexpr size_t kAlignment = 256;
constexpr size_t kGrain = kAlignment / sizeof(float);
constexpr double kSeconds = 0.15;  // per kind
constexpr size_t kPasses = 7;      // at least

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
template <typename T>
using Array = std::unique_ptr<T[], Free>;

template <typename T>
Array<T> Allocate(size_t count) {
  const size_t bytes = (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  Array<T> array(static_cast<T*>(std::aligned_alloc(kAlignment, bytes)));
  if (!array) throw Error(Code::kOutOfMemory, "No memory for ", bytes, " bytes to measure with.");
  return array;
}

double Now() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Median seconds per call, the first call excluded.
template <typename F>
double MedianSeconds(F&& f) {
  f();
  double began = Now();
  f();
  // A pass is long against the clock and the cost of a parallel region's start.
  const int calls = std::max(1, static_cast<int>(2e-4 / std::max(Now() - began, 1e-9)));
  std::vector<double> times;
  double total = 0;
  while (times.size() < kPasses || total < kSeconds) {
    began = Now();
    for (int i = 0; i < calls; ++i) f();
    const double pass = Now() - began;
    total += pass;
    times.push_back(pass / calls);
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// OpenMP's thread count for the calling thread, put back afterwards: the libraries read it.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ThreadCount() { omp_set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

void CheckThreads(int threads) {
  if (threads < 1) throw Error(Code::kArgument, "threads must be at least 1, not ", threads, ".");
}

double OpenBlasSeconds(int n, int threads, const float* a, const float* b, float* y) {
  const Blas& blas = OpenBlas();
  blas.set_threads(threads);
  return MedianSeconds(
      [&] { CheckBlas(blas.sgemm(0, 0, n, n, n, 1.0f, a, n, b, n, 0.0f, y, n), "sgemm"); });
}

double OpenBlasSeconds(int n, int threads, const double* a, const double* b, double* y) {
  const Blas& blas = OpenBlas();
  blas.set_threads(threads);
  return MedianSeconds(
      [&] { CheckBlas(blas.dgemm(0, 0, n, n, n, 1.0, a, n, b, n, 0.0, y, n), "dgemm"); });
}

template <typename T>
double BestGemmSeconds(int n, int threads) {
  const size_t count = static_cast<size_t>(n) * n;
  const Array<T> a = Allocate<T>(count), b = Allocate<T>(count), y = Allocate<T>(count);
  // Neither zeros nor denormals, which some processors treat faster or slower.
  for (size_t i = 0; i < count; ++i) {
    a[i] = static_cast<T>(i * 7 % 13) / 8 - static_cast<T>(0.75);
    b[i] = static_cast<T>(i * 5 % 11) / 8 - static_cast<T>(0.625);
  }
  double best = std::numeric_limits<double>::infinity();
  if constexpr (sizeof(T) == sizeof(float)) {
    const GemmSize size{n, n, n, false, false};
    best = MedianSeconds([&] { OneDnnGemm(size, a.get(), b.get(), y.get(), false); });
    // OpenBLAS is a second opinion here: oneDNN answers where it cannot be opened.
    try {
      best = std::min(best, OpenBlasSeconds(n, threads, a.get(), b.get(), y.get()));
    } catch (const Error& error) {
      if (error.code() != Code::kNative) throw;
    }
  } else {
    best = OpenBlasSeconds(n, threads, a.get(), b.get(), y.get());
  }
  return best;
}

}  // namespace

double CopyBandwidth(size_t bytes, int threads) {
  CheckThreads(threads);
  if (bytes < 4096) throw Error(Code::kArgument, "bytes must be at least 4096, not ", bytes, ".");
  const ThreadCount scope(threads);
  // Two halves; the sum reads both in one stretch.
  const size_t half = bytes / 2 / kAlignment * kGrain;
  const Array<float> memory = Allocate<float>(2 * half);
  float* const x = memory.get();
  float* const y = x + half;
  const auto each = [&](size_t count, auto&& body) {
    ParallelFor(threads, static_cast<int64_t>(count), kGrain, body);
  };
  // By the threads that use them, so that pages lie near.
  each(2 * half, [&](int64_t begin, int64_t end, int) { std::fill(x + begin, x + end, 1.0f); });
  const double copy = MedianSeconds([&] {
    each(half, [&](int64_t begin, int64_t end, int) {
      std::memcpy(y + begin, x + begin, static_cast<size_t>(end - begin) * sizeof(float));
    });
  });
  const double stream = MedianSeconds([&] {
    each(half, [&](int64_t begin, int64_t end, int) {
      HWY_DYNAMIC_DISPATCH(StreamCopy)(x + begin, y + begin, static_cast<size_t>(end - begin));
    });
  });
  std::atomic<float> sink{0};
  const double sum = MedianSeconds([&] {
    each(2 * half, [&](int64_t begin, int64_t end, int) {
      sink.store(HWY_DYNAMIC_DISPATCH(ReadSum)(x + begin, static_cast<size_t>(end - begin)),
                 std::memory_order_relaxed);
    });
  });
  return static_cast<double>(2 * half * sizeof(float)) / std::min({copy, stream, sum});
}

double GemmRate(int n, DType dtype, int threads) {
  CheckThreads(threads);
  if (n < 1) throw Error(Code::kArgument, "n must be at least 1, not ", n, ".");
  const ThreadCount scope(threads);
  const double flop = 2.0 * n * n * n;
  switch (dtype) {
    case DType::kF32:
      return flop / BestGemmSeconds<float>(n, threads);
    case DType::kF64:
      return flop / BestGemmSeconds<double>(n, threads);
    default:
      throw Error(Code::kDType, "Matrix products are measured in f32 and f64 only.");
  }
}

}  // namespace losscape
#endif  // HWY_ONCE
