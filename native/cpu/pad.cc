// pad: x -> y, `low` elements before and `high` after along each axis, all equal to `value`.
// Writes y once.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "native/cpu/check.h"
#include "native/cpu/half.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

constexpr int64_t kGrain = 16'384;  // elements of y

template <typename T>
class Pad final : public Kernel {
 public:
  Pad(const OpSpec& op, T value)
      : value_(value), x_(op.inTypes[0].shape), y_(op.outTypes[0].shape) {
    const std::vector<double>& low = op.Numbers("low");
    const std::vector<double>& high = op.Numbers("high");
    std::vector<int64_t> shape = x_;
    if (low.size() != shape.size() || high.size() != shape.size()) {
      throw Error(Code::kProgram, "pad: expected ", shape.size(), " low and high widths, got ",
                  low.size(), " and ", high.size(), ".");
    }
    for (size_t i = 0; i < shape.size(); ++i) {
      if (!(low[i] >= 0 && high[i] >= 0)) {
        throw Error(Code::kProgram, "pad: expected widths of at least 0, got ", low[i], " and ",
                    high[i], " for axis ", i, ".");
      }
      low_.push_back(static_cast<int64_t>(low[i]));
      shape[i] += low_[i] + static_cast<int64_t>(high[i]);
    }
    ExpectShape(op, "the result", op.outTypes[0], shape);
    ExpectDType(op, "the result", op.outTypes[0], op.inTypes[0].dtype);
    // A scalar is one row of one element.
    if (x_.empty()) {
      x_ = y_ = {1};
      low_ = {0};
    }
  }

  void Run(const KernelArgs& args) const override {
    const T* x = static_cast<const T*>(args.in[0]);
    T* y = static_cast<T*>(args.out[0]);
    const int64_t width = y_.back();
    const int64_t rows = Volume(y_, 0, y_.size() - 1);
    if (width == 0) return;
    ParallelFor(args.threads, rows, std::max<int64_t>(1, kGrain / width),
                [&](int64_t begin, int64_t end, int) {
                  for (int64_t row = begin; row < end; ++row) Row(row, x, y + row * width);
                });
  }

 private:
  void Row(int64_t row, const T* x, T* y) const {
    int64_t from = 0, stride = x_.back();
    bool inside = true;
    for (size_t axis = y_.size() - 1; axis-- > 0; row /= y_[axis]) {
      const int64_t at = row % y_[axis] - low_[axis];
      inside = inside && at >= 0 && at < x_[axis];
      from += at * stride;
      stride *= x_[axis];
    }
    if (!inside) {
      std::fill(y, y + y_.back(), value_);
      return;
    }
    T* to = std::fill_n(y, low_.back(), value_);
    to = std::copy(x + from, x + from + x_.back(), to);
    std::fill(to, y + y_.back(), value_);
  }

  T value_;
  std::vector<int64_t> x_, y_, low_;
};

std::unique_ptr<Kernel> MakePad(const OpSpec& op) {
  ExpectOperands(op, 1, 1, 1);
  const double value = op.Number("value", 0);
  const auto saturated = [value](double low, double high) {
    return std::isnan(value) ? 0.0 : std::min(std::max(value, low), high);
  };
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<Pad<float>>(op, static_cast<float>(value));
    case DType::kF64:
      return std::make_unique<Pad<double>>(op, value);
    case DType::kBF16:
      return std::make_unique<Pad<uint16_t>>(op, Bf16FromFloat(static_cast<float>(value)));
    case DType::kF16:
      return std::make_unique<Pad<uint16_t>>(op, F16FromFloat(static_cast<float>(value)));
    case DType::kI32:
      return std::make_unique<Pad<int32_t>>(
          op, static_cast<int32_t>(saturated(std::numeric_limits<int32_t>::min(),
                                             std::numeric_limits<int32_t>::max())));
    case DType::kU8:
      return std::make_unique<Pad<uint8_t>>(op, static_cast<uint8_t>(saturated(0, 255)));
  }
  ThrowDType(op, op.inTypes[0]);
}
LOSSCAPE_KERNEL(pad, MakePad);

}  // namespace
}  // namespace losscape
