// oneDNN for the rest of the runtime; only this file and onednn.cc know its headers.
#pragma once

#include <string>

#include "native/runtime/simd.h"

namespace losscape {

std::string OneDnnVersion();

// Keeps oneDNN to the instruction sets of `level`; only before its first primitive is made.
// Throws Error{ERR_NATIVE} when it is too late.
void LimitOneDnn(SimdLevel level);

}  // namespace losscape
