// iota: () -> y, y[..] = the index along `axis`.
#include "native/cpu/check.h"
#include "native/cpu/half.h"

namespace losscape {
namespace {

class Iota final : public Kernel {
 public:
  explicit Iota(const OpSpec& op) {
    ExpectOperands(op, 0, 0, 1);
    const TensorType& y = op.outTypes[0];
    const int axis = ExpectAxis(op, op.Number("axis"), y.shape.size());
    dtype_ = y.dtype;
    outer_ = Volume(y.shape, 0, axis);
    size_ = y.shape[axis];
    inner_ = Volume(y.shape, axis + 1, y.shape.size());
  }

  void Run(const KernelArgs& args) const override {
    void* y = args.out[0];
    switch (dtype_) {
      case DType::kF32:
        return Fill(static_cast<float*>(y), [](int64_t i) { return static_cast<float>(i); });
      case DType::kF64:
        return Fill(static_cast<double*>(y), [](int64_t i) { return static_cast<double>(i); });
      case DType::kI32:
        return Fill(static_cast<int32_t*>(y), [](int64_t i) { return static_cast<int32_t>(i); });
      case DType::kU8:
        return Fill(static_cast<uint8_t*>(y),
                    [](int64_t i) { return static_cast<uint8_t>(i < 255 ? i : 255); });
      case DType::kBF16:
        return Fill(static_cast<uint16_t*>(y),
                    [](int64_t i) { return Bf16FromFloat(static_cast<float>(i)); });
      case DType::kF16:
        return Fill(static_cast<uint16_t*>(y),
                    [](int64_t i) { return F16FromFloat(static_cast<float>(i)); });
    }
  }

 private:
  template <typename T, typename Value>
  void Fill(T* y, Value value) const {
    for (int64_t o = 0; o < outer_; ++o) {
      for (int64_t i = 0; i < size_; ++i) {
        const T number = value(i);
        for (int64_t j = 0; j < inner_; ++j) *y++ = number;
      }
    }
  }

  DType dtype_;
  int64_t outer_, size_, inner_;
};

std::unique_ptr<Kernel> MakeIota(const OpSpec& op) { return std::make_unique<Iota>(op); }
LOSSCAPE_KERNEL(iota, MakeIota);

}  // namespace
}  // namespace losscape
