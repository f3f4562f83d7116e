// channel_norm and its derivative family: normalisation of activations [L.., N, C, ..] (NCHW) or
// [L.., N, .., C] (NHWC) over the batch (stage 1) and over groups of a sample (stage 2), affine
// parts, residual and ReLU. Head x.. = x [, mean, variance] [, rate] [, warm] [, scale1, shift1] [,
// scale2, shift2] [, residual]:
//
//   channel_norm          x..                     -> y, moments [L.., N, 3, C] [, mean, variance]
//   channel_norm_vjp      x.., moments, dy        -> dx [, dscale1, dshift1] [, ..2] [, dresidual]
//   channel_norm_jvp      x.., moments, x'..      -> y'                                  each [R,
//   ..] channel_norm_vjp_jvp  x.., moments, dy, x'.., dy' -> dx' ..                          each
//   [R, ..]
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
#include <limits>
#include <type_traits>
#include <vector>

#include "native/cpu/channel_norm_coefficients.h"
#include "native/cpu/channel_norm_operands.h"
#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

HWY_EXPORT(NormLoopsF32);
HWY_EXPORT(NormLoopsF64);

NormLoops<float> LoopsFor(float) { return HWY_DYNAMIC_DISPATCH(NormLoopsF32)(); }
NormLoops<double> LoopsFor(double) { return HWY_DYNAMIC_DISPATCH(NormLoopsF64)(); }

constexpr int64_t kWork = 16'384;  // elements of x that are worth a thread
constexpr int64_t kStreamBytes = 20 << 20;
constexpr int64_t kReferenceRows = 64;   // values whose mean is the reference of the sums
constexpr int64_t kCellsOfThread = 512;  // (sample, channel) pairs that are worth a thread

template <typename T>
class ChannelNorm final : public Kernel {
 public:
  ChannelNorm(const OpSpec& op, NormForm form)
      : form_(form), signature_(op, form), s_(signature_.shape()) {
    items_ = s_.copies * s_.samples;
    elements_ = items_ * s_.Sample();
    couples_ = s_.stage == NormStage::kBatch ||
               (s_.stage == NormStage::kEstimate && (s_.through || form_ == NormForm::kForward));
  }

  size_t ScratchBytes(int threads) const override { return Plan(threads, nullptr).bytes; }

  // Every pass reads an element before it writes the same one, and the sums are done by then. Of
  // the backward forms with a residual, the sums write already.
  bool MayAlias(int in, int out) const override {
    return out == 0 && !IsDual() && !(IsBackward() && s_.residual) && signature_.LikeX(in);
  }

  void Run(const KernelArgs& args) const override {
    const NormOperands<T> bound = signature_.Bind<T>(args);
    if (form_ == NormForm::kForward) CheckGiven(bound);
    const Scratch plan = Plan(args.threads, static_cast<char*>(args.scratch));
    const int threads = elements_ < 2 * kWork ? 1 : args.threads;
    Pass pass{bound, plan, LoopsFor(T{}), threads};
    if (form_ == NormForm::kForward || form_ == NormForm::kVjp) {
      RunOf<double>(pass);
    } else {
      RunOf<Dual>(pass);
    }
  }

 private:
  struct Scratch {
    double* sums;                 // [items, R, count, C]
    char* channels;               // NormChannel<Num> [R, L, C]
    char* cells;                  // NormCell<Num> [R, L, N, G], of the backward forms
    NormChannel<double>* primal;  // [L, C], of the derivatives
    char* lines;                  // of each thread
    size_t line, bytes;
  };
  struct Pass {
    const NormOperands<T>& b;
    Scratch scratch;
    NormLoops<T> loops;
    int threads;
  };

  bool IsBackward() const { return form_ == NormForm::kVjp || form_ == NormForm::kVjpJvp; }
  bool IsDerivative() const { return form_ != NormForm::kForward; }
  bool IsDual() const { return form_ == NormForm::kJvp || form_ == NormForm::kVjpJvp; }

  // Estimates that were never initialised, or that a run that diverged has spoilt.
  void CheckGiven(const NormOperands<T>& b) const {
    if (!b.mean) return;
    const auto refuse = [&](const char* what, double value, int64_t i) {
      throw Error(Code::kRange, "channel_norm: expected a finite ", what,
                  " for every channel, got ", value, " for channel ", i % s_.channels,
                  ": estimates that were never initialised, or of a run that diverged.");
    };
    for (int64_t i = 0; i < s_.copies * s_.channels; ++i) {
      const double m = static_cast<double>(b.mean[i]), v = static_cast<double>(b.variance[i]);
      if (!std::isfinite(m)) refuse("mean", m, i);
      if (!std::isfinite(v) || v < 0) refuse("variance of at least 0", v, i);
    }
  }

  // A sample is split where there are too few for the threads.
  int64_t Splits(int threads) const {
    if (threads <= 1 || elements_ < 2 * kWork || items_ >= 4 * threads || items_ % threads == 0) {
      return 1;
    }
    return std::min<int64_t>(threads, s_.nhwc ? s_.spatial : s_.channels);
  }
  bool Fused(int64_t splits) const { return !couples_ && splits == 1; }
  int64_t SumSize() const { return NormSumCount(form_) * s_.channels; }

  Scratch Plan(int threads, char* base) const {
    Scratch plan{};
    size_t at = 0;
    const auto take = [&](size_t bytes) {
      char* start = base + at;
      at += (bytes + 255) / 256 * 256;
      return start;
    };
    const int64_t items = items_ * Splits(threads);
    const size_t tangents = static_cast<size_t>(s_.tangents);
    const size_t channels = static_cast<size_t>(s_.copies * s_.channels);
    plan.sums = reinterpret_cast<double*>(
        take(static_cast<size_t>(items * SumSize()) * tangents * sizeof(double)));
    plan.channels = take(channels * tangents *
                         (IsDual() ? sizeof(NormChannel<Dual>) : sizeof(NormChannel<double>)));
    plan.primal = reinterpret_cast<NormChannel<double>*>(
        take(IsDual() ? channels * sizeof(NormChannel<double>) : 0));
    plan.cells =
        take(IsBackward() ? static_cast<size_t>(items_ * s_.groups) * tangents *
                                (IsDual() ? sizeof(NormCell<Dual>) : sizeof(NormCell<double>))
                          : 0);
    plan.line =
        (static_cast<size_t>(kNormCoefficients * s_.channels + NormLine(s_.channels)) * sizeof(T) +
         255) /
        256 * 256;
    plan.lines = take(plan.line * static_cast<size_t>(std::max(1, threads)));
    plan.bytes = at;
    return plan;
  }

  template <class Num>
  NormChannel<Num>* ChannelsOf(const Pass& pass, int64_t r, int64_t copy) const {
    auto* all = reinterpret_cast<NormChannel<Num>*>(pass.scratch.channels);
    return all + (r * s_.copies + copy) * s_.channels;
  }

  template <class Num>
  NormCell<Num>* CellsOf(const Pass& pass, int64_t r, int64_t copy) const {
    if (!IsBackward() || s_.groups == 0 || IsDual() != std::is_same_v<Num, Dual>) return nullptr;
    auto* all = reinterpret_cast<NormCell<Num>*>(pass.scratch.cells);
    return all + (r * s_.copies + copy) * s_.samples * s_.groups;
  }

  NormParameter<T> At(const NormParameter<T>& p, int64_t r, int64_t copy, int64_t size) const {
    if (!p.value) return {};
    return {p.value + copy * size, p.dot ? p.dot + (r * s_.copies + copy) * size : nullptr};
  }

  // The point of a batch and a tangent; with its sums where they are there already.
  template <class Num>
  NormPoint<T, Num> PointOf(const Pass& pass, int64_t r, int64_t copy, bool sums,
                            NormChannel<Num>* channel) const {
    const NormOperands<T>& b = pass.b;
    const int64_t C = s_.channels, splits = Splits(pass.threads);
    const int64_t stride = splits * s_.tangents * SumSize();
    const T* moments = (b.moments ? b.moments : b.momentsOut) + copy * s_.samples * 3 * C;
    return {s_,
            form_,
            moments,
            sums ? pass.scratch.sums + copy * s_.samples * stride + r * SumSize() : nullptr,
            stride,
            b.mean ? b.mean + copy * C : nullptr,
            b.variance ? b.variance + copy * C : nullptr,
            b.rate ? static_cast<double>(b.rate[copy]) : 0,
            b.warm && b.warm[copy] != 0,
            At(b.scale1, r, copy, C),
            At(b.shift1, r, copy, C),
            At(b.scale2, r, copy, s_.Scales()),
            At(b.shift2, r, copy, s_.Scales()),
            channel,
            CellsOf<Num>(pass, r, copy)};
  }

  // body(copy, first, last) for ranges of channels that are whole cells.
  template <class F>
  void ForChannels(const Pass& pass, F&& body) const {
    const int64_t width = s_.Width(), cells = s_.channels / width;
    const int64_t grain =
        std::max<int64_t>(1, kCellsOfThread / std::max<int64_t>(1, width * s_.samples));
    for (int64_t copy = 0; copy < s_.copies; ++copy) {
      ParallelFor(pass.threads, cells, grain,
                  [&](int64_t begin, int64_t end, int) { body(copy, begin * width, end * width); });
    }
  }

  // Statistics of stage 1. Dual ones need the sums where samples are coupled.
  template <class Num>
  void Statistics(const Pass& pass, bool sums) const {
    const NormOperands<T>& b = pass.b;
    ForChannels(pass, [&](int64_t copy, int64_t first, int64_t last) {
      T* mean = b.freshMean ? b.freshMean + copy * s_.channels : nullptr;
      T* variance = b.freshVariance ? b.freshVariance + copy * s_.channels : nullptr;
      for (int64_t r = 0; r < s_.tangents; ++r) {
        PointOf<Num>(pass, r, copy, sums, ChannelsOf<Num>(pass, r, copy))
            .Channels(first, last, mean, variance);
      }
    });
  }

  void PrimalStatistics(const Pass& pass) const {
    ForChannels(pass, [&](int64_t copy, int64_t first, int64_t last) {
      PointOf<double>(pass, 0, copy, false, pass.scratch.primal + copy * s_.channels)
          .Channels(first, last, nullptr, nullptr);
    });
  }

  // Gradients of the parameters, and with them what couples the samples.
  template <class Num>
  void Gradients(const Pass& pass) const {
    const NormOperands<T>& b = pass.b;
    ForChannels(pass, [&](int64_t copy, int64_t first, int64_t last) {
      for (int64_t r = 0; r < s_.tangents; ++r) {
        NormChannel<Num>* channel = ChannelsOf<Num>(pass, r, copy);
        PointOf<Num>(pass, r, copy, true, channel).AddGradients(first, last);
        const int64_t line = r * s_.copies + copy;
        for (int64_t c = first; c < last; ++c) {
          if (b.dScale1) b.dScale1[line * s_.channels + c] = Result(channel[c].gScale);
          if (b.dShift1) b.dShift1[line * s_.channels + c] = Result(channel[c].gShift);
        }
        if (!b.dScale2) continue;
        const int64_t each = s_.perGroup ? s_.Width() : 1;
        for (int64_t c = first; c < last; c += each) {
          Num a = 0, shift = 0;
          for (int64_t i = c; i < c + each; ++i) {
            a += channel[i].gA;
            shift += channel[i].gB;
          }
          b.dScale2[line * s_.Scales() + c / each] = Result(a);
          b.dShift2[line * s_.Scales() + c / each] = Result(shift);
        }
      }
    });
  }
  static T Result(double x) { return static_cast<T>(x); }
  static T Result(Dual x) { return static_cast<T>(x.d); }

  // Streams of rows or channels of an item; pointers are those of the sample in NCHW.
  NormStreams<T> StreamsOf(const NormOperands<T>& b, int64_t sample, int64_t r, int64_t row) const {
    const int64_t at = sample * s_.Sample() + row * (s_.nhwc ? s_.channels : 0);
    const int64_t moving = r * elements_ + at;
    const auto from = [](const T* p, int64_t offset) { return p ? p + offset : nullptr; };
    NormStreams<T> streams;
    streams.x = from(b.x, at);
    streams.residual = from(b.residual, at);
    streams.dy = from(b.dy, at);
    streams.xDot = from(b.xDot, moving);
    streams.dyDot = from(b.dyDot, moving);
    streams.residualDot = from(b.residualDot, moving);
    streams.out = b.out + moving;
    streams.masked = b.masked ? b.masked + moving : nullptr;
    streams.floor = s_.relu ? T{0} : -std::numeric_limits<T>::infinity();
    return streams;
  }

  struct Item {
    int64_t sample, copy, n, index, first, last;  // rows or channels [first, last)
  };
  Item ItemOf(int64_t index, int64_t splits) const {
    const int64_t sample = index / splits, part = index % splits;
    const int64_t size = s_.nhwc ? s_.spatial : s_.channels;
    return {sample, sample / s_.samples,  sample % s_.samples,
            index,  size * part / splits, size * (part + 1) / splits};
  }

  T* LineOf(const Pass& pass, int thread) const {
    return reinterpret_cast<T*>(pass.scratch.lines +
                                static_cast<size_t>(thread) * pass.scratch.line);
  }
  T* SumLine(T* line) const { return line + kNormCoefficients * s_.channels; }

  // What the sums read: the reference, and what the ReLU sees.
  void MaskLine(const NormPoint<T, double>& point, int64_t n, T* line) const {
    const int64_t C = s_.channels;
    for (int64_t at = 0; at < C; at += s_.Width()) {
      const NormCell<double> cell =
          s_.relu || !IsDerivative() ? point.Cell(n, at) : NormCell<double>();
      for (int64_t c = at; c < at + s_.Width(); ++c) {
        double slope = 0, value = 1;
        if (s_.relu || !IsDerivative()) point.Forward(n, c, cell, slope, value);
        line[c] = static_cast<T>(point.Reference(n, c));
        line[C + c] = static_cast<T>(slope);
        line[2 * C + c] = static_cast<T>(value);
      }
    }
  }

  void SumOf(const Pass& pass, NormForm form, const Item& item, const NormStreams<T>& streams,
             const T* line, double* sums, T* buffer) const {
    if (s_.nhwc) {
      pass.loops.sumRows(form, streams, item.last - item.first, s_.channels, line, sums, buffer);
    } else {
      pass.loops.sumChannels(form, streams, item.first, item.last, s_.channels, s_.spatial, line,
                             sums);
    }
  }

  double* SumsOf(const Pass& pass, int64_t index) const {
    return pass.scratch.sums + index * s_.tangents * SumSize();
  }

  // Values that an item has of a channel.
  int64_t Count(const Item& item, int64_t c) const {
    if (s_.nhwc) return item.last - item.first;
    return c >= item.first && c < item.last ? s_.spatial : 0;
  }

  // Mean and variance of each channel of an item. The sums are about the mean of its first values:
  // no value of the data is further from their mean than the square root of their number times
  // their deviation, so this reference takes away what a large offset would cost.
  void MomentsOf(const Pass& pass, const Item& item, T* line) const {
    const int64_t C = s_.channels, row = s_.nhwc ? item.first : 0;
    NormStreams<T> streams = StreamsOf(pass.b, item.sample, 0, row);
    double* sums = SumsOf(pass, item.index);
    std::fill_n(sums, 2 * C, 0.0);
    std::fill_n(line, C, T{0});
    if (s_.nhwc) {
      const int64_t rows = std::min(kReferenceRows, item.last - item.first);
      pass.loops.sumRows(form_, streams, rows, C, line, sums, SumLine(line));
      for (int64_t c = 0; c < C; ++c) {
        line[c] = static_cast<T>(sums[c] / static_cast<double>(std::max<int64_t>(1, rows)));
      }
    } else {
      const int64_t values = std::min(kReferenceRows, s_.spatial);
      for (int64_t c = item.first; c < item.last; ++c) {
        double sum = 0;
        for (int64_t i = 0; i < values; ++i) {
          sum += static_cast<double>(streams.x[c * s_.spatial + i]);
        }
        line[c] = static_cast<T>(sum / static_cast<double>(std::max<int64_t>(1, values)));
      }
    }
    std::fill_n(sums, 2 * C, 0.0);
    SumOf(pass, form_, item, streams, line, sums, SumLine(line));
    for (int64_t c = 0; c < C; ++c) {
      const double count = static_cast<double>(std::max<int64_t>(1, Count(item, c)));
      const double offset = sums[c] / count;
      sums[c] = static_cast<double>(line[c]) + offset;
      sums[C + c] = std::max(0.0, sums[C + c] / count - offset * offset);
      if (std::isnan(offset)) sums[C + c] = offset;
    }
  }

  // Moments of a sample from those of its items, by the rule of Chan, Golub and LeVeque.
  void WriteMoments(const Pass& pass, int64_t sample, int64_t splits) const {
    const int64_t C = s_.channels;
    T* out = pass.b.momentsOut + sample * 3 * C;
    for (int64_t c = 0; c < C; ++c) {
      double mean = 0, variance = 0, total = 0;
      for (int64_t p = 0; p < splits; ++p) {
        const Item item = ItemOf(sample * splits + p, splits);
        const double count = static_cast<double>(Count(item, c));
        if (count == 0) continue;
        const double* sums = SumsOf(pass, item.index);
        const double step = sums[c] - mean, share = count / (total + count);
        mean += step * share;
        variance += share * (sums[C + c] - variance + step * step * (1 - share));
        total += count;
      }
      const T reference = static_cast<T>(mean);
      const double offset = mean - static_cast<double>(reference);
      out[c] = reference;
      out[C + c] = static_cast<T>(std::isfinite(offset) ? offset : 0.0);
      out[2 * C + c] = static_cast<T>(variance);
    }
  }

  // Frozen statistics alone need no moments: the mean is the reference.
  void FrozenMoments(const Pass& pass, int64_t sample) const {
    const int64_t C = s_.channels;
    T* out = pass.b.momentsOut + sample * 3 * C;
    const T* mean = pass.b.mean + sample / s_.samples * C;
    std::copy_n(mean, C, out);
    std::fill_n(out + C, 2 * C, T{0});
  }

  bool NeedsSums() const {
    if (form_ == NormForm::kForward || form_ == NormForm::kJvp) {
      return s_.groups > 0 || couples_ || (s_.stage != NormStage::kFrozen && !IsDerivative());
    }
    return true;
  }

  // The sums of a derivative.
  void DerivativeSums(const Pass& pass, const Item& item, T* line) const {
    const NormChannel<double>* primal =
        IsDual() ? pass.scratch.primal
                 : reinterpret_cast<NormChannel<double>*>(pass.scratch.channels);
    NormPoint<T, double> point =
        PointOf<double>(pass, 0, item.copy, false,
                        const_cast<NormChannel<double>*>(primal) + item.copy * s_.channels);
    MaskLine(point, item.n, line);
    for (int64_t r = 0; r < s_.tangents; ++r) {
      double* sums = SumsOf(pass, item.index) + r * SumSize();
      std::fill_n(sums, SumSize(), 0.0);
      const NormStreams<T> streams = StreamsOf(pass.b, item.sample, r, s_.nhwc ? item.first : 0);
      SumOf(pass, form_, item, streams, line, sums, SumLine(line));
    }
  }

  // Sums of a sample are those of its items, in their order.
  void JoinSums(const Pass& pass, int64_t sample, int64_t splits) const {
    double* to = SumsOf(pass, sample * splits);
    for (int64_t p = 1; p < splits; ++p) {
      const double* from = SumsOf(pass, sample * splits + p);
      for (int64_t i = 0; i < s_.tangents * SumSize(); ++i) to[i] += from[i];
    }
  }

  // Whether to write past the caches: 1.4 times as fast where what a combination touches leaves no
  // room for its result. Vectors of 64 bytes, the longest, have to begin on their boundaries.
  bool Streams(const T* out) const {
    const int64_t count = form_ == NormForm::kVjpJvp ? 5 : 3,
                  line = s_.nhwc ? s_.channels : s_.spatial;
    const int64_t size = static_cast<int64_t>(sizeof(T));
    return IsDerivative() && count * elements_ * size >= kStreamBytes && line * size % 64 == 0 &&
           reinterpret_cast<uintptr_t>(out) % 64 == 0;
  }

  template <class Num>
  void ApplyOf(const Pass& pass, const Item& item, T* line) const {
    const int64_t C = s_.channels;
    for (int64_t r = 0; r < s_.tangents; ++r) {
      const NormPoint<T, Num> point = PointOf<Num>(
          pass, r, item.copy, IsDerivative() && NeedsSums(), ChannelsOf<Num>(pass, r, item.copy));
      for (int64_t at = 0; at < C; at += s_.Width()) {
        NormCell<Num> cell;
        if (point.cells && !Fused(Splits(pass.threads))) {
          cell = point.cells[item.n * s_.groups + at / s_.Width()];
        } else {
          cell = point.Cell(item.n, at);
          if (IsBackward()) point.CellGradient(item.n, at, cell);
        }
        for (int64_t c = at; c < at + s_.Width(); ++c) Coefficients(point, item.n, c, cell, line);
      }
      NormStreams<T> streams = StreamsOf(pass.b, item.sample, r, s_.nhwc ? item.first : 0);
      if (form_ == NormForm::kVjp && streams.masked) {
        // The sums have left the masked cotangent there, so the residual need not be read again.
        streams.dy = streams.masked;
        streams.residual = nullptr;
        std::fill_n(line + C, C, T{0});
        std::fill_n(line + 2 * C, C, T{1});
      }
      streams.stream = Streams(streams.out);
      if (s_.nhwc) {
        pass.loops.applyRows(form_, streams, item.last - item.first, C, line);
      } else {
        pass.loops.applyChannels(form_, streams, item.first, item.last, C, s_.spatial, line);
      }
    }
  }

  template <class Num>
  void Coefficients(const NormPoint<T, Num>& point, int64_t n, int64_t c, const NormCell<Num>& cell,
                    T* line) const {
    const int64_t C = s_.channels;
    const auto put = [&](int i, double value) { line[i * C + c] = static_cast<T>(value); };
    Num slope, value;
    point.Forward(n, c, cell, slope, value);
    put(0, point.Reference(n, c));
    const bool masks = s_.relu || !IsDerivative();
    put(1, masks ? ValueOf(slope) : 0);
    put(2, masks ? ValueOf(value) : 1);
    if constexpr (std::is_same_v<Num, Dual>) {
      if (form_ == NormForm::kJvp) {
        put(3, slope.v);
        put(4, slope.d);
        put(5, value.d);
        return;
      }
    }
    if (!IsBackward()) return;
    Num c1, c2, c3;
    point.Backward(n, c, cell, c1, c2, c3);
    put(3, ValueOf(c1));
    if constexpr (std::is_same_v<Num, Dual>) {
      put(4, c2.v);
      put(5, c1.d);
      put(6, c2.d);
      put(7, c3.d);
    } else {
      put(4, c2);
      put(5, c3);
    }
  }

  template <class Num>
  void RunOf(const Pass& pass) const {
    const int64_t splits = Splits(pass.threads), items = items_ * splits;
    const bool fused = Fused(splits), sums = NeedsSums();
    const int64_t grain = std::max<int64_t>(1, kWork * splits / std::max<int64_t>(1, s_.Sample()));
    const auto sumOf = [&](const Item& item, T* line) {
      if (IsDerivative()) {
        if (sums) DerivativeSums(pass, item, line);
      } else if (sums) {
        MomentsOf(pass, item, line);
      }
    };
    if (IsDual()) PrimalStatistics(pass);
    const bool early = form_ == NormForm::kVjp || !couples_;
    if (early) Statistics<Num>(pass, false);
    const auto write = [&](int64_t sample) {
      if (IsDerivative()) return;
      if (sums) {
        WriteMoments(pass, sample, splits);
      } else {
        FrozenMoments(pass, sample);
      }
    };
    if (fused) {
      ParallelFor(pass.threads, items, grain, [&](int64_t begin, int64_t end, int thread) {
        T* line = LineOf(pass, thread);
        for (int64_t i = begin; i < end; ++i) {
          const Item item = ItemOf(i, splits);
          sumOf(item, line);
          write(item.sample);
          ApplyOf<Num>(pass, item, line);
        }
      });
      if (IsBackward()) Gradients<Num>(pass);
      return;
    }
    ParallelFor(pass.threads, items, grain, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        const Item item = ItemOf(i, splits);
        sumOf(item, LineOf(pass, thread));
        if (splits == 1) write(item.sample);
      }
    });
    for (int64_t sample = 0; splits > 1 && sample < items_; ++sample) {
      write(sample);
      if (IsDerivative() && sums) JoinSums(pass, sample, splits);
    }
    if (!early) Statistics<Num>(pass, IsDerivative());
    if (IsBackward()) Gradients<Num>(pass);
    // What the sums have read last is in cache still.
    ParallelFor(pass.threads, items, grain, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = end; i-- > begin;)
        ApplyOf<Num>(pass, ItemOf(i, splits), LineOf(pass, thread));
    });
  }

  NormForm form_;
  NormSignature signature_;
  NormShape s_;
  int64_t items_ = 0, elements_ = 0;
  bool couples_ = false;  // a statistic of the batch couples its samples
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
