// The pass of the channel_norm family that adds up: moments of the activations, and the sums of
// derivatives (NormSumCount in channel_norm.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "native/cpu/channel_norm_work.h"

namespace losscape {

constexpr int64_t kReferenceRows = 64;  // values whose mean is the reference of the sums

template <typename T>
void AddSums(const NormWork<T>& w, const NormItem& item, const NormStreams<T>& streams, T* line,
             double* sums) {
  const NormShape& s = w.plan.s;
  if (s.nhwc) {
    w.loops.sumRows(w.plan.form, streams, item.last - item.first, s.channels, line, sums,
                    w.SumLine(line));
  } else {
    w.loops.sumChannels(w.plan.form, streams, item.first, item.last, s.channels, s.spatial, line,
                        sums);
  }
}

// Values that an item has of a channel.
inline int64_t NormCount(const NormShape& s, const NormItem& item, int64_t c) {
  if (s.nhwc) return item.last - item.first;
  return c >= item.first && c < item.last ? s.spatial : 0;
}

// Mean and variance of each channel of an item. The sums are about the mean of its first values:
// no value of the data is further from their mean than the square root of their number times
// their deviation, so this reference takes away what a large offset would cost.
template <typename T>
void ItemMoments(const NormWork<T>& w, const NormItem& item, T* line) {
  const NormShape& s = w.plan.s;
  const int64_t C = s.channels;
  const NormStreams<T> streams = w.Streams(item, 0);
  double* sums = w.Sums(item.index);
  std::fill_n(sums, 2 * C, 0.0);
  std::fill_n(line, C, T{0});
  if (s.nhwc) {
    const int64_t rows = std::min(kReferenceRows, item.last - item.first);
    w.loops.sumRows(w.plan.form, streams, rows, C, line, sums, w.SumLine(line));
    for (int64_t c = 0; c < C; ++c) {
      line[c] = static_cast<T>(sums[c] / static_cast<double>(std::max<int64_t>(1, rows)));
    }
  } else {
    const int64_t values = std::min(kReferenceRows, s.spatial);
    for (int64_t c = item.first; c < item.last; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < values; ++i) {
        sum += static_cast<double>(streams.x[c * s.spatial + i]);
      }
      line[c] = static_cast<T>(sum / static_cast<double>(std::max<int64_t>(1, values)));
    }
  }
  std::fill_n(sums, 2 * C, 0.0);
  AddSums(w, item, streams, line, sums);
  for (int64_t c = 0; c < C; ++c) {
    const double count = static_cast<double>(std::max<int64_t>(1, NormCount(s, item, c)));
    const double offset = sums[c] / count;
    sums[c] = static_cast<double>(line[c]) + offset;
    sums[C + c] = std::max(0.0, sums[C + c] / count - offset * offset);
    if (std::isnan(offset)) sums[C + c] = offset;
  }
}

// Moments of a sample from those of its items, by the rule of Chan, Golub and LeVeque.
template <typename T>
void SampleMoments(const NormWork<T>& w, int64_t sample) {
  const int64_t C = w.plan.s.channels, splits = w.plan.splits;
  T* out = w.b.momentsOut + sample * 3 * C;
  for (int64_t c = 0; c < C; ++c) {
    double mean = 0, variance = 0, total = 0;
    for (int64_t p = 0; p < splits; ++p) {
      const NormItem item = w.plan.Item(sample * splits + p);
      const double count = static_cast<double>(NormCount(w.plan.s, item, c));
      if (count == 0) continue;
      const double* sums = w.Sums(item.index);
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
template <typename T>
void FrozenMoments(const NormWork<T>& w, int64_t sample) {
  const int64_t C = w.plan.s.channels;
  T* out = w.b.momentsOut + sample * 3 * C;
  std::copy_n(w.b.mean + sample / w.plan.s.samples * C, C, out);
  std::fill_n(out + C, 2 * C, T{0});
}

// What the sums of a derivative read: the reference, and what the ReLU sees.
template <typename T>
void MaskLine(const NormPoint<T, double>& point, int64_t n, T* line) {
  const NormShape& s = point.s;
  const int64_t C = s.channels;
  for (int64_t at = 0; at < C; at += s.Width()) {
    const NormCell<double> cell = s.relu ? point.Cell(n, at) : NormCell<double>();
    for (int64_t c = at; c < at + s.Width(); ++c) {
      double slope = 0, value = 1;
      if (s.relu) point.Forward(n, c, cell, slope, value);
      line[c] = static_cast<T>(point.Reference(n, c));
      line[C + c] = static_cast<T>(slope);
      line[2 * C + c] = static_cast<T>(value);
    }
  }
}

template <typename T>
void DerivativeSums(const NormWork<T>& w, const NormItem& item, T* line) {
  MaskLine(w.PrimalPoint(item.copy), item.n, line);
  const int64_t size = w.plan.SumSize();
  for (int64_t r = 0; r < w.plan.s.tangents; ++r) {
    double* sums = w.Sums(item.index) + r * size;
    std::fill_n(sums, size, 0.0);
    AddSums(w, item, w.Streams(item, r), line, sums);
  }
}

// Sums of a sample are those of its items, in their order.
template <typename T>
void JoinSums(const NormWork<T>& w, int64_t sample) {
  const int64_t splits = w.plan.splits, size = w.plan.s.tangents * w.plan.SumSize();
  double* to = w.Sums(sample * splits);
  for (int64_t p = 1; p < splits; ++p) {
    const double* from = w.Sums(sample * splits + p);
    for (int64_t i = 0; i < size; ++i) to[i] += from[i];
  }
}

// Adds up what the form needs of an item.
template <typename T>
void SumItem(const NormWork<T>& w, const NormItem& item, T* line) {
  if (!w.plan.sums) return;
  if (IsDerivative(w.plan.form)) {
    DerivativeSums(w, item, line);
  } else {
    ItemMoments(w, item, line);
  }
}

// Makes one of the items of a sample, all of them summed.
template <typename T>
void SumSample(const NormWork<T>& w, int64_t sample) {
  if (IsDerivative(w.plan.form)) {
    if (w.plan.sums) JoinSums(w, sample);
  } else if (w.plan.sums) {
    SampleMoments(w, sample);
  } else {
    FrozenMoments(w, sample);
  }
}

}  // namespace losscape
