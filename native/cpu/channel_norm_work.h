// One run of the channel_norm family: where in its operands and its scratch each batch, tangent
// and item lies.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "native/cpu/channel_norm.h"
#include "native/cpu/channel_norm_coefficients.h"
#include "native/cpu/channel_norm_operands.h"
#include "native/cpu/channel_norm_plan.h"

namespace losscape {

template <typename T>
struct NormWork {
  const NormPlan& plan;
  const NormOperands<T>& b;
  char* scratch;
  NormLoops<T> loops;

  // The point of a batch and a tangent; with its sums where they are there already.
  template <class Num>
  NormPoint<T, Num> Point(int64_t r, int64_t copy, bool sums) const {
    auto* all = reinterpret_cast<NormChannel<Num>*>(scratch + plan.scratch.channels);
    return PointOn(all + (r * plan.s.copies + copy) * plan.s.channels, r, copy, sums);
  }

  // The point of a batch where nothing moves.
  NormPoint<T, double> PrimalPoint(int64_t copy) const {
    auto* all = reinterpret_cast<NormChannel<double>*>(
        scratch + (IsDual(plan.form) ? plan.scratch.primal : plan.scratch.channels));
    return PointOn(all + copy * plan.s.channels, 0, copy, false);
  }

  // Streams of rows or channels of an item; pointers are those of the sample in NCHW.
  NormStreams<T> Streams(const NormItem& item, int64_t r) const {
    const NormShape& s = plan.s;
    const int64_t at = item.sample * s.Sample() + (s.nhwc ? item.first * s.channels : 0);
    const int64_t moving = r * plan.elements + at;
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
    streams.floor = s.relu ? T{0} : -std::numeric_limits<T>::infinity();
    return streams;
  }

  // Of an item: [R, count, C].
  double* Sums(int64_t index) const {
    return reinterpret_cast<double*>(scratch + plan.scratch.sums) +
           index * plan.s.tangents * plan.SumSize();
  }

  // Of a thread: the coefficients [kNormCoefficients, C], and behind them the line of the sums.
  T* Line(int thread) const {
    return reinterpret_cast<T*>(scratch + plan.scratch.lines +
                                static_cast<size_t>(thread) * plan.scratch.line);
  }
  T* SumLine(T* line) const { return line + kNormCoefficients * plan.s.channels; }

 private:
  template <class Num>
  NormPoint<T, Num> PointOn(NormChannel<Num>* channel, int64_t r, int64_t copy, bool sums) const {
    const NormShape& s = plan.s;
    const int64_t C = s.channels;
    return {s,
            plan.form,
            (b.moments ? b.moments : b.momentsOut) + copy * s.samples * 3 * C,
            sums ? Sums(copy * s.samples * plan.splits) + r * plan.SumSize() : nullptr,
            plan.splits * s.tangents * plan.SumSize(),
            b.mean ? b.mean + copy * C : nullptr,
            b.variance ? b.variance + copy * C : nullptr,
            b.rate ? static_cast<double>(b.rate[copy]) : 0,
            b.warm && b.warm[copy] != 0,
            Parameter(b.scale1, r, copy, C),
            Parameter(b.shift1, r, copy, C),
            Parameter(b.scale2, r, copy, s.Scales()),
            Parameter(b.shift2, r, copy, s.Scales()),
            channel,
            Cells<Num>(r, copy)};
  }

  template <class Num>
  NormCell<Num>* Cells(int64_t r, int64_t copy) const {
    const NormShape& s = plan.s;
    const bool dual = std::is_same_v<Num, Dual>;
    if (!IsBackward(plan.form) || s.groups == 0 || IsDual(plan.form) != dual) return nullptr;
    auto* all = reinterpret_cast<NormCell<Num>*>(scratch + plan.scratch.cells);
    return all + (r * s.copies + copy) * s.samples * s.groups;
  }

  NormParameter<T> Parameter(const NormParameter<T>& p, int64_t r, int64_t copy,
                             int64_t size) const {
    if (!p.value) return {};
    return {p.value + copy * size, p.dot ? p.dot + (r * plan.s.copies + copy) * size : nullptr};
  }
};

}  // namespace losscape
