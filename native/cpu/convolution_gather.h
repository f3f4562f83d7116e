// Convolution as matrix products over gathered patches: every f64 convolution, and the f32 ones
// that oneDNN has no fast code for.
//
// Rows are positions of the result, columns (tap, channel) of what they see. Backward by data
// gathers too, from the results that see a position: no two threads add to the same element, and
// an element's sum has the same order for every thread count. With stride s it gathers s^2 times
// the zeros that scattering would not touch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/cpu/convolution.h"

namespace losscape {

template <typename T>
class GatherConvolution {
 public:
  GatherConvolution(ConvolutionKind kind, const ConvolutionSize& size);
  size_t ScratchBytes(int threads) const;
  // a, b -> y [+ y]: x, w -> y; dy, w -> x; x, dy -> w by kind.
  void Run(const T* a, const T* b, T* y, bool accumulate, void* scratch, int threads) const;

 private:
  // How images lie in memory: elements between neighbours.
  struct Images {
    int64_t image, channel, point, channels;
  };

  void GatherPatches(const T* from, int64_t group, int64_t row, int64_t rows, int64_t column,
                     int64_t columns, T* to) const;
  void GatherRows(const Images& images, int64_t points, const T* from, int64_t channel,
                  int64_t channels, int64_t row, int64_t rows, T* to) const;
  // Position of tap t seen from a row, or nullptr outside the images.
  const T* Seen(const T* from, int64_t row, int64_t tap) const;
  void DepthwiseToResults(const T* a, const T* w, T* y, bool accumulate, T* packed,
                          int threads) const;
  void DepthwiseToWeights(const T* x, const T* dy, T* w, bool accumulate, T* sums,
                          int threads) const;
  void ToResults(const T* a, const T* w, T* y, bool accumulate, char* scratch, int threads) const;
  void ToWeights(const T* x, const T* dy, T* w, bool accumulate, char* scratch, int threads) const;

  ConvolutionKind kind_;
  ConvolutionSize size_;
  Images from_, to_;  // what patches are gathered from; what rows run over
  ConvolutionSize::Axes fromSize_, toSize_;
  int64_t taps_, depth_, width_;  // channels of one group: of patches, of results
  int64_t rows_, chunk_;
  // Per axis: coordinate in `from` of (coordinate of the row, tap), or -1 outside.
  std::vector<int64_t> map_[ConvolutionSize::kAxes];
};

}  // namespace losscape
