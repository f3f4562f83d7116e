// How a run of the channel_norm family is divided among threads, what it has to add up, and where
// its scratch lies.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "native/cpu/channel_norm.h"
#include "native/cpu/channel_norm_coefficients.h"

namespace losscape {

// A sample, or the part of one that a thread takes.
struct NormItem {
  int64_t sample, copy, n, index, first, last;  // rows or channels [first, last)
};

// Bytes from the start of the scratch.
struct NormScratch {
  size_t sums;      // double [items, R, count, C]
  size_t channels;  // NormChannel<Num> [R, L, C]
  size_t primal;    // NormChannel<double> [L, C], of the forms with tangents
  size_t cells;     // NormCell<Num> [R, L, N, G], of the backward forms
  size_t lines;     // of each thread
  size_t line, bytes;
};

struct NormPlan {
  static constexpr int64_t kWork = 16'384;  // elements of x that are worth a thread

  const NormShape& s;
  NormForm form;
  int64_t samples, elements;  // of all batches
  int threads;
  int64_t splits;  // items of a sample
  bool couples;    // a statistic of the batch couples its samples
  bool sums;       // the form needs sums over the activations
  NormScratch scratch;

  // element: bytes of one.
  NormPlan(const NormShape& shape, NormForm normForm, size_t element, int maxThreads)
      : s(shape),
        form(normForm),
        samples(s.copies * s.samples),
        elements(samples * s.Sample()),
        threads(elements < 2 * kWork ? 1 : std::max(1, maxThreads)),
        splits(Splits()),
        couples(Couples()),
        sums(NeedsSums()),
        scratch(Scratch(element)) {}

  int64_t Items() const { return samples * splits; }
  int64_t Grain() const {
    return std::max<int64_t>(1, kWork * splits / std::max<int64_t>(1, s.Sample()));
  }
  // Whether sums and combination of an item can follow one another.
  bool Fused() const { return !couples && splits == 1; }
  int64_t SumSize() const { return NormSumCount(form) * s.channels; }

  NormItem Item(int64_t index) const {
    const int64_t sample = index / splits, part = index % splits;
    const int64_t size = s.nhwc ? s.spatial : s.channels;
    return {sample, sample / s.samples,   sample % s.samples,
            index,  size * part / splits, size * (part + 1) / splits};
  }

 private:
  // A sample is split where there are too few for the threads.
  int64_t Splits() const {
    if (threads == 1 || samples >= 4 * threads || samples % threads == 0) return 1;
    return std::min<int64_t>(threads, s.nhwc ? s.spatial : s.channels);
  }

  bool Couples() const {
    return s.stage == NormStage::kBatch ||
           (s.stage == NormStage::kEstimate && (s.through || form == NormForm::kForward));
  }

  bool NeedsSums() const {
    if (form == NormForm::kForward) return s.groups > 0 || s.stage != NormStage::kFrozen;
    if (form == NormForm::kJvp) return s.groups > 0 || couples;
    return true;
  }

  NormScratch Scratch(size_t element) const {
    const auto aligned = [](size_t bytes) { return (bytes + 255) / 256 * 256; };
    NormScratch plan{};
    const auto take = [&](size_t bytes) {
      const size_t start = plan.bytes;
      plan.bytes += aligned(bytes);
      return start;
    };
    const bool dual = IsDual(form);
    const size_t tangents = static_cast<size_t>(s.tangents);
    const size_t channels = static_cast<size_t>(s.copies * s.channels);
    const size_t cells = IsBackward(form) ? static_cast<size_t>(samples * s.groups) : 0;
    plan.sums = take(static_cast<size_t>(Items() * SumSize()) * tangents * sizeof(double));
    plan.channels = take(channels * tangents *
                         (dual ? sizeof(NormChannel<Dual>) : sizeof(NormChannel<double>)));
    plan.primal = take(dual ? channels * sizeof(NormChannel<double>) : 0);
    plan.cells =
        take(cells * tangents * (dual ? sizeof(NormCell<Dual>) : sizeof(NormCell<double>)));
    plan.line = aligned(static_cast<size_t>(kNormCoefficients * s.channels + NormLine(s.channels)) *
                        element);
    plan.lines = take(plan.line * static_cast<size_t>(threads));
    return plan;
  }
};

}  // namespace losscape
