// Elementwise products of vectors.
//
//   y = [y +] a b        in f64, rounded once
//
// Bound by memory: three or four reads and writes of n elements.
#pragma once

#include <cstddef>

namespace losscape {

// y may be a or b.
template <typename T>
void Multiply(const T* a, const T* b, T* y, size_t n, bool add, int threads);

}  // namespace losscape
