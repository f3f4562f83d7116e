// What the loops of weight_standardize.cc work on.
#pragma once

#include <cstdint>

namespace losscape {

// sigma = sqrt(q + epsilon), sqrt(q) + epsilon, sqrt(max(sum U^2, epsilon)), 1.
enum class WeightForm { kIn, kOut, kMax, kOne };

// One bank of filters: O rows of I weights, and R tangents of the bank.
template <typename T>
struct WeightBank {
  const T* w;  // [O, I]
  const T* p;  // [O, I]     vjp_jvp: the cotangent that moves
  const T* u;  // [R, O, I]  vjp_jvp: the tangents of w
  const T* v;  // [R, O, I]  what the Jacobian is applied to; vjp_jvp: may be null
  T* out;      // [O, I] or [R, O, I]
  int64_t rows, columns, tangents;
  double factor, epsilon, delta;
  WeightForm form;
  bool center;
  bool stream;  // write past the caches: the results are larger than them
};

template <typename T>
using WeightLoop = void (*)(const WeightBank<T>& bank, int64_t begin, int64_t end);

template <typename T>
struct WeightLoops {
  WeightLoop<T> forward, jvp, vjpJvp;
};

}  // namespace losscape
