// argmax: x -> i32, the index along `axis` (removed) of the largest element; the first of equals,
// and a NaN counts as largest. Reads x once.
#include <algorithm>

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

constexpr int64_t kGrain = 8'192;  // elements of x
constexpr int64_t kStrip = 256;    // columns whose running maxima stay in L1

template <typename T>
bool Beats(T value, T best) {
  // False once `best` is NaN; true for the first NaN.
  return value > best || (value != value && best == best);
}

template <typename T>
class Argmax final : public Kernel {
 public:
  explicit Argmax(const OpSpec& op) {
    const TensorType& x = op.inTypes[0];
    const int axis = ExpectAxis(op, op.Number("axis"), x.shape.size());
    std::vector<int64_t> shape = x.shape;
    shape.erase(shape.begin() + axis);
    ExpectShape(op, "the result", op.outTypes[0], shape);
    ExpectDType(op, "the result", op.outTypes[0], DType::kI32);
    outer_ = Volume(x.shape, 0, axis);
    size_ = x.shape[axis];
    inner_ = Volume(x.shape, axis + 1, x.shape.size());
    if (size_ == 0 && outer_ * inner_ > 0) {
      throw Error(Code::kShape, "argmax: expected at least one element along axis ", axis,
                  ", got shape ", ShapeText(x.shape), ".");
    }
  }

  void Run(const KernelArgs& args) const override {
    const T* x = static_cast<const T*>(args.in[0]);
    int32_t* y = static_cast<int32_t*>(args.out[0]);
    if (outer_ * inner_ == 0) return;
    if (inner_ == 1) {
      ParallelFor(args.threads, outer_, std::max<int64_t>(1, kGrain / size_),
                  [&](int64_t begin, int64_t end, int) {
                    for (int64_t o = begin; o < end; ++o) y[o] = Row(x + o * size_);
                  });
      return;
    }
    const int64_t strips = (inner_ + kStrip - 1) / kStrip;
    const int64_t strip = std::min(inner_, kStrip) * size_;
    ParallelFor(args.threads, outer_ * strips, std::max<int64_t>(1, kGrain / strip),
                [&](int64_t begin, int64_t end, int) {
                  for (int64_t i = begin; i < end; ++i) {
                    const int64_t o = i / strips, column = i % strips * kStrip;
                    Columns(x + o * size_ * inner_ + column, y + o * inner_ + column,
                            std::min(kStrip, inner_ - column));
                  }
                });
  }

 private:
  int32_t Row(const T* x) const {
    T best = x[0];
    int32_t index = 0;
    for (int64_t i = 1; i < size_; ++i) {
      // Without a branch: which element wins is a guess that fails often.
      const bool beats = Beats(x[i], best);
      best = beats ? x[i] : best;
      index = beats ? static_cast<int32_t>(i) : index;
    }
    return index;
  }

  void Columns(const T* x, int32_t* y, int64_t width) const {
    T best[kStrip];
    std::copy(x, x + width, best);
    std::fill(y, y + width, 0);
    for (int64_t i = 1; i < size_; ++i) {
      const T* row = x + i * inner_;
      for (int64_t j = 0; j < width; ++j) {
        const bool beats = Beats(row[j], best[j]);
        best[j] = beats ? row[j] : best[j];
        y[j] = beats ? static_cast<int32_t>(i) : y[j];
      }
    }
  }

  int64_t outer_, size_, inner_;
};

std::unique_ptr<Kernel> MakeArgmax(const OpSpec& op) {
  ExpectOperands(op, 1, 1, 1);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<Argmax<float>>(op);
    case DType::kF64:
      return std::make_unique<Argmax<double>>(op);
    case DType::kI32:
      return std::make_unique<Argmax<int32_t>>(op);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}
LOSSCAPE_KERNEL(argmax, MakeArgmax);

}  // namespace
}  // namespace losscape
