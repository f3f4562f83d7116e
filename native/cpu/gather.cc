// gather:      x [V, ..], index [I..] -> y [I.., ..], row i of y is row index[i] of x
// scatter_add: index [I..], u [I.., ..] -> y [size, ..], y[v] = sum of the u[i] with index[i] = v,
//              added in ascending i, so results do not depend on the thread count.
// Bound by memory: reads and writes the chosen rows once.
#include <algorithm>
#include <cstring>

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

constexpr int64_t kGrainBytes = 65'536;
constexpr int64_t kGrainAdds = 16'384;

void CheckIndex(const char* name, const int32_t* index, int64_t count, int64_t size) {
  // One comparison of unsigned numbers sees both ends; the loop has no exit, so it vectorises.
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<uint32_t>(index[i]));
  if (count == 0 || largest < static_cast<uint64_t>(size)) return;
  for (int64_t i = 0; i < count; ++i) {
    if (index[i] < 0 || index[i] >= size) {
      throw Error(Code::kRange, name, ": expected indices in [0, ", size, "), got ", index[i],
                  " at position ", i, ".");
    }
  }
}

class Gather final : public Kernel {
 public:
  explicit Gather(const OpSpec& op) {
    ExpectOperands(op, 2, 2, 1);
    const TensorType& x = op.inTypes[0];
    const TensorType& index = op.inTypes[1];
    if (x.shape.empty()) throw Error(Code::kShape, "gather: expected rows, got a scalar.");
    ExpectDType(op, "the index", index, DType::kI32);
    ExpectDType(op, "the result", op.outTypes[0], x.dtype);
    std::vector<int64_t> shape = index.shape;
    shape.insert(shape.end(), x.shape.begin() + 1, x.shape.end());
    ExpectShape(op, "the result", op.outTypes[0], shape);
    rows_ = x.shape[0];
    count_ = index.Elements();
    rowBytes_ = Volume(x.shape, 1, x.shape.size()) * ByteSize(x.dtype);
  }

  void Run(const KernelArgs& args) const override {
    const char* x = static_cast<const char*>(args.in[0]);
    const int32_t* index = static_cast<const int32_t*>(args.in[1]);
    char* y = static_cast<char*>(args.out[0]);
    CheckIndex("gather", index, count_, rows_);
    if (rowBytes_ == 0) return;
    ParallelFor(args.threads, count_, std::max<int64_t>(1, kGrainBytes / rowBytes_),
                [&](int64_t begin, int64_t end, int) {
                  // Copies of short rows have a size the compiler knows.
                  if (rowBytes_ == 4) return Rows<4>(x, index, y, begin, end);
                  if (rowBytes_ == 8) return Rows<8>(x, index, y, begin, end);
                  for (int64_t i = begin; i < end; ++i) {
                    std::memcpy(y + i * rowBytes_, x + index[i] * rowBytes_, rowBytes_);
                  }
                });
  }

 private:
  template <int kBytes>
  static void Rows(const char* x, const int32_t* index, char* y, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(y + i * kBytes, x + int64_t{index[i]} * kBytes, kBytes);
    }
  }

  int64_t rows_, count_, rowBytes_;
};

template <typename T>
class ScatterAdd final : public Kernel {
 public:
  explicit ScatterAdd(const OpSpec& op) {
    const TensorType& index = op.inTypes[0];
    const TensorType& u = op.inTypes[1];
    const TensorType& y = op.outTypes[0];
    ExpectDType(op, "the index", index, DType::kI32);
    ExpectDType(op, "the result", y, u.dtype);
    rows_ = static_cast<int64_t>(op.Number("size"));
    count_ = index.Elements();
    std::vector<int64_t> shape = index.shape;
    if (y.shape.empty()) throw Error(Code::kShape, "scatter_add: expected rows, got a scalar.");
    shape.insert(shape.end(), y.shape.begin() + 1, y.shape.end());
    ExpectShape(op, "the updates", u, shape);
    shape = y.shape;
    shape[0] = rows_;
    ExpectShape(op, "the result", y, shape);
    width_ = Volume(y.shape, 1, y.shape.size());
  }

  void Run(const KernelArgs& args) const override {
    const int32_t* index = static_cast<const int32_t*>(args.in[0]);
    const T* u = static_cast<const T*>(args.in[1]);
    T* y = static_cast<T*>(args.out[0]);
    CheckIndex("scatter_add", index, count_, rows_);
    if (width_ == 0) return;
    // Every thread owns rows of y and looks for them in the whole index, which is short beside u.
    const int64_t share = (count_ + rows_) * width_ / std::max<int64_t>(rows_, 1) + 1;
    ParallelFor(args.threads, rows_, std::max<int64_t>(1, kGrainAdds / share),
                [&](int64_t begin, int64_t end, int) {
                  std::fill(y + begin * width_, y + end * width_, T{0});
                  for (int64_t i = 0; i < count_; ++i) {
                    if (index[i] < begin || index[i] >= end) continue;
                    T* to = y + index[i] * width_;
                    const T* from = u + i * width_;
                    for (int64_t j = 0; j < width_; ++j) to[j] += from[j];
                  }
                });
  }

 private:
  int64_t rows_, count_, width_;
};

std::unique_ptr<Kernel> MakeGather(const OpSpec& op) { return std::make_unique<Gather>(op); }
LOSSCAPE_KERNEL(gather, MakeGather);

std::unique_ptr<Kernel> MakeScatterAdd(const OpSpec& op) {
  ExpectOperands(op, 2, 2, 1);
  switch (op.inTypes[1].dtype) {
    case DType::kF32:
      return std::make_unique<ScatterAdd<float>>(op);
    case DType::kF64:
      return std::make_unique<ScatterAdd<double>>(op);
    case DType::kI32:
      return std::make_unique<ScatterAdd<int32_t>>(op);
    default:
      ThrowDType(op, op.inTypes[1]);
  }
}
LOSSCAPE_KERNEL(scatter_add, MakeScatterAdd);

}  // namespace
}  // namespace losscape
