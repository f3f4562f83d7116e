// concat: x.. -> y, joined along `axis`. Copies every byte once.
#include <algorithm>
#include <cstring>

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

constexpr int64_t kGrainBytes = 65'536;

class Concat final : public Kernel {
 public:
  explicit Concat(const OpSpec& op) {
    ExpectOperands(op, 1, SIZE_MAX, 1);
    const TensorType& y = op.outTypes[0];
    const int axis = ExpectAxis(op, op.Number("axis"), y.shape.size());
    const int64_t inner = Volume(y.shape, axis + 1, y.shape.size()) * ByteSize(y.dtype);
    outer_ = Volume(y.shape, 0, axis);
    rowBytes_ = y.shape[axis] * inner;
    int64_t total = 0;
    for (const TensorType& x : op.inTypes) {
      ExpectDType(op, "an operand", x, y.dtype);
      std::vector<int64_t> shape = y.shape;
      if (x.shape.size() == shape.size()) shape[axis] = x.shape[axis];
      ExpectShape(op, "an operand", x, shape);
      total += x.shape[axis];
      partBytes_.push_back(x.shape[axis] * inner);
    }
    if (total != y.shape[axis]) {
      throw Error(Code::kShape, "concat: expected ", total, " along axis ", axis,
                  " of the result, got ", ShapeText(y.shape), ".");
    }
  }

  void Run(const KernelArgs& args) const override {
    if (rowBytes_ == 0) return;
    char* y = static_cast<char*>(args.out[0]);
    if (outer_ == 1) {
      // A few long runs: split each of them.
      for (size_t i = 0; i < partBytes_.size(); ++i) {
        const char* x = static_cast<const char*>(args.in[i]);
        ParallelFor(args.threads, partBytes_[i], kGrainBytes, [=](int64_t begin, int64_t end, int) {
          std::memcpy(y + begin, x + begin, end - begin);
        });
        y += partBytes_[i];
      }
      return;
    }
    ParallelFor(args.threads, outer_, std::max<int64_t>(1, kGrainBytes / rowBytes_),
                [&](int64_t begin, int64_t end, int) {
                  char* to = y + begin * rowBytes_;
                  for (int64_t o = begin; o < end; ++o) {
                    for (size_t i = 0; i < partBytes_.size(); ++i) {
                      const char* x = static_cast<const char*>(args.in[i]);
                      std::memcpy(to, x + o * partBytes_[i], partBytes_[i]);
                      to += partBytes_[i];
                    }
                  }
                });
  }

 private:
  int64_t outer_, rowBytes_;
  std::vector<int64_t> partBytes_;
};

std::unique_ptr<Kernel> MakeConcat(const OpSpec& op) { return std::make_unique<Concat>(op); }
LOSSCAPE_KERNEL(concat, MakeConcat);

}  // namespace
}  // namespace losscape
