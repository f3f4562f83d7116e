// What the loops of max_pool.cc work on.
#pragma once

#include <cstdint>
#include <vector>

#include "native/cpu/spatial.h"

namespace losscape {

template <typename T>
struct MaxPoolArgs {
  const T* x;            // forward and take: [outer, height, width, inner]; scatter: like y
  const int32_t* index;  // take and scatter: [shared, rows, columns, inner]
  T* y;                  // forward and take: [outer, rows, columns, inner]; scatter: like x
  int32_t* chosen;       // forward: like y
  int64_t outer, shared, height, width, inner;
  const std::vector<SpatialWindow>* rows;
  const std::vector<SpatialWindow>* columns;
  // Scatter: the windows that hold each position of an axis, as ranges of outputs.
  const std::vector<SpatialWindow>* rowsAt;
  const std::vector<SpatialWindow>* columnsAt;
  int64_t down, across;  // distance of the elements of a window
};

// Forward and take: rows [begin, end) of all images' results. Scatter: rows of all images' x when
// inner > 1, whole images when inner is 1.
template <typename T>
using MaxPoolLoop = void (*)(const MaxPoolArgs<T>& args, int64_t begin, int64_t end);

template <typename T>
struct MaxPoolLoops {
  MaxPoolLoop<T> forward, take, scatter;
};

}  // namespace losscape
