// softmax:   x [.., C] -> y [.., C], y = exp(x - lse(x)), or x - lse(x) with `log`
// logsumexp: x [.., C] -> lse [..]
//
// lse(x) = m + log(sum exp(x - m)), m the maximum. One read of x, one exp (softmax: of each
// element, none again). A row with a NaN or +inf, or of -inf only, gives NaN (logsumexp of an
// infinite maximum is that maximum).
#include <algorithm>
#include <limits>

#include "native/cpu/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/softmax.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/math-inl.h"
#include "native/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

// Rows [begin, end) of x [rows, C]; tile: scratch of TileBytes(C).
template <typename T>
void SoftmaxRows(const T* x, T* y, int64_t columns, int64_t begin, int64_t end, bool log, T* tile) {
  const RowTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
  for (int64_t row = begin; row < end; row += lanes) {
    const int64_t rows = std::min(lanes, end - row);
    LoadTile(d, x + row * columns, rows, columns, tile);
    const auto max = TileMax(d, tile, columns);
    auto sum = hn::Zero(d);
    for (int64_t c = 0; c < columns;) {
      auto chain = hn::Zero(d);
      for (const int64_t stop = std::min(columns, c + kChain); c < stop; ++c) {
        T* at = tile + c * lanes;
        const auto e = math::Exp(d, hn::Sub(hn::Load(d, at), max));
        chain = hn::Add(chain, e);
        if (!log) hn::Store(e, d, at);
      }
      sum = hn::Add(sum, chain);
    }
    const auto finite = hn::IsFinite(max);
    if (log) {
      const auto shift = hn::IfThenElse(finite, hn::Add(max, math::Log(d, sum)), nan);
      for (int64_t c = 0; c < columns; ++c) {
        T* at = tile + c * lanes;
        hn::Store(hn::Sub(hn::Load(d, at), shift), d, at);
      }
    } else {
      const auto scale = hn::IfThenElse(finite, hn::Div(hn::Set(d, T{1}), sum), nan);
      for (int64_t c = 0; c < columns; ++c) {
        T* at = tile + c * lanes;
        hn::Store(hn::Mul(hn::Load(d, at), scale), d, at);
      }
    }
    StoreTile(d, tile, rows, columns, y + row * columns);
  }
}

template <typename T>
void LogSumExpRows(const T* x, T* y, int64_t columns, int64_t begin, int64_t end, T* tile) {
  const RowTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN T line[kTileRowBytes / sizeof(T)] = {};
  for (int64_t row = begin; row < end; row += lanes) {
    const int64_t rows = std::min(lanes, end - row);
    LoadTile(d, x + row * columns, rows, columns, tile);
    const auto max = TileMax(d, tile, columns);
    const auto finite = hn::IsFinite(max);
    const auto shift = hn::IfThenElseZero(finite, max);
    auto sum = hn::Zero(d);
    auto poison = hn::Zero(d);
    for (int64_t c = 0; c < columns;) {
      auto chain = hn::Zero(d);
      for (const int64_t stop = std::min(columns, c + kChain); c < stop; ++c) {
        const auto value = hn::Load(d, tile + c * lanes);
        chain = hn::Add(chain, math::Exp(d, hn::Sub(value, shift)));
        poison = hn::Add(poison, hn::IfThenZeroElse(hn::Eq(value, value), value));
      }
      sum = hn::Add(sum, chain);
    }
    const auto lse = hn::IfThenElse(finite, hn::Add(max, math::Log(d, sum)), max);
    hn::Store(hn::Add(lse, poison), d, line);
    std::copy(line, line + rows, y + row);
  }
}

void SoftmaxF32(const float* x, float* y, int64_t columns, int64_t begin, int64_t end, bool log,
                float* tile) {
  SoftmaxRows(x, y, columns, begin, end, log, tile);
}
void SoftmaxF64(const double* x, double* y, int64_t columns, int64_t begin, int64_t end, bool log,
                double* tile) {
  SoftmaxRows(x, y, columns, begin, end, log, tile);
}
void LogSumExpF32(const float* x, float* y, int64_t columns, int64_t begin, int64_t end,
                  float* tile) {
  LogSumExpRows(x, y, columns, begin, end, tile);
}
void LogSumExpF64(const double* x, double* y, int64_t columns, int64_t begin, int64_t end,
                  double* tile) {
  LogSumExpRows(x, y, columns, begin, end, tile);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {
namespace {

HWY_EXPORT(SoftmaxF32);
HWY_EXPORT(SoftmaxF64);
HWY_EXPORT(LogSumExpF32);
HWY_EXPORT(LogSumExpF64);

constexpr int64_t kWork = 4'096;  // elements that are worth a thread

enum class Kind { kSoftmax, kLogSoftmax, kLogSumExp };

void Rows(Kind kind, const float* x, float* y, int64_t columns, int64_t begin, int64_t end,
          float* tile) {
  if (kind == Kind::kLogSumExp) {
    HWY_DYNAMIC_DISPATCH(LogSumExpF32)(x, y, columns, begin, end, tile);
  } else {
    HWY_DYNAMIC_DISPATCH(SoftmaxF32)(x, y, columns, begin, end, kind == Kind::kLogSoftmax, tile);
  }
}

void Rows(Kind kind, const double* x, double* y, int64_t columns, int64_t begin, int64_t end,
          double* tile) {
  if (kind == Kind::kLogSumExp) {
    HWY_DYNAMIC_DISPATCH(LogSumExpF64)(x, y, columns, begin, end, tile);
  } else {
    HWY_DYNAMIC_DISPATCH(SoftmaxF64)(x, y, columns, begin, end, kind == Kind::kLogSoftmax, tile);
  }
}

template <typename T>
class RowKernel final : public Kernel {
 public:
  RowKernel(const OpSpec& op, Kind kind) : kind_(kind) {
    const TensorType& x = op.inTypes[0];
    const TensorType& y = op.outTypes[0];
    if (x.shape.empty()) throw Error(Code::kShape, op.name, ": expected rows, got a scalar.");
    std::vector<int64_t> shape = x.shape;
    if (kind == Kind::kLogSumExp) shape.pop_back();
    ExpectShape(op, "the result", y, shape);
    ExpectDType(op, "the result", y, x.dtype);
    columns_ = x.shape.back();
    rows_ = Volume(x.shape, 0, x.shape.size() - 1);
  }

  size_t ScratchBytes(int threads) const override { return threads * TileBytes(columns_); }

  bool MayAlias(int, int) const override { return kind_ != Kind::kLogSumExp; }

  void Run(const KernelArgs& args) const override {
    const T* x = static_cast<const T*>(args.in[0]);
    T* y = static_cast<T*>(args.out[0]);
    if (columns_ == 0) {
      if (kind_ == Kind::kLogSumExp) {
        std::fill(y, y + rows_, -std::numeric_limits<T>::infinity());
      }
      return;
    }
    ParallelRows(args.threads, rows_, columns_, kWork, [&](int64_t begin, int64_t end, int thread) {
      char* scratch = static_cast<char*>(args.scratch) + thread * TileBytes(columns_);
      Rows(kind_, x, y, columns_, begin, end, reinterpret_cast<T*>(scratch));
    });
  }

 private:
  Kind kind_;
  int64_t rows_, columns_;
};

std::unique_ptr<Kernel> MakeRowKernel(const OpSpec& op, Kind kind) {
  ExpectOperands(op, 1, 1, 1);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<RowKernel<float>>(op, kind);
    case DType::kF64:
      return std::make_unique<RowKernel<double>>(op, kind);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

std::unique_ptr<Kernel> MakeSoftmax(const OpSpec& op) {
  return MakeRowKernel(op, op.Number("log", 0) != 0 ? Kind::kLogSoftmax : Kind::kSoftmax);
}
LOSSCAPE_KERNEL(softmax, MakeSoftmax);

std::unique_ptr<Kernel> MakeLogSumExp(const OpSpec& op) {
  return MakeRowKernel(op, Kind::kLogSumExp);
}
LOSSCAPE_KERNEL(logsumexp, MakeLogSumExp);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
