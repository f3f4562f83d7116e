// Exponential moving average of a vector.
//
//   average += (1 - decay)(x - average)
//
// Bound by memory: two reads and a write of n elements.
#pragma once

#include <cstddef>

namespace losscape {

template <typename T>
void MoveAverage(double decay, const T* x, T* average, size_t n, int threads);

}  // namespace losscape
