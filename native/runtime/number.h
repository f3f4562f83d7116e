// One number as an element of any dtype.
#pragma once

#include <cstddef>

#include "native/runtime/types.h"

namespace losscape {

// Stores `value` at element `index` of `data`: nearest even for floating point; truncated toward
// zero and saturated for integers, where NaN becomes 0.
void StoreNumber(DType dtype, void* data, size_t index, double value);

// Whether any of `count` elements is NaN; false for integers.
bool HasNaN(DType dtype, const void* data, size_t count);

}  // namespace losscape
