// What this machine can do at most, measured: the physical limits that benchmarks report.
//
// Call on the executor thread, so that the threads are those that kernels use. Each function takes
// tenths of a second.
#pragma once

#include <cstddef>

#include "native/runtime/types.h"

namespace losscape {

// Bytes per second, read plus written, of the fastest of memcpy, a copy with non-temporal stores
// (both within a working set of `bytes`: half is read, half is written), and a sum that reads all
// `bytes`. The median of repeated passes of each. Throws Error{ERR_ARGUMENT} for bytes < 4096 or
// threads < 1, Error{ERR_OUT_OF_MEMORY}.
double CopyBandwidth(size_t bytes, int threads);

// FLOP per second of y = a b, [n, n] each, by the fastest library at hand: oneDNN or OpenBLAS for
// f32, OpenBLAS for f64. The median of repeated products. Throws Error{ERR_ARGUMENT},
// Error{ERR_DTYPE} for other types, Error{ERR_NATIVE} when no library does it.
double GemmRate(int n, DType dtype, int threads);

}  // namespace losscape
