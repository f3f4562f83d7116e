// weight_standardize over all banks of filters of a network at once; per filter (row) of I weights
//
//   weight_standardize          w..              -> factor r U
//   weight_standardize_jvp      w.., v..         -> factor r (v - mean v - nu A U) = J v
//   weight_standardize_vjp_jvp  w.., p.., u.. [, v..] -> the tangent of J p along u, plus J v
//
// with U = w - mean w, r = 1 / sigma(U), nu = r kappa, d sigma = kappa U dU, A = sum v U. J is
// symmetric, so it serves cotangents as well. Bound by memory: 2, 3 and 5 passes over the weights.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/weight_standardize.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/weight_standardize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

template <typename T>
WeightLoops<T> LoopsOf() {
  return {&StandardizeRows<T>, &StandardizeJvpRows<T>, &StandardizeVjpJvpRows<T>};
}
WeightLoops<float> WeightLoopsF32() { return LoopsOf<float>(); }
WeightLoops<double> WeightLoopsF64() { return LoopsOf<double>(); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <vector>

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

HWY_EXPORT(WeightLoopsF32);
HWY_EXPORT(WeightLoopsF64);

WeightLoops<float> LoopsFor(float) { return HWY_DYNAMIC_DISPATCH(WeightLoopsF32)(); }
WeightLoops<double> LoopsFor(double) { return HWY_DYNAMIC_DISPATCH(WeightLoopsF64)(); }

constexpr int64_t kWork = 32'768;          // weights that are worth a thread
constexpr int64_t kStreamBytes = 4 << 20;  // results of more than this leave the caches anyway

enum class Step { kForward, kJvp, kVjpJvp };

WeightForm FormOf(const OpSpec& op) {
  if (op.Number("scale") == 0) return WeightForm::kOne;
  const std::string& form = op.String("form");
  if (form == "in") return WeightForm::kIn;
  if (form == "out") return WeightForm::kOut;
  if (form == "max") return WeightForm::kMax;
  throw Error(Code::kProgram, op.name, ": expected the form in, out or max, got ", form, ".");
}

template <typename T>
class WeightStandardize final : public Kernel {
 public:
  WeightStandardize(const OpSpec& op, Step step) : step_(step) {
    const bool straight = step != Step::kVjpJvp || op.Number("straight") != 0;
    const size_t lists = step == Step::kForward ? 1 : step == Step::kJvp ? 2 : 3 + straight;
    const size_t count = op.outTypes.size();
    ExpectOperands(op, count * lists, count * lists, count);
    if (count == 0) throw Error(Code::kProgram, op.name, ": expected filters, got none.");
    const std::vector<double>& factors = op.Numbers("factors");
    if (factors.size() != count) {
      throw Error(Code::kProgram, op.name, ": expected ", count, " factors, got ", factors.size(),
                  ".");
    }
    const DType dtype = op.inTypes[0].dtype;
    for (size_t i = 0; i < count; ++i) {
      const TensorType& w = op.inTypes[i];
      WeightBank<T> bank = {};
      if (w.shape.size() < 2) {
        throw Error(Code::kShape, op.name, ": expected filters [O, ..], got ", ShapeText(w.shape),
                    ".");
      }
      bank.rows = w.shape[0];
      bank.columns = Volume(w.shape, 1, w.shape.size());
      if (bank.columns < 2) {
        throw Error(Code::kShape, op.name, ": expected filters of two weights or more, got ",
                    ShapeText(w.shape), ".");
      }
      std::vector<int64_t> moved = w.shape;
      bank.tangents = 1;
      if (step != Step::kForward) {
        const std::vector<int64_t>& result = op.outTypes[i].shape;
        bank.tangents = result.empty() ? 0 : result[0];
        moved.insert(moved.begin(), bank.tangents);
      }
      for (size_t list = 0; list < lists; ++list) {
        const TensorType& operand = op.inTypes[list * count + i];
        const bool fixed = list == 0 || (step == Step::kVjpJvp && list == 1);
        ExpectShape(op, "an operand", operand, fixed ? w.shape : moved);
        ExpectDType(op, "an operand", operand, dtype);
      }
      ExpectShape(op, "a result", op.outTypes[i], moved);
      ExpectDType(op, "a result", op.outTypes[i], dtype);
      bank.factor = factors[i];
      bank.epsilon = op.Number("epsilon");
      bank.delta = op.Number("delta");
      bank.form = FormOf(op);
      bank.center = op.Number("center") != 0;
      starts_.push_back(weights_);
      weights_ += bank.rows * bank.columns;
      work_ += bank.rows * bank.columns * bank.tangents;
      banks_.push_back(bank);
    }
    straight_ = straight;
    const bool stream = work_ * static_cast<int64_t>(sizeof(T)) > kStreamBytes;
    for (WeightBank<T>& bank : banks_) bank.stream = stream;
  }

  // A row is read to its end before its first result is written.
  bool MayAlias(int in, int out) const override {
    const int count = static_cast<int>(banks_.size());
    if (step_ == Step::kForward) return in == out;
    return step_ == Step::kJvp && in == out + count;
  }

  void Run(const KernelArgs& args) const override {
    const WeightLoops<T> loops = LoopsFor(T{});
    const WeightLoop<T> loop = step_ == Step::kForward ? loops.forward
                               : step_ == Step::kJvp   ? loops.jvp
                                                       : loops.vjpJvp;
    const int64_t parts = std::min<int64_t>(args.threads, work_ / kWork + 1);
    ParallelFor(args.threads, parts, 1, [&](int64_t begin, int64_t end, int) {
      const int64_t from = weights_ / parts * begin;
      const int64_t to = end == parts ? weights_ : weights_ / parts * end;
      for (size_t i = 0; i < banks_.size(); ++i) {
        // A row belongs to the part that its first weight lies in.
        const auto row = [&](int64_t weight) {
          const int64_t inside = std::max<int64_t>(0, weight - starts_[i]);
          return std::min(banks_[i].rows, (inside - 1 + banks_[i].columns) / banks_[i].columns);
        };
        const int64_t first = row(from), last = row(to);
        if (first < last) loop(Bound(args, i), first, last);
      }
    });
  }

 private:
  WeightBank<T> Bound(const KernelArgs& args, size_t i) const {
    const size_t count = banks_.size();
    const auto in = [&](size_t list) { return static_cast<const T*>(args.in[list * count + i]); };
    WeightBank<T> bank = banks_[i];
    bank.w = in(0);
    if (step_ == Step::kJvp) bank.v = in(1);
    if (step_ == Step::kVjpJvp) {
      bank.p = in(1);
      bank.u = in(2);
      if (straight_) bank.v = in(3);
    }
    bank.out = static_cast<T*>(args.out[i]);
    return bank;
  }

  Step step_;
  bool straight_;
  std::vector<WeightBank<T>> banks_;
  std::vector<int64_t> starts_;  // weights before each bank
  int64_t weights_ = 0, work_ = 0;
};

template <Step kStep>
std::unique_ptr<Kernel> MakeStandardize(const OpSpec& op) {
  if (op.inTypes.empty()) {
    throw Error(Code::kProgram, op.name, ": expected filters, got none.");
  }
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<WeightStandardize<float>>(op, kStep);
    case DType::kF64:
      return std::make_unique<WeightStandardize<double>>(op, kStep);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

LOSSCAPE_KERNEL(weight_standardize, MakeStandardize<Step::kForward>);
LOSSCAPE_KERNEL(weight_standardize_jvp, MakeStandardize<Step::kJvp>);
LOSSCAPE_KERNEL(weight_standardize_vjp_jvp, MakeStandardize<Step::kVjpJvp>);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
