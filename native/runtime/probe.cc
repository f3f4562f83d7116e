#include "native/runtime/probe.h"

#include <algorithm>

#include "native/runtime/parallel.h"
#include "native/runtime/random.h"

namespace losscape {
namespace {

constexpr int64_t kGrain = 8192;  // tens of microseconds of Philox

template <typename T>
void Fill(ProbeKind kind, uint64_t seed, uint64_t stream, uint64_t start, size_t count, T* out) {
  switch (kind) {
    case ProbeKind::kRademacher:
      return FillRademacher(seed, stream, start, count, out);
    case ProbeKind::kNormal:
      return FillNormals(seed, stream, start, count, out);
    case ProbeKind::kUniform:
      return FillUniforms(seed, stream, start, count, out);
  }
}

}  // namespace

template <typename T>
void FillProbe(ProbeKind kind, uint64_t seed, uint64_t stream, const Segments& segments, T* out,
               size_t storage, int threads) {
  ZeroPadding(segments, out, storage);
  uint64_t logical = 0;
  for (size_t k = 0; k < segments.offsets.size(); ++k) {
    T* target = out + segments.offsets[k];
    ParallelFor(threads, static_cast<int64_t>(segments.lengths[k]), kGrain,
                [&](int64_t begin, int64_t end, int) {
                  Fill(kind, seed, stream, logical + static_cast<uint64_t>(begin),
                       static_cast<size_t>(end - begin), target + begin);
                });
    logical += segments.lengths[k];
  }
}

template void FillProbe(ProbeKind, uint64_t, uint64_t, const Segments&, float*, size_t, int);
template void FillProbe(ProbeKind, uint64_t, uint64_t, const Segments&, double*, size_t, int);

}  // namespace losscape
