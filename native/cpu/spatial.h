// Images and windows on them, as pooling and resizing have them: [N, H, W, C] (strings layout nhwc)
// or [N, C, H, W] (nchw), seen as [outer, H, W, inner].
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "native/cpu/check.h"

namespace losscape {

struct SpatialShape {
  int64_t outer, height, width, inner;
};

// Positions [begin, end) of an axis.
struct SpatialWindow {
  int64_t begin, end;
};

inline bool ChannelsLast(const OpSpec& op) {
  const std::string& layout = op.String("layout");
  if (layout != "nhwc" && layout != "nchw") {
    throw Error(Code::kProgram, op.name, ": expected layout nchw or nhwc, got ", layout, ".");
  }
  return layout == "nhwc";
}

inline SpatialShape SpatialShapeOf(const OpSpec& op, const TensorType& x) {
  if (x.shape.size() != 4) {
    throw Error(Code::kShape, op.name, ": expected a tensor of rank 4, got ", ShapeText(x.shape),
                ".");
  }
  const std::vector<int64_t>& s = x.shape;
  if (ChannelsLast(op)) return {s[0], s[1], s[2], s[3]};
  return {s[0] * s[1], s[2], s[3], 1};
}

inline std::vector<int64_t> WithSpace(const OpSpec& op, std::vector<int64_t> shape, int64_t height,
                                      int64_t width) {
  const size_t at = ChannelsLast(op) ? 1 : 2;
  shape[at] = height;
  shape[at + 1] = width;
  return shape;
}

// The attribute `name`: begin and end of every window, inside an axis of `size` positions.
inline std::vector<SpatialWindow> WindowsOf(const OpSpec& op, const char* name, int64_t size) {
  const std::vector<double>& numbers = op.Numbers(name);
  std::vector<SpatialWindow> windows;
  for (size_t i = 0; i + 1 < numbers.size(); i += 2) {
    const double begin = numbers[i], end = numbers[i + 1];
    const bool inside = begin >= 0 && begin <= end && end <= static_cast<double>(size) &&
                        begin == std::floor(begin) && end == std::floor(end);
    if (!inside) {
      throw Error(Code::kProgram, op.name, ": expected windows inside [0, ", size, ") in ", name,
                  ", got [", begin, ", ", end, ").");
    }
    windows.push_back({static_cast<int64_t>(begin), static_cast<int64_t>(end)});
  }
  if (numbers.size() % 2 != 0) {
    throw Error(Code::kProgram, op.name, ": expected pairs in ", name, ".");
  }
  return windows;
}

}  // namespace losscape
