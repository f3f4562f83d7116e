// The operands and results of the channel_norm family: attributes, sizes, order and types.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "native/cpu/channel_norm.h"
#include "native/cpu/channel_norm_coefficients.h"
#include "native/cpu/check.h"

namespace losscape {

// Pointers of one run; nullptr: there is none.
template <typename T>
struct NormOperands {
  const T *x = nullptr, *mean = nullptr, *variance = nullptr, *rate = nullptr, *warm = nullptr;
  NormParameter<T> scale1, shift1, scale2, shift2;
  const T *residual = nullptr, *residualDot = nullptr, *moments = nullptr;
  const T *dy = nullptr, *xDot = nullptr, *dyDot = nullptr;
  T *out = nullptr, *momentsOut = nullptr, *freshMean = nullptr, *freshVariance = nullptr;
  T *dScale1 = nullptr, *dShift1 = nullptr, *dScale2 = nullptr, *dShift2 = nullptr;
  T* masked = nullptr;
};

class NormSignature {
 public:
  using Shape = std::vector<int64_t>;

  // Checks every operand and result. Throws Error{ERR_PROGRAM, ERR_SHAPE or ERR_DTYPE}.
  NormSignature(const OpSpec& op, NormForm form) : form_(form) {
    if (op.inTypes.empty() || op.outTypes.empty()) ExpectOperands(op, 1, 32, 1);
    Attributes(op);
    Sizes(op);
    size_t in = 0, out = 0;
    const DType dtype = op.inTypes[0].dtype;
    NormOperands<float> unused;
    Each(
        unused,
        [&](const char* what, const Shape& shape) -> const float* {
          if (in >= op.inTypes.size()) ExpectOperands(op, in + 1, 32, op.outTypes.size());
          likeX_.push_back(&shape == &x_);
          ExpectShape(op, what, op.inTypes[in], shape);
          ExpectDType(op, what, op.inTypes[in++], dtype);
          return nullptr;
        },
        [&](const char* what, const Shape& shape) -> float* {
          if (out >= op.outTypes.size()) ExpectOperands(op, in, in, out + 1);
          ExpectShape(op, what, op.outTypes[out], shape);
          ExpectDType(op, what, op.outTypes[out++], dtype);
          return nullptr;
        });
    ExpectOperands(op, in, in, out);
  }

  const NormShape& shape() const { return s_; }
  NormForm form() const { return form_; }
  // Whether an operand is x, the residual or a cotangent, and not merely of that shape.
  bool LikeX(int in) const { return in >= 0 && in < static_cast<int>(likeX_.size()) && likeX_[in]; }

  template <typename T>
  NormOperands<T> Bind(const KernelArgs& args) const {
    NormOperands<T> b;
    size_t in = 0, out = 0;
    Each(
        b, [&](const char*, const Shape&) { return static_cast<const T*>(args.in[in++]); },
        [&](const char*, const Shape&) { return static_cast<T*>(args.out[out++]); });
    return b;
  }

 private:
  void Attributes(const OpSpec& op) {
    const std::string& stage = op.String("stage1");
    s_.stage = stage == "batch"      ? NormStage::kBatch
               : stage == "estimate" ? NormStage::kEstimate
               : stage == "frozen"   ? NormStage::kFrozen
                                     : NormStage::kNone;
    const std::string& affine = op.String("affine2");
    s_.affine1 = op.Number("affine1", 0) != 0;
    s_.affine2 = affine != "none";
    s_.perGroup = affine == "group";
    s_.groups = static_cast<int64_t>(op.Number("groups", 0));
    s_.nhwc = op.String("layout") == "nhwc";
    s_.warm = op.Number("warm", 0) != 0;
    s_.after = op.String("order") == "after";
    s_.aboutBatch = op.String("about") == "batch";
    s_.through = op.Number("through", 0) != 0;
    s_.relu = op.Number("relu", 0) != 0;
    s_.residual = op.Number("residual", 0) != 0;
    s_.epsilon1 = op.Number("epsilon1");
    s_.epsilon2 = op.Number("epsilon2");
    leadCount_ = static_cast<size_t>(op.Number("lead", 0));
  }

  void Sizes(const OpSpec& op) {
    x_ = op.inTypes[0].shape;
    if (x_.size() < leadCount_ + 2) {
      throw Error(Code::kShape, op.name, ": expected activations with samples and channels, got ",
                  ShapeText(x_), ".");
    }
    lead_.assign(x_.begin(), x_.begin() + leadCount_);
    s_.copies = Volume(x_, 0, leadCount_);
    s_.samples = x_[leadCount_];
    const size_t rank = x_.size(), first = leadCount_ + 1;
    s_.channels = s_.nhwc ? x_[rank - 1] : x_[first];
    s_.spatial = s_.nhwc ? Volume(x_, first, rank - 1) : Volume(x_, first + 1, rank);
    if (s_.channels < 1 || s_.groups < 0 || (s_.groups > 0 && s_.channels % s_.groups != 0)) {
      throw Error(Code::kShape, op.name, ": expected groups that divide ", s_.channels,
                  " channels, got ", s_.groups, ".");
    }
    if (!IsDual(form_)) return;
    const bool given = s_.stage == NormStage::kEstimate || s_.stage == NormStage::kFrozen;
    const size_t at = 2 + 2 * given + (s_.stage == NormStage::kEstimate) + s_.warm +
                      2 * s_.affine1 + 2 * s_.affine2 + s_.residual +
                      (form_ == NormForm::kVjpJvp);  // of the first tangent
    if (at >= op.inTypes.size()) ExpectOperands(op, at + 1, 32, op.outTypes.size());
    const Shape& shape = op.inTypes[at].shape;
    if (shape.size() > rank) tangents_.assign(shape.begin(), shape.end() - rank);
    s_.tangents = Volume(tangents_, 0, tangents_.size());
  }

  static Shape Led(const Shape& lead, Shape shape) {
    shape.insert(shape.begin(), lead.begin(), lead.end());
    return shape;
  }

  // Calls next for every operand and result for every result, in their order.
  template <typename T, class Next, class Result>
  void Each(NormOperands<T>& b, Next next, Result result) const {
    const bool backward = IsBackward(form_);
    const Shape& t = tangents_;
    const Shape channel = Led(lead_, {s_.channels}), scale2 = Led(lead_, {s_.Scales()});
    const Shape moments = Led(lead_, {s_.samples, 3, s_.channels});
    b.x = next("the activations", x_);
    if (s_.stage == NormStage::kEstimate || s_.stage == NormStage::kFrozen) {
      b.mean = next("the mean", channel);
      b.variance = next("the variance", channel);
    }
    if (s_.stage == NormStage::kEstimate) b.rate = next("the rate", lead_);
    if (s_.warm) b.warm = next("warm", lead_);
    if (s_.affine1) {
      b.scale1.value = next("the first scale", channel);
      b.shift1.value = next("the first shift", channel);
    }
    if (s_.affine2) {
      b.scale2.value = next("the second scale", scale2);
      b.shift2.value = next("the second shift", scale2);
    }
    if (s_.residual) b.residual = next("the residual", x_);
    if (IsDerivative(form_)) b.moments = next("the moments", moments);
    if (backward) b.dy = next("the cotangent", x_);
    if (IsDual(form_)) {
      b.xDot = next("the tangent of the activations", Led(t, x_));
      if (s_.affine1) {
        b.scale1.dot = next("the tangent of the first scale", Led(t, channel));
        b.shift1.dot = next("the tangent of the first shift", Led(t, channel));
      }
      if (s_.affine2) {
        b.scale2.dot = next("the tangent of the second scale", Led(t, scale2));
        b.shift2.dot = next("the tangent of the second shift", Led(t, scale2));
      }
      if (backward) {
        b.dyDot = next("the tangent of the cotangent", Led(t, x_));
      } else if (s_.residual) {
        b.residualDot = next("the tangent of the residual", Led(t, x_));
      }
    }
    b.out = result("the first result", Led(t, x_));
    if (form_ == NormForm::kForward) {
      b.momentsOut = result("the moments", moments);
      if (s_.stage == NormStage::kBatch || s_.stage == NormStage::kEstimate) {
        b.freshMean = result("the new mean", channel);
        b.freshVariance = result("the new variance", channel);
      }
    } else if (backward) {
      if (s_.affine1) {
        b.dScale1 = result("the gradient of the first scale", Led(t, channel));
        b.dShift1 = result("the gradient of the first shift", Led(t, channel));
      }
      if (s_.affine2) {
        b.dScale2 = result("the gradient of the second scale", Led(t, scale2));
        b.dShift2 = result("the gradient of the second shift", Led(t, scale2));
      }
      if (s_.residual) b.masked = result("the gradient of the residual", Led(t, x_));
    }
  }

  NormForm form_;
  NormShape s_;
  size_t leadCount_ = 0;
  Shape x_, lead_, tangents_;
  std::vector<bool> likeX_;
};

}  // namespace losscape
