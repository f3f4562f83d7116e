// channel_norm and its derivative family: normalisation of activations [L.., N, C, ..] (NCHW) or
// [L.., N, .., C] (NHWC) over the batch (stage 1) and over groups of a sample (stage 2), affine
// parts, residual and ReLU. Head
// x.. = x [, mean, variance] [, rate] [, warm] [, scale1, shift1] [, scale2, shift2] [, residual]:
//
//   channel_norm          x..                     -> y, moments [L.., N, 3, C] [, mean, variance]
//   channel_norm_vjp      x.., moments, dy        -> dx [, dscale1, dshift1] [, ..2] [, dresidual]
//   channel_norm_jvp      x.., moments, x'..      -> y'
//   channel_norm_vjp_jvp  x.., moments, dy, x'.., dy' -> dx' ..
//
// Primed operands, and every result of the last two, are [R, ..] for R tangents.
//
// Each is sums of every (sample, channel) over the streams that it reads, arithmetic on these
// (channel_norm_coefficients.h) and one linear combination of the streams: with E elements of b
// bytes, forward moves 3 E b (read x twice, write y), vjp 5 E b, jvp 5 E b, vjp_jvp 9 E b. Where no
// statistic couples samples, sums and combination follow one another sample by sample, and the
// second reading comes from cache. moments: a reference near the mean, the mean of x - reference,
// the biased variance.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/channel_norm.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/channel_norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

NormLoops<float> NormLoopsF32() { return NormLoopsFor<float>(); }
NormLoops<double> NormLoopsF64() { return NormLoopsFor<double>(); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>
#include <cmath>
#include <memory>

#include "native/cpu/channel_norm_apply.h"
#include "native/cpu/channel_norm_operands.h"
#include "native/cpu/channel_norm_plan.h"
#include "native/cpu/channel_norm_statistics.h"
#include "native/cpu/channel_norm_sums.h"
#include "native/cpu/channel_norm_work.h"
#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

HWY_EXPORT(NormLoopsF32);
HWY_EXPORT(NormLoopsF64);

NormLoops<float> LoopsFor(float) { return HWY_DYNAMIC_DISPATCH(NormLoopsF32)(); }
NormLoops<double> LoopsFor(double) { return HWY_DYNAMIC_DISPATCH(NormLoopsF64)(); }

// Estimates that were never initialised, or that a run that diverged has spoilt; rates beyond
// [0, 1], which make negative variances.
template <typename T>
void CheckGiven(const NormShape& s, const NormOperands<T>& b) {
  if (!b.mean) return;
  const auto refuse = [&](const char* what, double value, int64_t i) {
    throw Error(Code::kRange, "channel_norm: expected a finite ", what, " for every channel, got ",
                value, " for channel ", i % s.channels,
                ": estimates that were never initialised, or of a run that diverged.");
  };
  for (int64_t i = 0; i < s.copies * s.channels; ++i) {
    const double m = static_cast<double>(b.mean[i]), v = static_cast<double>(b.variance[i]);
    if (!std::isfinite(m)) refuse("mean", m, i);
    if (!std::isfinite(v) || v < 0) refuse("variance of at least 0", v, i);
  }
  for (int64_t copy = 0; b.rate && copy < s.copies; ++copy) {
    const double rate = static_cast<double>(b.rate[copy]);
    if (rate >= 0 && rate <= 1) continue;
    throw Error(Code::kRange, "channel_norm: expected an update rate from 0 to 1, got ", rate, ".");
  }
}

// body(item, line of the thread) for every item, from the last of each thread if asked for.
template <typename T, class F>
void ForItems(const NormWork<T>& w, bool backwards, F&& body) {
  const NormPlan& plan = w.plan;
  ParallelFor(plan.threads, plan.Items(), plan.Grain(),
              [&](int64_t begin, int64_t end, int thread) {
                for (int64_t i = begin; i < end; ++i) {
                  body(plan.Item(backwards ? begin + end - 1 - i : i), w.Line(thread));
                }
              });
}

// Num: what the statistics and coefficients are computed with.
template <class Num, typename T>
void RunForm(const NormWork<T>& w) {
  const NormPlan& plan = w.plan;
  const bool backward = IsBackward(plan.form);
  if (IsDual(plan.form)) PrimalStatistics(w);
  const bool early = plan.form == NormForm::kVjp || !plan.couples;
  if (early) Statistics<Num>(w, false);
  if (plan.Fused()) {
    ForItems(w, false, [&](const NormItem& item, T* line) {
      SumItem(w, item, line);
      SumSample(w, item.sample);
      ApplyItem<Num>(w, item, line);
    });
    if (backward) Gradients<Num>(w);
    return;
  }
  ForItems(w, false, [&](const NormItem& item, T* line) {
    SumItem(w, item, line);
    if (plan.splits == 1) SumSample(w, item.sample);
  });
  for (int64_t sample = 0; plan.splits > 1 && sample < plan.samples; ++sample) SumSample(w, sample);
  if (!early) Statistics<Num>(w, IsDerivative(plan.form));
  if (backward) Gradients<Num>(w);
  // What the sums have read last is in cache still.
  ForItems(w, true, [&](const NormItem& item, T* line) { ApplyItem<Num>(w, item, line); });
}

template <typename T>
class ChannelNorm final : public Kernel {
 public:
  ChannelNorm(const OpSpec& op, NormForm form) : signature_(op, form) {}

  size_t ScratchBytes(int threads) const override { return Plan(threads).scratch.bytes; }

  // Every pass reads an element before it writes the same one, and the sums are done by then. Of
  // the backward forms with a residual, the sums write already.
  bool MayAlias(int in, int out) const override {
    const NormForm form = signature_.form();
    return out == 0 && !IsDual(form) && !(IsBackward(form) && signature_.shape().residual) &&
           signature_.LikeX(in);
  }

  void Run(const KernelArgs& args) const override {
    const NormOperands<T> bound = signature_.Bind<T>(args);
    const NormForm form = signature_.form();
    if (form == NormForm::kForward) CheckGiven(signature_.shape(), bound);
    const NormPlan plan = Plan(args.threads);
    const NormWork<T> work{plan, bound, static_cast<char*>(args.scratch), LoopsFor(T{})};
    if (IsDual(form)) {
      RunForm<Dual>(work);
    } else {
      RunForm<double>(work);
    }
  }

 private:
  NormPlan Plan(int threads) const {
    return NormPlan(signature_.shape(), signature_.form(), sizeof(T), threads);
  }

  NormSignature signature_;
};

std::unique_ptr<Kernel> MakeForm(const OpSpec& op, NormForm form) {
  if (op.inTypes.empty()) ExpectOperands(op, 1, 32, 1);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<ChannelNorm<float>>(op, form);
    case DType::kF64:
      return std::make_unique<ChannelNorm<double>>(op, form);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

std::unique_ptr<Kernel> MakeNorm(const OpSpec& op) { return MakeForm(op, NormForm::kForward); }
std::unique_ptr<Kernel> MakeVjp(const OpSpec& op) { return MakeForm(op, NormForm::kVjp); }
std::unique_ptr<Kernel> MakeJvp(const OpSpec& op) { return MakeForm(op, NormForm::kJvp); }
std::unique_ptr<Kernel> MakeVjpJvp(const OpSpec& op) { return MakeForm(op, NormForm::kVjpJvp); }
LOSSCAPE_KERNEL(channel_norm, MakeNorm);
LOSSCAPE_KERNEL(channel_norm_vjp, MakeVjp);
LOSSCAPE_KERNEL(channel_norm_jvp, MakeJvp);
LOSSCAPE_KERNEL(channel_norm_vjp_jvp, MakeVjpJvp);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
