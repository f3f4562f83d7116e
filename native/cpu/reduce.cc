// reduce: x -> y, sum, max or min over `axes`, which are removed.
//
// Bound by memory: reads x once. Neighbouring axes of the same fate are merged; then either the
// innermost axis is reduced (rows fold into numbers) or it stays (rows fold into a row). Long
// reductions are cut into segments whose bounds depend on shapes only and which are combined in
// order, so that results do not depend on the thread count.
#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/reduce.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/reduce-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

ReduceLoops<float, ReduceKind::kSum> SumF32() { return Loops<float, ReduceKind::kSum>(); }
ReduceLoops<float, ReduceKind::kMax> MaxF32() { return Loops<float, ReduceKind::kMax>(); }
ReduceLoops<float, ReduceKind::kMin> MinF32() { return Loops<float, ReduceKind::kMin>(); }
ReduceLoops<double, ReduceKind::kSum> SumF64() { return Loops<double, ReduceKind::kSum>(); }
ReduceLoops<double, ReduceKind::kMax> MaxF64() { return Loops<double, ReduceKind::kMax>(); }
ReduceLoops<double, ReduceKind::kMin> MinF64() { return Loops<double, ReduceKind::kMin>(); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>
#include <cmath>

#include "native/cpu/check.h"

namespace losscape {
namespace {

HWY_EXPORT(SumF32);
HWY_EXPORT(MaxF32);
HWY_EXPORT(MinF32);
HWY_EXPORT(SumF64);
HWY_EXPORT(MaxF64);
HWY_EXPORT(MinF64);

constexpr int64_t kSegment = 16'384;  // elements of x
constexpr int64_t kGrain = 24'576;    // elements of x that are worth a thread
constexpr int64_t kBlock = 512;       // columns whose accumulators stay in L1
constexpr int64_t kMaxSegments = 64;  // of a reduction that leaves rows

// i32 has no vector code: it counts things.
template <ReduceKind kKind>
Accumulator<int32_t, kKind> IntegerRow(const int32_t* x, int64_t n) {
  auto total = ReduceIdentity<int32_t, kKind>();
  for (int64_t i = 0; i < n; ++i) total = ReduceTwo<int32_t, kKind>(total, x[i]);
  return total;
}

template <ReduceKind kKind>
void IntegerColumns(const int32_t* x, int64_t rows, int64_t stride, int64_t width,
                    Accumulator<int32_t, kKind>* accumulator) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < width; ++j) {
      accumulator[j] = ReduceTwo<int32_t, kKind>(accumulator[j], x[r * stride + j]);
    }
  }
}

template <typename T, ReduceKind kKind>
ReduceLoops<T, kKind> LoopsFor() {
  if constexpr (std::is_same_v<T, int32_t>) {
    return {&IntegerRow<kKind>, &IntegerColumns<kKind>};
  } else if constexpr (std::is_same_v<T, float>) {
    if constexpr (kKind == ReduceKind::kSum) return HWY_DYNAMIC_DISPATCH(SumF32)();
    if constexpr (kKind == ReduceKind::kMax) return HWY_DYNAMIC_DISPATCH(MaxF32)();
    if constexpr (kKind == ReduceKind::kMin) return HWY_DYNAMIC_DISPATCH(MinF32)();
  } else {
    if constexpr (kKind == ReduceKind::kSum) return HWY_DYNAMIC_DISPATCH(SumF64)();
    if constexpr (kKind == ReduceKind::kMax) return HWY_DYNAMIC_DISPATCH(MaxF64)();
    if constexpr (kKind == ReduceKind::kMin) return HWY_DYNAMIC_DISPATCH(MinF64)();
  }
}

template <typename T, typename A>
T Rounded(A value) {
  if constexpr (std::is_same_v<T, int32_t> && std::is_same_v<A, double>) {
    return static_cast<int32_t>(std::clamp(value, -2147483648.0, 2147483647.0));
  } else {
    return static_cast<T>(value);
  }
}

struct Axis {
  int64_t size, stride;
};

int64_t Count(const std::vector<Axis>& axes) {
  int64_t count = 1;
  for (const Axis& axis : axes) count *= axis.size;
  return count;
}

int64_t Offset(const std::vector<Axis>& axes, int64_t i) {
  if (axes.size() == 1) return i * axes[0].stride;
  int64_t offset = 0;
  for (size_t k = axes.size(); k-- > 0; i /= axes[k].size) {
    offset += i % axes[k].size * axes[k].stride;
  }
  return offset;
}

template <typename T, ReduceKind kKind>
class Reduce final : public Kernel {
  using A = Accumulator<T, kKind>;

 public:
  explicit Reduce(const OpSpec& op) {
    const std::vector<int64_t>& shape = op.inTypes[0].shape;
    std::vector<bool> reduced(shape.size());
    for (double axis : op.Numbers("axes")) reduced[ExpectAxis(op, axis, shape.size())] = true;
    std::vector<int64_t> left;
    for (size_t i = 0; i < shape.size(); ++i) {
      if (!reduced[i]) left.push_back(shape[i]);
    }
    ExpectShape(op, "the result", op.outTypes[0], left);
    ExpectDType(op, "the result", op.outTypes[0], op.inTypes[0].dtype);
    outputs_ = op.outTypes[0].Elements();
    Merge(shape, reduced);
    if (op.inTypes[0].Elements() == 0) return;
    if (innerReduced_) {
      PlanRows();
    } else {
      PlanColumns();
    }
  }

  size_t ScratchBytes(int) const override {
    return segments_ > 1 ? static_cast<size_t>(segments_ * outputs_) * sizeof(A) : 0;
  }

  void Run(const KernelArgs& args) const override {
    const T* x = static_cast<const T*>(args.in[0]);
    T* y = static_cast<T*>(args.out[0]);
    if (segments_ == 0) {
      std::fill(y, y + outputs_, Rounded<T>(ReduceIdentity<T, kKind>()));
      return;
    }
    A* partial = static_cast<A*>(args.scratch);
    if (innerReduced_) {
      Rows(x, y, partial, args.threads);
    } else {
      Columns(x, y, partial, args.threads);
    }
    if (segments_ == 1) return;
    ParallelFor(args.threads, outputs_, std::max<int64_t>(1, kGrain / segments_),
                [&](int64_t begin, int64_t end, int) {
                  for (int64_t o = begin; o < end; ++o) {
                    A total = partial[o];
                    for (int64_t s = 1; s < segments_; ++s) {
                      total = ReduceTwo<T, kKind>(total, partial[s * outputs_ + o]);
                    }
                    y[o] = Rounded<T>(total);
                  }
                });
  }

 private:
  // Fills kept_ and reduced_ (outermost first) and takes the innermost axis out.
  void Merge(const std::vector<int64_t>& shape, const std::vector<bool>& reduced) {
    std::vector<Axis> axes;
    std::vector<bool> fates;
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 1) continue;
      if (!axes.empty() && fates.back() == reduced[i]) {
        axes.back().size *= shape[i];
      } else {
        axes.push_back({shape[i], 1});
        fates.push_back(reduced[i]);
      }
    }
    if (axes.empty()) {
      axes.push_back({1, 1});
      fates.push_back(true);
    }
    int64_t stride = 1;
    for (size_t i = axes.size(); i-- > 0; stride *= axes[i].size) axes[i].stride = stride;
    inner_ = axes.back().size;
    innerReduced_ = fates.back();
    for (size_t i = 0; i + 1 < axes.size(); ++i) (fates[i] ? reduced_ : kept_).push_back(axes[i]);
  }

  void PlanRows() {
    piecesPerRow_ = (inner_ + kSegment - 1) / kSegment;
    pieces_ = Count(reduced_) * piecesPerRow_;
    piecesPerSegment_ = std::max<int64_t>(1, kSegment / inner_);
    segments_ = (pieces_ + piecesPerSegment_ - 1) / piecesPerSegment_;
  }

  void PlanColumns() {
    // The innermost reduced axis gives the rows of one call; the rest repeats it.
    rows_ = reduced_.empty() ? Axis{1, 0} : reduced_.back();
    if (!reduced_.empty()) reduced_.pop_back();
    pieces_ = Count(reduced_) * rows_.size;
    blocks_ = (inner_ + kBlock - 1) / kBlock;
    const int64_t width = std::min(inner_, kBlock);
    piecesPerSegment_ = std::max(kSegment / width, (pieces_ + kMaxSegments - 1) / kMaxSegments);
    if (Count(kept_) * blocks_ >= kMaxSegments) piecesPerSegment_ = pieces_;
    segments_ = (pieces_ + piecesPerSegment_ - 1) / piecesPerSegment_;
  }

  void Rows(const T* x, T* y, A* partial, int threads) const {
    const auto loops = LoopsFor<T, kKind>();
    const int64_t unit = std::min(pieces_, piecesPerSegment_) * std::min(inner_, kSegment);
    ParallelFor(threads, outputs_ * segments_, std::max<int64_t>(1, kGrain / unit),
                [&](int64_t begin, int64_t end, int) {
                  for (int64_t i = begin; i < end; ++i) {
                    const int64_t o = i / segments_, s = i % segments_;
                    const T* from = x + Offset(kept_, o);
                    const int64_t first = s * piecesPerSegment_;
                    const int64_t stop = std::min(first + piecesPerSegment_, pieces_);
                    A total = ReduceIdentity<T, kKind>();
                    for (int64_t p = first; p < stop; ++p) {
                      const int64_t at = p % piecesPerRow_ * kSegment;
                      const A part = loops.row(from + Offset(reduced_, p / piecesPerRow_) + at,
                                               std::min(kSegment, inner_ - at));
                      total = p == first ? part : ReduceTwo<T, kKind>(total, part);
                    }
                    if (segments_ == 1) {
                      y[o] = Rounded<T>(total);
                    } else {
                      partial[s * outputs_ + o] = total;
                    }
                  }
                });
  }

  void Columns(const T* x, T* y, A* partial, int threads) const {
    const auto loops = LoopsFor<T, kKind>();
    const int64_t width = std::min(inner_, kBlock);
    const int64_t unit = std::min(pieces_, piecesPerSegment_) * width;
    ParallelFor(threads, Count(kept_) * blocks_ * segments_, std::max<int64_t>(1, kGrain / unit),
                [&](int64_t begin, int64_t end, int) {
                  for (int64_t i = begin; i < end; ++i) {
                    const int64_t s = i % segments_, block = i / segments_ % blocks_;
                    const int64_t o = i / segments_ / blocks_;
                    const int64_t columns = std::min(kBlock, inner_ - block * kBlock);
                    const T* from = x + Offset(kept_, o) + block * kBlock;
                    const int64_t at = o * inner_ + block * kBlock;
                    A line[kBlock];
                    std::fill(line, line + columns, ReduceIdentity<T, kKind>());
                    const int64_t stop = std::min((s + 1) * piecesPerSegment_, pieces_);
                    for (int64_t p = s * piecesPerSegment_; p < stop;) {
                      const int64_t row = p % rows_.size;
                      const int64_t count = std::min(rows_.size - row, stop - p);
                      loops.columns(from + Offset(reduced_, p / rows_.size) + row * rows_.stride,
                                    count, rows_.stride, columns, line);
                      p += count;
                    }
                    if (segments_ == 1) {
                      for (int64_t j = 0; j < columns; ++j) y[at + j] = Rounded<T>(line[j]);
                    } else {
                      std::copy(line, line + columns, partial + s * outputs_ + at);
                    }
                  }
                });
  }

  std::vector<Axis> kept_, reduced_;  // without the innermost axis, and without rows_
  Axis rows_{};
  int64_t inner_ = 1, outputs_ = 0;
  bool innerReduced_ = true;
  int64_t pieces_ = 0;  // contiguous runs that fold into one output (or one row of outputs)
  int64_t piecesPerRow_ = 1, piecesPerSegment_ = 1, blocks_ = 1;
  int64_t segments_ = 0;  // 0: nothing to fold
};

template <ReduceKind kKind>
std::unique_ptr<Kernel> MakeOfKind(const OpSpec& op) {
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<Reduce<float, kKind>>(op);
    case DType::kF64:
      return std::make_unique<Reduce<double, kKind>>(op);
    case DType::kI32:
      return std::make_unique<Reduce<int32_t, kKind>>(op);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

std::unique_ptr<Kernel> MakeReduce(const OpSpec& op) {
  ExpectOperands(op, 1, 1, 1);
  const std::string& kind = op.String("kind");
  if (kind == "sum") return MakeOfKind<ReduceKind::kSum>(op);
  if (kind == "max") return MakeOfKind<ReduceKind::kMax>(op);
  if (kind == "min") return MakeOfKind<ReduceKind::kMin>(op);
  throw Error(Code::kProgram, "reduce: expected sum, max or min, got '", kind, "'.");
}
LOSSCAPE_KERNEL(reduce, MakeReduce);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
