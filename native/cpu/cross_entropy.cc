// cross_entropy and its derivative family. With weights w, targets q (labels or probabilities,
// smoothed by s: q = (1 - s) q + s / C), W = sum_c w_c q_c, lse = log sum_c exp(z_c) and
// p = exp(z - lse):
//
//   cross_entropy          z [B, C], t [, w [C]] -> W lse - sum_c w_c q_c z_c [B], lse [B]
//   cross_entropy_vjp      .., lse, g [B]            -> g (W p - w q)                       [B, C]
//   cross_entropy_jvp      .., lse, dz [R, B, C]     -> sum_c (W p_c - w_c q_c) dz_c        [R, B]
//   cross_entropy_vjp_jvp  .., lse, g, dz [R, B, C]  -> g W p (dz - sum_c p_c dz_c)         [R, B,
//   C]
//
// Reads z (and dz) once, one exp an element for all R tangents. Ignored labels give loss 0 and
// zero derivatives, whatever z holds; other labels outside [0, C) throw Error{ERR_RANGE}.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/cross_entropy.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/cross_entropy-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

CrossEntropyLoops<float> LoopsF32() { return CrossEntropyLoopsFor<float>(); }
CrossEntropyLoops<double> LoopsF64() { return CrossEntropyLoopsFor<double>(); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <cmath>

#include "native/cpu/check.h"

namespace losscape {
namespace {

HWY_EXPORT(LoopsF32);
HWY_EXPORT(LoopsF64);

constexpr int64_t kWork = 4'096;  // elements that are worth a thread

enum class Form { kForward, kVjp, kJvp, kVjpJvp };

CrossEntropyLoop<float> LoopFor(Form form, float) {
  const auto loops = HWY_DYNAMIC_DISPATCH(LoopsF32)();
  return form == Form::kForward ? loops.forward
         : form == Form::kVjp   ? loops.vjp
         : form == Form::kJvp   ? loops.jvp
                                : loops.vjpJvp;
}

CrossEntropyLoop<double> LoopFor(Form form, double) {
  const auto loops = HWY_DYNAMIC_DISPATCH(LoopsF64)();
  return form == Form::kForward ? loops.forward
         : form == Form::kVjp   ? loops.vjp
         : form == Form::kJvp   ? loops.jvp
                                : loops.vjpJvp;
}

template <typename T>
class CrossEntropy final : public Kernel {
 public:
  CrossEntropy(const OpSpec& op, Form form) : form_(form) {
    weighted_ = op.Number("weighted", 0) != 0;
    const bool hasG = form == Form::kVjp || form == Form::kVjpJvp;
    const bool hasTangents = form == Form::kJvp || form == Form::kVjpJvp;
    const size_t inputs = 2 + weighted_ + (form != Form::kForward) + hasG + hasTangents;
    ExpectOperands(op, inputs, inputs, form == Form::kForward ? 2 : 1);
    const TensorType& z = op.inTypes[0];
    const TensorType& t = op.inTypes[1];
    if (z.shape.empty()) throw Error(Code::kShape, op.name, ": expected rows, got a scalar.");
    const std::vector<int64_t> samples(z.shape.begin(), z.shape.end() - 1);
    classes_ = z.shape.back();
    rows_ = Volume(z.shape, 0, z.shape.size() - 1);
    hard_ = t.dtype == DType::kI32;
    ExpectShape(op, "the targets", t, hard_ ? samples : z.shape);
    if (!hard_) ExpectDType(op, "the targets", t, z.dtype);
    auto expect = [&](const char* what, const TensorType& type, const std::vector<int64_t>& shape) {
      ExpectShape(op, what, type, shape);
      ExpectDType(op, what, type, z.dtype);
    };
    size_t input = 2;
    if (weighted_) expect("the weights", op.inTypes[input++], {classes_});
    if (form != Form::kForward) expect("lse", op.inTypes[input++], samples);
    if (hasG) expect("g", op.inTypes[input++], samples);
    std::vector<int64_t> all = z.shape, each = samples;
    if (hasTangents) {
      const std::vector<int64_t>& dz = op.inTypes[input].shape;
      tangents_ = dz.empty() ? 0 : dz[0];
      all.insert(all.begin(), tangents_);
      each.insert(each.begin(), tangents_);
      expect("dz", op.inTypes[input], all);
    }
    expect("the result", op.outTypes[0], form == Form::kForward || form == Form::kJvp ? each : all);
    if (form == Form::kForward) expect("lse", op.outTypes[1], samples);
    smoothing_ = op.Number("smoothing", 0);
    const double ignore = op.Number("ignore", std::nan(""));
    hasIgnore_ = !std::isnan(ignore);
    ignore_ = hasIgnore_ ? static_cast<int32_t>(ignore) : 0;
  }

  size_t ScratchBytes(int threads) const override {
    return threads * kCrossEntropyTiles * TileBytes(classes_);
  }

  void Run(const KernelArgs& args) const override {
    CrossEntropyArgs<T> a{};
    a.rows = rows_;
    a.classes = classes_;
    a.tangents = tangents_;
    size_t input = 0;
    auto next = [&] { return static_cast<const T*>(args.in[input++]); };
    a.z = next();
    if (hard_) {
      a.labels = static_cast<const int32_t*>(args.in[input++]);
      CheckLabels(a.labels);
    } else {
      a.soft = next();
    }
    a.weightSum = static_cast<double>(classes_);
    if (weighted_) {
      a.weights = next();
      a.weightSum = 0;
      for (int64_t c = 0; c < classes_; ++c) a.weightSum += static_cast<double>(a.weights[c]);
    }
    if (form_ != Form::kForward) a.lse = next();
    if (form_ == Form::kVjp || form_ == Form::kVjpJvp) a.g = next();
    if (form_ == Form::kJvp || form_ == Form::kVjpJvp) a.dz = next();
    a.out = static_cast<T*>(args.out[0]);
    if (form_ == Form::kForward) a.lseOut = static_cast<T*>(args.out[1]);
    a.smoothing = smoothing_;
    a.hasIgnore = hasIgnore_;
    a.ignore = ignore_;
    const auto loop = LoopFor(form_, T{});
    const size_t scratch = kCrossEntropyTiles * TileBytes(classes_);
    const int64_t width = classes_ * std::max<int64_t>(1, tangents_);
    ParallelRows(args.threads, rows_, width, kWork, [&](int64_t begin, int64_t end, int thread) {
      char* own = static_cast<char*>(args.scratch) + thread * scratch;
      loop(a, begin, end, reinterpret_cast<T*>(own));
    });
  }

 private:
  void CheckLabels(const int32_t* labels) const {
    for (int64_t i = 0; i < rows_; ++i) {
      const int32_t label = labels[i];
      if ((label >= 0 && label < classes_) || (hasIgnore_ && label == ignore_)) continue;
      throw Error(Code::kRange, "cross_entropy: expected labels in [0, ", classes_, "), got ",
                  label, " for sample ", i, ".");
    }
  }

  Form form_;
  bool hard_, weighted_, hasIgnore_;
  int32_t ignore_;
  int64_t rows_, classes_, tangents_ = 0;
  double smoothing_;
};

std::unique_ptr<Kernel> MakeForm(const OpSpec& op, Form form) {
  if (op.inTypes.empty()) ExpectOperands(op, 2, 6, 1);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<CrossEntropy<float>>(op, form);
    case DType::kF64:
      return std::make_unique<CrossEntropy<double>>(op, form);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

std::unique_ptr<Kernel> MakeCrossEntropy(const OpSpec& op) { return MakeForm(op, Form::kForward); }
std::unique_ptr<Kernel> MakeVjp(const OpSpec& op) { return MakeForm(op, Form::kVjp); }
std::unique_ptr<Kernel> MakeJvp(const OpSpec& op) { return MakeForm(op, Form::kJvp); }
std::unique_ptr<Kernel> MakeVjpJvp(const OpSpec& op) { return MakeForm(op, Form::kVjpJvp); }
LOSSCAPE_KERNEL(cross_entropy, MakeCrossEntropy);
LOSSCAPE_KERNEL(cross_entropy_vjp, MakeVjp);
LOSSCAPE_KERNEL(cross_entropy_jvp, MakeJvp);
LOSSCAPE_KERNEL(cross_entropy_vjp_jvp, MakeVjpJvp);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
