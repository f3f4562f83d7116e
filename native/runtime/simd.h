// The instruction sets of this machine, and the limit that LOSSCAPE_SIMD puts on them.
#pragma once

#include <string>
#include <vector>

namespace losscape {

// Ascending. kOther: everything that is not x86 (there is nothing to choose there yet).
enum class SimdLevel { kScalar, kSse4, kAvx2, kAvx512, kOther };

struct Simd {
  SimdLevel level;                   // in use, after the limit
  bool limited;                      // LOSSCAPE_SIMD is set
  std::string target;                // Highway's name of the best target in use
  std::vector<std::string> targets;  // those compiled in that this CPU has, best first, no limit
};

// Detects once per process. LOSSCAPE_SIMD (scalar, sse4, avx2, avx512) then lowers Highway's
// targets and oneDNN's instruction sets; a level above what the CPU has changes nothing. Has to run
// before the first kernel: the addon and the native tests call it when they start. OpenBLAS follows
// in OpenBlas(). Throws Error{ERR_ARGUMENT} for an unknown level.
const Simd& GetSimd();

}  // namespace losscape
