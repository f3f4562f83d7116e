// The pass of the channel_norm family that writes: coefficients of each channel of an item, and
// the linear combination of its streams (kNormCoefficients in channel_norm.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "native/cpu/channel_norm_work.h"

namespace losscape {

constexpr int64_t kStreamBytes = 20 << 20;

// Whether to write past the caches: 1.4 times as fast where what a combination touches leaves no
// room for its result. Vectors of 64 bytes, the longest, have to begin on their boundaries.
template <typename T>
bool WritesPastCaches(const NormPlan& plan, const T* out) {
  const NormShape& s = plan.s;
  const int64_t streams = plan.form == NormForm::kVjpJvp ? 5 : 3;
  const int64_t line = s.nhwc ? s.channels : s.spatial, size = static_cast<int64_t>(sizeof(T));
  return IsDerivative(plan.form) && streams * plan.elements * size >= kStreamBytes &&
         line * size % 64 == 0 && reinterpret_cast<uintptr_t>(out) % 64 == 0;
}

template <typename T, class Num>
void Coefficients(const NormPoint<T, Num>& point, int64_t n, int64_t c, const NormCell<Num>& cell,
                  T* line) {
  const int64_t C = point.s.channels;
  const auto put = [&](int i, double value) { line[i * C + c] = static_cast<T>(value); };
  Num slope, value;
  point.Forward(n, c, cell, slope, value);
  put(0, point.Reference(n, c));
  const bool seen = point.s.relu || !IsDerivative(point.form);
  put(1, seen ? ValueOf(slope) : 0);
  put(2, seen ? ValueOf(value) : 1);
  if constexpr (std::is_same_v<Num, Dual>) {
    if (point.form == NormForm::kJvp) {
      put(3, slope.v);
      put(4, slope.d);
      put(5, value.d);
      return;
    }
  }
  if (!IsBackward(point.form)) return;
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

template <typename T, class Num>
void ItemCoefficients(const NormPlan& plan, const NormPoint<T, Num>& point, int64_t n, T* line) {
  const NormShape& s = plan.s;
  for (int64_t at = 0; at < s.channels; at += s.Width()) {
    NormCell<Num> cell;
    if (point.cells && !plan.Fused()) {
      cell = point.cells[n * s.groups + at / s.Width()];
    } else {
      cell = point.Cell(n, at);
      if (IsBackward(plan.form)) point.CellGradient(n, at, cell);
    }
    for (int64_t c = at; c < at + s.Width(); ++c) Coefficients(point, n, c, cell, line);
  }
}

template <class Num, typename T>
void ApplyItem(const NormWork<T>& w, const NormItem& item, T* line) {
  const NormPlan& plan = w.plan;
  const NormShape& s = plan.s;
  const int64_t C = s.channels;
  const bool sums = IsDerivative(plan.form) && plan.sums;
  for (int64_t r = 0; r < s.tangents; ++r) {
    ItemCoefficients(plan, w.template Point<Num>(r, item.copy, sums), item.n, line);
    NormStreams<T> streams = w.Streams(item, r);
    if (plan.form == NormForm::kVjp && streams.masked) {
      // The sums have left the masked cotangent there, so the residual need not be read again.
      streams.dy = streams.masked;
      streams.residual = nullptr;
      std::fill_n(line + C, C, T{0});
      std::fill_n(line + 2 * C, C, T{1});
    }
    streams.stream = WritesPastCaches(plan, streams.out);
    if (s.nhwc) {
      w.loops.applyRows(plan.form, streams, item.last - item.first, C, line);
    } else {
      w.loops.applyChannels(plan.form, streams, item.first, item.last, C, s.spatial, line);
    }
  }
}

}  // namespace losscape
