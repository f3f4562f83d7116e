// max_pool:          x -> y, index: the largest element of every window, and its place h W + w
// max_pool_take:     t like x, index -> t at these places
// max_pool_scatter:  g like y, index -> g summed into these places
//
// x is [N, H, W, C] or [N, C, H, W]. In the first, channels are the lanes; in the second a window
// is a loop. N of t and g may be a multiple of that of the index, which is then used in turn. An
// index comes from max_pool only (verify), so it is not checked again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/max_pool.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/max_pool-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

template <typename T>
MaxPoolLoops<T> LoopsOf() {
  return {&MaxPoolRows<T>, &MaxPoolTakeRows<T>, &MaxPoolScatterRows<T>};
}
MaxPoolLoops<float> MaxPoolLoopsF32() { return LoopsOf<float>(); }
MaxPoolLoops<double> MaxPoolLoopsF64() { return LoopsOf<double>(); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

HWY_EXPORT(MaxPoolLoopsF32);
HWY_EXPORT(MaxPoolLoopsF64);

MaxPoolLoops<float> LoopsFor(float) { return HWY_DYNAMIC_DISPATCH(MaxPoolLoopsF32)(); }
MaxPoolLoops<double> LoopsFor(double) { return HWY_DYNAMIC_DISPATCH(MaxPoolLoopsF64)(); }

constexpr int64_t kWork = 16'384;  // elements that are worth a thread

enum class PoolStep { kForward, kTake, kScatter };

// Per position of an axis the first to last window that holds it.
std::vector<SpatialWindow> Holders(const std::vector<SpatialWindow>& windows, int64_t size) {
  std::vector<SpatialWindow> holders(static_cast<size_t>(size), SpatialWindow{0, 0});
  for (size_t o = 0; o < windows.size(); ++o) {
    for (int64_t i = windows[o].begin; i < windows[o].end; ++i) {
      SpatialWindow& own = holders[static_cast<size_t>(i)];
      if (own.end == 0) own.begin = static_cast<int64_t>(o);
      own.end = static_cast<int64_t>(o) + 1;
    }
  }
  return holders;
}

template <typename T>
class MaxPool final : public Kernel {
 public:
  MaxPool(const OpSpec& op, PoolStep step) : step_(step) {
    const TensorType& image = step == PoolStep::kScatter ? op.outTypes[0] : op.inTypes[0];
    const TensorType& pooled = step == PoolStep::kScatter ? op.inTypes[0] : op.outTypes[0];
    const SpatialShape size = SpatialShapeOf(op, image);
    const int64_t area = size.height * size.width;
    if (area > INT32_MAX) {
      throw Error(Code::kShape, op.name, ": expected fewer than 2^31 positions, got ", area, ".");
    }
    rows_ = WindowsOf(op, "rows", size.height);
    columns_ = WindowsOf(op, "columns", size.width);
    for (const auto* windows : {&rows_, &columns_}) {
      for (const SpatialWindow& window : *windows) {
        if (window.begin == window.end) {
          throw Error(Code::kProgram, op.name, ": expected windows of one position or more.");
        }
      }
    }
    const int64_t rows = static_cast<int64_t>(rows_.size());
    const int64_t columns = static_cast<int64_t>(columns_.size());
    const std::vector<int64_t> shape = WithSpace(op, image.shape, rows, columns);
    ExpectShape(op, "the pooled image", pooled, shape);
    ExpectDType(op, "the result", op.outTypes[0], op.inTypes[0].dtype);
    args_.outer = size.outer;
    args_.shared = size.outer;
    args_.height = size.height;
    args_.width = size.width;
    args_.inner = size.inner;
    args_.rows = &rows_;
    args_.columns = &columns_;
    const TensorType& index = step == PoolStep::kForward ? op.outTypes[1] : op.inTypes[1];
    ExpectDType(op, "the index", index, DType::kI32);
    if (step == PoolStep::kForward) {
      const std::vector<double>& steps = op.Numbers("step");
      if (steps.size() != 2 || !(steps[0] >= 1) || !(steps[1] >= 1)) {
        throw Error(Code::kProgram, op.name, ": expected two positive numbers in step.");
      }
      args_.down = static_cast<int64_t>(steps[0]);
      args_.across = static_cast<int64_t>(steps[1]);
      ExpectShape(op, "the index", index, shape);
    } else {
      std::vector<int64_t> own = shape;
      if (!index.shape.empty()) own[0] = index.shape[0];
      ExpectShape(op, "the index", index, own);
      if (own[0] == 0 ? shape[0] != 0 : shape[0] % own[0] != 0) {
        throw Error(Code::kShape, op.name, ": expected a multiple of ", own[0], " samples, got ",
                    shape[0], ".");
      }
      args_.shared = SpatialShapeOf(op, index).outer;
    }
    if (step == PoolStep::kScatter) {
      rowsAt_ = Holders(rows_, size.height);
      columnsAt_ = Holders(columns_, size.width);
      args_.rowsAt = &rowsAt_;
      args_.columnsAt = &columnsAt_;
    }
  }

  void Run(const KernelArgs& args) const override {
    MaxPoolArgs<T> own = args_;
    own.x = static_cast<const T*>(args.in[0]);
    own.y = static_cast<T*>(args.out[0]);
    if (step_ == PoolStep::kForward) own.chosen = static_cast<int32_t*>(args.out[1]);
    if (step_ != PoolStep::kForward) own.index = static_cast<const int32_t*>(args.in[1]);
    const MaxPoolLoops<T> loops = LoopsFor(T{});
    const MaxPoolLoop<T> loop = step_ == PoolStep::kForward ? loops.forward
                                : step_ == PoolStep::kTake  ? loops.take
                                                            : loops.scatter;
    const bool images = step_ == PoolStep::kScatter && own.inner == 1;
    const int64_t per = images                        ? 1
                        : step_ == PoolStep::kScatter ? own.height
                                                      : static_cast<int64_t>(rows_.size());
    const int64_t line = own.width * own.inner * (images ? own.height : 1);
    ParallelFor(args.threads, own.outer * per, kWork / std::max<int64_t>(1, line) + 1,
                [&](int64_t begin, int64_t end, int) { loop(own, begin, end); });
  }

 private:
  PoolStep step_;
  std::vector<SpatialWindow> rows_, columns_, rowsAt_, columnsAt_;
  MaxPoolArgs<T> args_ = {};
};

template <PoolStep kStep>
std::unique_ptr<Kernel> MakeMaxPool(const OpSpec& op) {
  const size_t inputs = kStep == PoolStep::kForward ? 1 : 2;
  ExpectOperands(op, inputs, inputs, kStep == PoolStep::kForward ? 2 : 1);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<MaxPool<float>>(op, kStep);
    case DType::kF64:
      return std::make_unique<MaxPool<double>>(op, kStep);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

LOSSCAPE_KERNEL(max_pool, MakeMaxPool<PoolStep::kForward>);
LOSSCAPE_KERNEL(max_pool_take, MakeMaxPool<PoolStep::kTake>);
LOSSCAPE_KERNEL(max_pool_scatter, MakeMaxPool<PoolStep::kScatter>);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
