// resample: x [N, H, W, C] or [N, C, H, W] -> y, y[o, p] = sum_h sum_w R[o, h] C[p, w] x[h, w]
//
// R and C are banded. Each row of y is a sum of rows of x (along memory in both layouts), kept in
// the first-level cache, from which its columns are made. Bound by memory for small windows.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/resample.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include <cstdint>

#ifndef LOSSCAPE_CPU_RESAMPLE
#define LOSSCAPE_CPU_RESAMPLE

#include <vector>

namespace losscape {

// Row o of the matrix: weights of positions [begin, end), one after another from `first` on.
struct ResampleRow {
  int64_t begin, end, first;
};

template <typename T>
struct ResampleArgs {
  const T* x;  // [outer, height, width, inner]
  T* y;        // [outer, rows, columns, inner]
  int64_t height, width, inner;
  const std::vector<ResampleRow>* rows;
  const std::vector<ResampleRow>* columns;
  const std::vector<T>* rowWeights;
  const std::vector<T>* columnWeights;
};

}  // namespace losscape

#endif  // LOSSCAPE_CPU_RESAMPLE

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

// Plain loops over runs of memory: the compiler makes vectors of the target of them.
template <typename T>
HWY_INLINE void Scaled(const T* HWY_RESTRICT x, T a, int64_t n, T* HWY_RESTRICT y) {
  for (int64_t i = 0; i < n; ++i) y[i] = a * x[i];
}
template <typename T>
HWY_INLINE void AddScaled(const T* HWY_RESTRICT x, T a, int64_t n, T* HWY_RESTRICT y) {
  for (int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}
template <typename T>
HWY_INLINE void ScaledPair(const T* HWY_RESTRICT x, const T* HWY_RESTRICT z, T a, T b, int64_t n,
                           T* HWY_RESTRICT y) {
  for (int64_t i = 0; i < n; ++i) y[i] = a * x[i] + b * z[i];
}

// y [n] = sum of weights[k] x[k n .. k n + n), `stride` elements apart.
template <typename T>
HWY_INLINE void Combined(const T* x, int64_t stride, const T* weights, int64_t count, int64_t n,
                         T* y) {
  if (count == 0) {
    for (int64_t i = 0; i < n; ++i) y[i] = T{0};
    return;
  }
  int64_t k = 0;
  if (count == 1) {
    Scaled(x, weights[0], n, y);
    k = 1;
  } else {
    ScaledPair(x, x + stride, weights[0], weights[1], n, y);
    k = 2;
  }
  for (; k < count; ++k) AddScaled(x + k * stride, weights[k], n, y);
}

// Rows [begin, end) of y, counted over all images; line: scratch [width, inner].
template <typename T>
void ResampleRows(const ResampleArgs<T>& args, int64_t begin, int64_t end, T* line) {
  const std::vector<ResampleRow>&rows = *args.rows, &columns = *args.columns;
  const int64_t count = static_cast<int64_t>(rows.size()), inner = args.inner;
  const int64_t width = args.width * inner;
  const int64_t across = static_cast<int64_t>(columns.size());
  for (int64_t at = begin; at < end; ++at) {
    const ResampleRow& row = rows[at % count];
    const T* x = args.x + (at / count * args.height + row.begin) * width;
    T* y = args.y + at * across * inner;
    const T* from = line;
    const int64_t taps = row.end - row.begin;
    const T* weights = args.rowWeights->data() + row.first;
    if (taps == 1 && weights[0] == T{1}) {
      from = x;
    } else {
      Combined(x, width, weights, taps, width, line);
    }
    if (inner == 1) {
      for (int64_t p = 0; p < across; ++p) {
        const ResampleRow& column = columns[p];
        const T* own = args.columnWeights->data() + column.first;
        const T* x0 = from + column.begin;
        const int64_t count = column.end - column.begin;
        if (count == 2) {  // interpolation
          y[p] = own[0] * x0[0] + own[1] * x0[1];
          continue;
        }
        T sum = 0;
        for (int64_t w = 0; w < count; ++w) sum += own[w] * x0[w];
        y[p] = sum;
      }
      continue;
    }
    for (int64_t p = 0; p < across; ++p) {
      const ResampleRow& column = columns[p];
      Combined(from + column.begin * inner, inner, args.columnWeights->data() + column.first,
               column.end - column.begin, inner, y + p * inner);
    }
  }
}

void ResampleF32(const ResampleArgs<float>& args, int64_t begin, int64_t end, float* line) {
  ResampleRows(args, begin, end, line);
}
void ResampleF64(const ResampleArgs<double>& args, int64_t begin, int64_t end, double* line) {
  ResampleRows(args, begin, end, line);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "native/cpu/check.h"
#include "native/cpu/spatial.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

HWY_EXPORT(ResampleF32);
HWY_EXPORT(ResampleF64);

constexpr int64_t kWork = 16'384;  // elements that are worth a thread
constexpr size_t kLineAlign = 64;

template <typename T>
class Resample final : public Kernel {
 public:
  explicit Resample(const OpSpec& op) {
    ExpectOperands(op, 1, 1, 1);
    const TensorType &x = op.inTypes[0], &y = op.outTypes[0];
    const SpatialShape in = SpatialShapeOf(op, x), out = SpatialShapeOf(op, y);
    Read(op, "rows", "rowWeights", in.height, rows_, rowWeights_);
    Read(op, "columns", "columnWeights", in.width, columns_, columnWeights_);
    ExpectShape(op, "the result", y,
                WithSpace(op, x.shape, static_cast<int64_t>(rows_.size()),
                          static_cast<int64_t>(columns_.size())));
    ExpectDType(op, "the result", y, x.dtype);
    args_ = {nullptr, nullptr,   in.height,    in.width,       in.inner,
             &rows_,  &columns_, &rowWeights_, &columnWeights_};
    outer_ = out.outer;
  }

  size_t ScratchBytes(int threads) const override { return threads * LineBytes(); }

  void Run(const KernelArgs& args) const override {
    ResampleArgs<T> own = args_;
    own.x = static_cast<const T*>(args.in[0]);
    own.y = static_cast<T*>(args.out[0]);
    const int64_t width = args_.width * args_.inner;
    const int64_t rows = outer_ * static_cast<int64_t>(rows_.size());
    ParallelFor(args.threads, rows, kWork / std::max<int64_t>(1, width) + 1,
                [&](int64_t begin, int64_t end, int thread) {
                  char* scratch = static_cast<char*>(args.scratch) + thread * LineBytes();
                  Loop(own, begin, end, reinterpret_cast<T*>(scratch));
                });
  }

 private:
  size_t LineBytes() const {
    const size_t bytes = static_cast<size_t>(args_.width * args_.inner) * sizeof(T);
    return (bytes + kLineAlign - 1) / kLineAlign * kLineAlign;
  }

  static void Loop(const ResampleArgs<float>& args, int64_t begin, int64_t end, float* line) {
    HWY_DYNAMIC_DISPATCH(ResampleF32)(args, begin, end, line);
  }
  static void Loop(const ResampleArgs<double>& args, int64_t begin, int64_t end, double* line) {
    HWY_DYNAMIC_DISPATCH(ResampleF64)(args, begin, end, line);
  }

  static void Read(const OpSpec& op, const char* windowsName, const char* weightsName, int64_t size,
                   std::vector<ResampleRow>& rows, std::vector<T>& weights) {
    int64_t first = 0;
    for (const SpatialWindow& window : WindowsOf(op, windowsName, size)) {
      rows.push_back({window.begin, window.end, first});
      first += window.end - window.begin;
    }
    for (double weight : op.Numbers(weightsName)) weights.push_back(static_cast<T>(weight));
    if (static_cast<int64_t>(weights.size()) != first) {
      throw Error(Code::kProgram, op.name, ": expected ", first, " numbers in ", weightsName,
                  ", got ", weights.size(), ".");
    }
  }

  std::vector<ResampleRow> rows_, columns_;
  std::vector<T> rowWeights_, columnWeights_;
  ResampleArgs<T> args_ = {};
  int64_t outer_ = 0;
};

std::unique_ptr<Kernel> MakeResample(const OpSpec& op) {
  ExpectOperands(op, 1, 1, 1);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<Resample<float>>(op);
    case DType::kF64:
      return std::make_unique<Resample<double>>(op);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}
LOSSCAPE_KERNEL(resample, MakeResample);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
