// What the parts of channel_norm.cc tell each other: sizes, streams and the inner loops.
#pragma once

#include <cstdint>

namespace losscape {

enum class NormForm { kForward, kVjp, kJvp, kVjpJvp };
constexpr bool IsDerivative(NormForm form) { return form != NormForm::kForward; }
constexpr bool IsBackward(NormForm form) {
  return form == NormForm::kVjp || form == NormForm::kVjpJvp;
}
// Has tangents, so statistics are dual numbers.
constexpr bool IsDual(NormForm form) { return form == NormForm::kJvp || form == NormForm::kVjpJvp; }

enum class NormStage { kNone, kBatch, kEstimate, kFrozen };

// L batches (copies) of N samples with C channels of S values, in G groups (0: no second stage).
struct NormShape {
  int64_t copies = 1, samples = 0, channels = 0, spatial = 0, groups = 0, tangents = 1;
  bool nhwc = false;
  NormStage stage = NormStage::kNone;
  bool affine1 = false, affine2 = false, perGroup = false;
  bool warm = false, after = false, aboutBatch = false, through = false;
  bool relu = false, residual = false;
  double epsilon1 = 0, epsilon2 = 0;

  int64_t Width() const { return groups > 0 ? channels / groups : 1; }  // channels of a cell
  int64_t Sample() const { return channels * spatial; }
  int64_t Scales() const { return perGroup ? groups : channels; }  // of the second stage
};

// Sums of each (sample, channel), g the cotangent behind the ReLU and e = x - reference:
//   forward e, e²; vjp g, g e; jvp x', x' e; vjp_jvp g, g e, x', x' e, g', g' e + g x'.
constexpr int NormSumCount(NormForm form) { return form == NormForm::kVjpJvp ? 6 : 2; }

// Coefficients of each channel, [these, C]: the reference; the slope and value at the reference of
// what the ReLU sees (0 and 1 without one); and then
//   forward   nothing (slope and value are those of y)
//   vjp       dx  = c1 g + c2 e + c3
//   jvp       y'  = c1 x' + c2 e + c3
//   vjp_jvp   dx' = c1 g' + c2 x' + c3 g + c4 e + c5
constexpr int kNormCoefficients = 8;

// One sample, or a part of one; pointers are those of its first element.
template <typename T>
struct NormStreams {
  const T* x = nullptr;
  const T* residual = nullptr;
  const T* dy = nullptr;
  const T* xDot = nullptr;
  const T* dyDot = nullptr;
  const T* residualDot = nullptr;
  T* out = nullptr;
  T* masked = nullptr;  // g or g', written by the sums
  T floor = 0;          // y is at least this
  bool stream = false;  // writes results of derivatives past the caches; aligned vectors only
};

// rows [rows, C] (NHWC), or channels [first, last) of S values (NCHW). sums [count, C] are added
// to. line: scratch of NormLine(C) elements.
template <typename T>
struct NormLoops {
  void (*sumRows)(NormForm form, const NormStreams<T>& streams, int64_t rows, int64_t channels,
                  const T* coefficients, double* sums, T* line);
  void (*sumChannels)(NormForm form, const NormStreams<T>& streams, int64_t first, int64_t last,
                      int64_t channels, int64_t spatial, const T* coefficients, double* sums);
  void (*applyRows)(NormForm form, const NormStreams<T>& streams, int64_t rows, int64_t channels,
                    const T* coefficients);
  void (*applyChannels)(NormForm form, const NormStreams<T>& streams, int64_t first, int64_t last,
                        int64_t channels, int64_t spatial, const T* coefficients);
};

constexpr int64_t NormLineStride(int64_t channels) { return (channels + 15) / 16 * 16; }
constexpr int64_t NormLine(int64_t channels) { return 6 * NormLineStride(channels); }

}  // namespace losscape
