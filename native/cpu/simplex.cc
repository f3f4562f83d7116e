// simplex_project:      x [.., C] -> y [.., C], the nearest point of {y >= 0, sum y = 1}
// simplex_project_jvp:  y [.., C], dx [R, .., C] -> 1_A (dx - mean_A dx), A = {y > 0}
//
// The tangent map is symmetric, so it is the cotangent map too. A read of x, then some passes over
// a tile in L1 (as many as sets of entries leave the support, two to six as a rule).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/simplex.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/simplex-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

void SimplexF32(const float* x, float* y, int64_t columns, int64_t begin, int64_t end,
                float* tile) {
  SimplexRows(x, y, columns, begin, end, tile);
}
void SimplexF64(const double* x, double* y, int64_t columns, int64_t begin, int64_t end,
                double* tile) {
  SimplexRows(x, y, columns, begin, end, tile);
}
void SimplexTangentF32(const float* y, const float* dx, float* out, int64_t columns, int64_t rows,
                       int64_t tangents, int64_t begin, int64_t end, float* tiles) {
  SimplexTangentRows(y, dx, out, columns, rows, tangents, begin, end, tiles);
}
void SimplexTangentF64(const double* y, const double* dx, double* out, int64_t columns,
                       int64_t rows, int64_t tangents, int64_t begin, int64_t end, double* tiles) {
  SimplexTangentRows(y, dx, out, columns, rows, tangents, begin, end, tiles);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "native/cpu/check.h"

namespace losscape {
namespace {

HWY_EXPORT(SimplexF32);
HWY_EXPORT(SimplexF64);
HWY_EXPORT(SimplexTangentF32);
HWY_EXPORT(SimplexTangentF64);

constexpr int64_t kWork = 4'096;  // elements that are worth a thread

template <typename T>
class SimplexProject final : public Kernel {
 public:
  SimplexProject(const OpSpec& op, bool tangent) : tangent_(tangent) {
    const TensorType& x = op.inTypes[0];
    if (x.shape.empty() || x.shape.back() < 1) {
      throw Error(Code::kShape, op.name, ": expected rows of one number or more, got shape ",
                  ShapeText(x.shape), ".");
    }
    columns_ = x.shape.back();
    rows_ = Volume(x.shape, 0, x.shape.size() - 1);
    std::vector<int64_t> shape = x.shape;
    if (tangent) {
      const std::vector<int64_t>& dx = op.inTypes[1].shape;
      tangents_ = dx.empty() ? 0 : dx[0];
      shape.insert(shape.begin(), tangents_);
      ExpectShape(op, "the tangents", op.inTypes[1], shape);
      ExpectDType(op, "the tangents", op.inTypes[1], x.dtype);
    }
    ExpectShape(op, "the result", op.outTypes[0], shape);
    ExpectDType(op, "the result", op.outTypes[0], x.dtype);
  }

  size_t ScratchBytes(int threads) const override { return threads * Tiles(); }
  // A block of rows is read before it is written.
  bool MayAlias(int in, int) const override { return in == (tangent_ ? 1 : 0); }

  void Run(const KernelArgs& args) const override {
    const T* x = static_cast<const T*>(args.in[0]);
    const T* dx = tangent_ ? static_cast<const T*>(args.in[1]) : nullptr;
    T* out = static_cast<T*>(args.out[0]);
    const int64_t width = columns_ * (tangents_ > 1 ? tangents_ : 1);
    ParallelRows(args.threads, rows_, width, kWork, [&](int64_t begin, int64_t end, int thread) {
      T* own = reinterpret_cast<T*>(static_cast<char*>(args.scratch) + thread * Tiles());
      if (tangent_) {
        Tangent(x, dx, out, begin, end, own);
      } else {
        Project(x, out, begin, end, own);
      }
    });
  }

 private:
  size_t Tiles() const { return (tangent_ ? 2 : 1) * TileBytes(columns_); }

  void Project(const float* x, float* y, int64_t begin, int64_t end, float* tile) const {
    HWY_DYNAMIC_DISPATCH(SimplexF32)(x, y, columns_, begin, end, tile);
  }
  void Project(const double* x, double* y, int64_t begin, int64_t end, double* tile) const {
    HWY_DYNAMIC_DISPATCH(SimplexF64)(x, y, columns_, begin, end, tile);
  }
  void Tangent(const float* y, const float* dx, float* out, int64_t begin, int64_t end,
               float* tiles) const {
    HWY_DYNAMIC_DISPATCH(SimplexTangentF32)
    (y, dx, out, columns_, rows_, tangents_, begin, end, tiles);
  }
  void Tangent(const double* y, const double* dx, double* out, int64_t begin, int64_t end,
               double* tiles) const {
    HWY_DYNAMIC_DISPATCH(SimplexTangentF64)
    (y, dx, out, columns_, rows_, tangents_, begin, end, tiles);
  }

  bool tangent_;
  int64_t columns_, rows_, tangents_ = 0;
};

std::unique_ptr<Kernel> MakeOf(const OpSpec& op, bool tangent) {
  const size_t inputs = tangent ? 2 : 1;
  ExpectOperands(op, inputs, inputs, 1);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<SimplexProject<float>>(op, tangent);
    case DType::kF64:
      return std::make_unique<SimplexProject<double>>(op, tangent);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

std::unique_ptr<Kernel> MakeProject(const OpSpec& op) { return MakeOf(op, false); }
std::unique_ptr<Kernel> MakeTangent(const OpSpec& op) { return MakeOf(op, true); }
LOSSCAPE_KERNEL(simplex_project, MakeProject);
LOSSCAPE_KERNEL(simplex_project_jvp, MakeTangent);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
