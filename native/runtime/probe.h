// Probe vectors: random numbers keyed by (seed, stream, logical index), written to storage.
#pragma once

#include <cstdint>

#include "native/cpu/vector.h"

namespace losscape {

enum class ProbeKind { kRademacher, kNormal, kUniform };

// Logical element i (segments in order, padding left out) gets number i of `stream` under `seed`:
// +-1, a standard normal, or a uniform in (0, 1), the streams of native/runtime/random.h. Padding
// becomes zero. The same numbers for any thread count and any padding.
template <typename T>
void FillProbe(ProbeKind kind, uint64_t seed, uint64_t stream, const Segments& segments, T* out,
               size_t storage, int threads);

}  // namespace losscape
