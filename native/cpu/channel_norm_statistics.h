// What the channel_norm family computes channel by channel between its passes: the statistics of
// stage 1, and the gradients of the parameters.
#pragma once

#include <algorithm>
#include <cstdint>

#include "native/cpu/channel_norm_work.h"
#include "native/runtime/parallel.h"

namespace losscape {

constexpr int64_t kCellsOfThread = 512;  // (sample, channel) pairs that are worth a thread

// body(copy, first, last) for ranges of channels that are whole cells.
template <class F>
void ForChannels(const NormPlan& plan, F&& body) {
  const NormShape& s = plan.s;
  const int64_t width = s.Width(), cells = s.channels / width;
  const int64_t grain =
      std::max<int64_t>(1, kCellsOfThread / std::max<int64_t>(1, width * s.samples));
  for (int64_t copy = 0; copy < s.copies; ++copy) {
    ParallelFor(plan.threads, cells, grain,
                [&](int64_t begin, int64_t end, int) { body(copy, begin * width, end * width); });
  }
}

// Statistics of stage 1. Dual ones need the sums where samples are coupled.
template <class Num, typename T>
void Statistics(const NormWork<T>& w, bool sums) {
  const NormShape& s = w.plan.s;
  ForChannels(w.plan, [&](int64_t copy, int64_t first, int64_t last) {
    T* mean = w.b.freshMean ? w.b.freshMean + copy * s.channels : nullptr;
    T* variance = w.b.freshVariance ? w.b.freshVariance + copy * s.channels : nullptr;
    for (int64_t r = 0; r < s.tangents; ++r) {
      w.template Point<Num>(r, copy, sums).Channels(first, last, mean, variance);
    }
  });
}

template <typename T>
void PrimalStatistics(const NormWork<T>& w) {
  ForChannels(w.plan, [&](int64_t copy, int64_t first, int64_t last) {
    w.PrimalPoint(copy).Channels(first, last, nullptr, nullptr);
  });
}

inline double Moving(double x) { return x; }
inline double Moving(Dual x) { return x.d; }

// Gradients of the parameters, and with them what couples the samples.
template <class Num, typename T>
void Gradients(const NormWork<T>& w) {
  const NormShape& s = w.plan.s;
  const NormOperands<T>& b = w.b;
  const auto result = [](Num x) { return static_cast<T>(Moving(x)); };
  ForChannels(w.plan, [&](int64_t copy, int64_t first, int64_t last) {
    for (int64_t r = 0; r < s.tangents; ++r) {
      const NormPoint<T, Num> point = w.template Point<Num>(r, copy, true);
      const NormChannel<Num>* channel = point.channel;
      point.AddGradients(first, last);
      const int64_t line = r * s.copies + copy;
      for (int64_t c = first; c < last; ++c) {
        if (b.dScale1) b.dScale1[line * s.channels + c] = result(channel[c].gScale);
        if (b.dShift1) b.dShift1[line * s.channels + c] = result(channel[c].gShift);
      }
      if (!b.dScale2) continue;
      const int64_t each = s.perGroup ? s.Width() : 1;
      for (int64_t c = first; c < last; c += each) {
        Num scale = 0, shift = 0;
        for (int64_t i = c; i < c + each; ++i) {
          scale += channel[i].gA;
          shift += channel[i].gB;
        }
        b.dScale2[line * s.Scales() + c / each] = result(scale);
        b.dShift2[line * s.Scales() + c / each] = result(shift);
      }
    }
  });
}

}  // namespace losscape
