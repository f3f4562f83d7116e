// The loops of channel_norm.cc over activations, compiled once per SIMD target.

#if defined(LOSSCAPE_CPU_CHANNEL_NORM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_CHANNEL_NORM_INL
#undef LOSSCAPE_CPU_CHANNEL_NORM_INL
#else
#define LOSSCAPE_CPU_CHANNEL_NORM_INL
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>

#include "native/cpu/channel_norm.h"
#include "native/cpu/wide-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sums of T run over this many rows, or values of a channel, before they are added to f64.
constexpr int64_t kNormRows = 64;
constexpr int64_t kNormValues = 1024;

// At most 16 lanes: line buffers are padded to that.
template <typename T>
using NormTag = hn::CappedTag<T, 16>;

template <bool kFull, class D, typename T>
HWY_INLINE hn::Vec<D> NormLoad(D d, const T* from, size_t n) {
  if constexpr (kFull) return hn::LoadU(d, from);
  T line[16] = {};
  std::copy_n(from, n, line);
  return hn::LoadU(d, line);
}
template <bool kFull, class D, typename T>
HWY_INLINE void NormStore(D d, hn::Vec<D> v, T* to, size_t n) {
  if constexpr (kFull) return hn::StoreU(v, d, to);
  T line[16];
  hn::StoreU(v, d, line);
  std::copy_n(line, n, to);
}

// e = x - reference, 0 in lanes that are none.
template <bool kFull, class D, typename T>
HWY_INLINE hn::Vec<D> NormCentred(D d, const T* x, hn::Vec<D> reference, size_t n) {
  const auto e = hn::Sub(NormLoad<kFull>(d, x, n), reference);
  if constexpr (kFull) return e;
  return hn::IfThenElseZero(hn::FirstN(d, n), e);
}

template <typename T, NormForm kForm, bool kResidual>
struct NormSum {
  using D = NormTag<T>;
  using V = hn::Vec<D>;
  static constexpr int kCount = NormSumCount(kForm);
  static constexpr bool kMasked = kForm == NormForm::kVjp || kForm == NormForm::kVjpJvp;
  V reference, slope, value;

  template <class Get>
  HWY_INLINE explicit NormSum(Get get)
      : reference(get(0)),
        slope(kMasked ? get(1) : reference),
        value(kMasked ? get(2) : reference) {}

  template <bool kFull>
  HWY_INLINE void Step(const NormStreams<T>& s, int64_t at, size_t n, V* HWY_RESTRICT sum) const {
    const D d;
    const V e = NormCentred<kFull>(d, s.x + at, reference, n);
    if constexpr (kForm == NormForm::kForward) {
      sum[0] = hn::Add(sum[0], e);
      sum[1] = hn::MulAdd(e, e, sum[1]);
    } else if constexpr (kForm == NormForm::kJvp) {
      const V xDot = NormLoad<kFull>(d, s.xDot + at, n);
      sum[0] = hn::Add(sum[0], xDot);
      sum[1] = hn::MulAdd(xDot, e, sum[1]);
    } else {
      V before = hn::MulAdd(slope, e, value);
      if constexpr (kResidual) before = hn::Add(before, NormLoad<kFull>(d, s.residual + at, n));
      const auto on = hn::Gt(before, hn::Zero(d));
      const V g = hn::IfThenElseZero(on, NormLoad<kFull>(d, s.dy + at, n));
      sum[0] = hn::Add(sum[0], g);
      sum[1] = hn::MulAdd(g, e, sum[1]);
      V moving = g;
      if constexpr (kForm == NormForm::kVjpJvp) {
        const V xDot = NormLoad<kFull>(d, s.xDot + at, n);
        moving = hn::IfThenElseZero(on, NormLoad<kFull>(d, s.dyDot + at, n));
        sum[2] = hn::Add(sum[2], xDot);
        sum[3] = hn::MulAdd(xDot, e, sum[3]);
        sum[4] = hn::Add(sum[4], moving);
        sum[5] = hn::MulAdd(moving, e, hn::MulAdd(g, xDot, sum[5]));
      }
      if constexpr (kResidual) NormStore<kFull>(d, moving, s.masked + at, n);
    }
  }
};

template <typename T, NormForm kForm, bool kResidual>
struct NormApply {
  using D = NormTag<T>;
  using V = hn::Vec<D>;
  V reference, slope, value, c1, c2, c3, c4, c5;

  template <class Get>
  HWY_INLINE explicit NormApply(Get get)
      : reference(get(0)),
        slope(get(1)),
        value(get(2)),
        c1(kForm != NormForm::kForward ? get(3) : reference),
        c2(kForm != NormForm::kForward ? get(4) : reference),
        c3(kForm != NormForm::kForward ? get(5) : reference),
        c4(kForm == NormForm::kVjpJvp ? get(6) : reference),
        c5(kForm == NormForm::kVjpJvp ? get(7) : reference) {}

  template <bool kFull>
  HWY_INLINE void Step(const NormStreams<T>& s, int64_t at, size_t n) const {
    const D d;
    const V e = NormCentred<kFull>(d, s.x + at, reference, n);
    V before = hn::MulAdd(slope, e, value);
    if constexpr (kResidual) before = hn::Add(before, NormLoad<kFull>(d, s.residual + at, n));
    if constexpr (kForm == NormForm::kForward) {
      const V floor = hn::Set(d, s.floor);
      const V y = hn::IfThenElse(hn::Lt(before, floor), floor, before);
      NormStore<kFull>(d, y, s.out + at, n);
    } else {
      const auto on = hn::Gt(before, hn::Zero(d));
      const auto shifted =
          hn::MulAdd(kForm == NormForm::kVjpJvp ? c4 : c2, e, kForm == NormForm::kVjpJvp ? c5 : c3);
      V out;
      if constexpr (kForm == NormForm::kVjp) {
        const V g = hn::IfThenElseZero(on, NormLoad<kFull>(d, s.dy + at, n));
        out = hn::MulAdd(c1, g, shifted);
      } else if constexpr (kForm == NormForm::kJvp) {
        out = hn::MulAdd(c1, NormLoad<kFull>(d, s.xDot + at, n), shifted);
        if constexpr (kResidual) out = hn::Add(out, NormLoad<kFull>(d, s.residualDot + at, n));
        out = hn::IfThenElseZero(on, out);
      } else {
        const V g = hn::IfThenElseZero(on, NormLoad<kFull>(d, s.dy + at, n));
        const V moving = hn::IfThenElseZero(on, NormLoad<kFull>(d, s.dyDot + at, n));
        const V xDot = NormLoad<kFull>(d, s.xDot + at, n);
        out = hn::MulAdd(c1, moving, hn::MulAdd(c2, xDot, hn::MulAdd(c3, g, shifted)));
      }
      if (kFull && s.stream) {
        hn::Stream(out, d, s.out + at);
      } else {
        NormStore<kFull>(d, out, s.out + at, n);
      }
    }
  }
};

// Coefficients are loaded once for every two rows; with four, reads are so far apart that the
// hardware prefetches less, which costs more.
template <typename T, NormForm kForm, bool kResidual, int kSteps, bool kFull>
HWY_INLINE void NormSumColumn(const NormStreams<T>& s, int64_t at, int64_t channels,
                              const T* coefficients, size_t n, T* line) {
  using Body = NormSum<T, kForm, kResidual>;
  const typename Body::D d;
  const int64_t stride = NormLineStride(channels);
  const Body body([&](int i)
                      HWY_ATTR { return NormLoad<kFull>(d, coefficients + i * channels, n); });
  typename Body::V sum[Body::kCount];
  for (int k = 0; k < Body::kCount; ++k) sum[k] = hn::LoadU(d, line + k * stride);
  for (int j = 0; j < kSteps; ++j) body.template Step<kFull>(s, at + j * channels, n, sum);
  for (int k = 0; k < Body::kCount; ++k) hn::StoreU(sum[k], d, line + k * stride);
}

template <typename T, NormForm kForm, bool kResidual, int kSteps>
HWY_INLINE void NormSumStrip(const NormStreams<T>& s, int64_t at, int64_t channels,
                             const T* coefficients, T* line) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(NormTag<T>()));
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    NormSumColumn<T, kForm, kResidual, kSteps, true>(s, at + c, channels, coefficients + c, 0,
                                                     line + c);
  }
  if (c < channels) {
    const size_t left = static_cast<size_t>(channels - c);
    NormSumColumn<T, kForm, kResidual, kSteps, false>(s, at + c, channels, coefficients + c, left,
                                                      line + c);
  }
}

template <typename T, NormForm kForm, bool kResidual>
void NormSumRows(const NormStreams<T>& streams, int64_t rows, int64_t channels,
                 const T* coefficients, double* sums, T* line) {
  const NormStreams<T> s = streams;
  constexpr int kCount = NormSumCount(kForm);
  const int64_t stride = NormLineStride(channels);
  const Wide wide;
  const int64_t wideLanes = static_cast<int64_t>(hn::Lanes(wide));
  for (int64_t begin = 0; begin < rows; begin += kNormRows) {
    const int64_t end = std::min(rows, begin + kNormRows);
    std::fill_n(line, kCount * stride, T{0});
    int64_t r = begin;
    for (; r + 2 <= end; r += 2) {
      NormSumStrip<T, kForm, kResidual, 2>(s, r * channels, channels, coefficients, line);
    }
    for (; r < end; ++r) {
      NormSumStrip<T, kForm, kResidual, 1>(s, r * channels, channels, coefficients, line);
    }
    for (int k = 0; k < kCount; ++k) {
      const T* from = line + k * stride;
      double* to = sums + k * channels;
      int64_t c = 0;
      for (; c + wideLanes <= channels; c += wideLanes) {
        hn::StoreU(hn::Add(hn::LoadU(wide, to + c), LoadWide(wide, from + c)), wide, to + c);
      }
      for (; c < channels; ++c) to[c] += static_cast<double>(from[c]);
    }
  }
}

template <typename T, NormForm kForm, bool kResidual>
void NormSumChannels(const NormStreams<T>& streams, int64_t first, int64_t last, int64_t channels,
                     int64_t spatial, const T* coefficients, double* sums) {
  using Body = NormSum<T, kForm, kResidual>;
  using V = typename Body::V;
  const NormStreams<T> s = streams;
  const typename Body::D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t c = first; c < last; ++c) {
    const Body body([&](int i) HWY_ATTR { return hn::Set(d, coefficients[i * channels + c]); });
    const int64_t at = c * spatial;
    for (int64_t begin = 0; begin < spatial; begin += kNormValues) {
      const int64_t end = std::min(spatial, begin + kNormValues);
      // Two chains hide the latency of an addition.
      V a[Body::kCount], b[Body::kCount];
      for (int k = 0; k < Body::kCount; ++k) a[k] = b[k] = hn::Zero(d);
      int64_t i = begin;
      for (; i + 2 * lanes <= end; i += 2 * lanes) {
        body.template Step<true>(s, at + i, 0, a);
        body.template Step<true>(s, at + i + lanes, 0, b);
      }
      for (; i + lanes <= end; i += lanes) body.template Step<true>(s, at + i, 0, a);
      if (i < end) body.template Step<false>(s, at + i, static_cast<size_t>(end - i), b);
      for (int k = 0; k < Body::kCount; ++k) {
        sums[k * channels + c] +=
            static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(a[k], b[k]))));
      }
    }
  }
}

template <typename T, NormForm kForm, bool kResidual, int kSteps, bool kFull>
HWY_INLINE void NormApplyColumn(const NormStreams<T>& s, int64_t at, int64_t channels,
                                const T* coefficients, size_t n) {
  using Body = NormApply<T, kForm, kResidual>;
  const typename Body::D d;
  const Body body([&](int i)
                      HWY_ATTR { return NormLoad<kFull>(d, coefficients + i * channels, n); });
  for (int j = 0; j < kSteps; ++j) body.template Step<kFull>(s, at + j * channels, n);
}

template <typename T, NormForm kForm, bool kResidual, int kSteps>
HWY_INLINE void NormApplyStrip(const NormStreams<T>& s, int64_t at, int64_t channels,
                               const T* coefficients) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(NormTag<T>()));
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    NormApplyColumn<T, kForm, kResidual, kSteps, true>(s, at + c, channels, coefficients + c, 0);
  }
  if (c < channels) {
    const size_t left = static_cast<size_t>(channels - c);
    NormApplyColumn<T, kForm, kResidual, kSteps, false>(s, at + c, channels, coefficients + c,
                                                        left);
  }
}

template <typename T, NormForm kForm, bool kResidual>
void NormApplyRows(const NormStreams<T>& streams, int64_t rows, int64_t channels,
                   const T* coefficients) {
  const NormStreams<T> s = streams;
  int64_t r = 0;
  for (; r + 2 <= rows; r += 2) {
    NormApplyStrip<T, kForm, kResidual, 2>(s, r * channels, channels, coefficients);
  }
  for (; r < rows; ++r)
    NormApplyStrip<T, kForm, kResidual, 1>(s, r * channels, channels, coefficients);
  if (s.stream) hwy::FlushStream();
}

template <typename T, NormForm kForm, bool kResidual>
void NormApplyChannels(const NormStreams<T>& streams, int64_t first, int64_t last, int64_t channels,
                       int64_t spatial, const T* coefficients) {
  using Body = NormApply<T, kForm, kResidual>;
  const NormStreams<T> s = streams;
  const typename Body::D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t c = first; c < last; ++c) {
    const Body body([&](int i) HWY_ATTR { return hn::Set(d, coefficients[i * channels + c]); });
    const int64_t at = c * spatial;
    int64_t i = 0;
    for (; i + lanes <= spatial; i += lanes) body.template Step<true>(s, at + i, 0);
    if (i < spatial) body.template Step<false>(s, at + i, static_cast<size_t>(spatial - i));
  }
  if (s.stream) hwy::FlushStream();
}

// f(form, whether there is a residual), both as types.
template <NormForm kForm, bool kResidual>
struct NormChoice {
  static constexpr NormForm kOf = kForm;
  static constexpr bool kWith = kResidual;
};
template <class F>
HWY_INLINE void NormDispatch(NormForm form, bool residual, F f) {
  switch (form) {
    case NormForm::kForward:
      return residual ? f(NormChoice<NormForm::kForward, true>())
                      : f(NormChoice<NormForm::kForward, false>());
    case NormForm::kVjp:
      return residual ? f(NormChoice<NormForm::kVjp, true>())
                      : f(NormChoice<NormForm::kVjp, false>());
    case NormForm::kJvp:
      return residual ? f(NormChoice<NormForm::kJvp, true>())
                      : f(NormChoice<NormForm::kJvp, false>());
    case NormForm::kVjpJvp:
      return residual ? f(NormChoice<NormForm::kVjpJvp, true>())
                      : f(NormChoice<NormForm::kVjpJvp, false>());
  }
}

// Sums look at the residual for the ReLU of cotangents only.
inline bool NormSumsResidual(NormForm form, bool residual) {
  return residual && (form == NormForm::kVjp || form == NormForm::kVjpJvp);
}

template <typename T>
void NormSumRowsOf(NormForm form, const NormStreams<T>& s, int64_t rows, int64_t channels,
                   const T* k, double* sums, T* line) {
  NormDispatch(form, NormSumsResidual(form, s.residual), [&](auto choice) {
    using C = decltype(choice);
    NormSumRows<T, C::kOf, C::kWith>(s, rows, channels, k, sums, line);
  });
}
template <typename T>
void NormSumChannelsOf(NormForm form, const NormStreams<T>& s, int64_t first, int64_t last,
                       int64_t channels, int64_t spatial, const T* k, double* sums) {
  NormDispatch(form, NormSumsResidual(form, s.residual), [&](auto choice) {
    using C = decltype(choice);
    NormSumChannels<T, C::kOf, C::kWith>(s, first, last, channels, spatial, k, sums);
  });
}
template <typename T>
void NormApplyRowsOf(NormForm form, const NormStreams<T>& s, int64_t rows, int64_t channels,
                     const T* k) {
  NormDispatch(form, s.residual, [&](auto choice) {
    using C = decltype(choice);
    NormApplyRows<T, C::kOf, C::kWith>(s, rows, channels, k);
  });
}
template <typename T>
void NormApplyChannelsOf(NormForm form, const NormStreams<T>& s, int64_t first, int64_t last,
                         int64_t channels, int64_t spatial, const T* k) {
  NormDispatch(form, s.residual, [&](auto choice) {
    using C = decltype(choice);
    NormApplyChannels<T, C::kOf, C::kWith>(s, first, last, channels, spatial, k);
  });
}

template <typename T>
NormLoops<T> NormLoopsFor() {
  return {&NormSumRowsOf<T>, &NormSumChannelsOf<T>, &NormApplyRowsOf<T>, &NormApplyChannelsOf<T>};
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
