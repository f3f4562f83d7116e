// Sizes of the convolution family, which all of its ways to compute share.
//
//   y[n, o, q] = sum over c, t of x[n, c, p] w[o, c, t],  p = q stride - before + t dilation
//
// x [N, C, in..] (or [N, in.., C]), w [O, C / groups, kernel..], y [N, O, out..] (or [N, out..,
// O]). Three operations sum the same terms, each into another of the three.
#pragma once

#include <array>
#include <cstdint>

namespace losscape {

enum class ConvolutionKind { kForward, kData, kWeights };

struct ConvolutionSize {
  static constexpr int kAxes = 3;
  using Axes = std::array<int64_t, kAxes>;

  int64_t batch, channels, filters, groups;
  // Axes of space, aligned from the last; missing ones have size 1 and nothing else.
  Axes input, kernel, output, stride, before, dilation;
  bool channelsLast;

  static int64_t Volume(const Axes& axes) { return axes[0] * axes[1] * axes[2]; }
  int64_t InputElements() const { return batch * channels * Volume(input); }
  int64_t OutputElements() const { return batch * filters * Volume(output); }
  int64_t WeightElements() const { return filters * (channels / groups) * Volume(kernel); }
  int64_t MultiplyAdds() const { return OutputElements() * (channels / groups) * Volume(kernel); }
  // Then y is a matrix product of x and w wherever channels come last.
  bool IsPointwise() const {
    for (int axis = 0; axis < kAxes; ++axis) {
      if (kernel[axis] != 1 || stride[axis] != 1 || output[axis] != input[axis]) return false;
    }
    return groups == 1;
  }
};

}  // namespace losscape
