// oneDNN for the rest of the runtime; only onednn.cc and onednn_convolution.cc know its headers.
#pragma once

#include <string>

#include "native/cpu/small_gemm.h"
#include "native/runtime/simd.h"

namespace losscape {

std::string OneDnnVersion();

// Keeps oneDNN to the instruction sets of `level`; only before its first primitive is made.
// Throws Error{ERR_NATIVE} when it is too late.
void LimitOneDnn(SimdLevel level);

// y = op(a) op(b) [+ y] with the meaning of SmallGemm, on the threads that OpenMP grants the
// caller. Sizes must not be 0. Throws Error{ERR_OUT_OF_MEMORY} or Error{ERR_NATIVE}.
void OneDnnGemm(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate);

}  // namespace losscape
