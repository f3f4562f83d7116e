// Gradient of a convolution in its filters, f32, channels last, for sizes at which oneDNN leaves a
// third of an AVX2 core idle (measured on Zen 3).
//
//   w[o, c, t] [+]= sum over n, q of x[n, q stride - before + t dilation, c] y[n, q, o]
//
// 2 N |out| O C |kernel| FLOP. Tiles of 4 channels and two vectors of filters stay in registers
// over a block of rows that fits the first cache; threads share taps and channels, so that no sums
// are put together and an element's sum has the same order for every thread count.
#pragma once

#include <cstddef>

#include "native/cpu/convolution.h"

namespace losscape {

// Whether ConvolutionWeights is the faster way for these sizes on this machine.
bool SuitsConvolutionWeights(const ConvolutionSize& size);

size_t ConvolutionWeightsScratch(const ConvolutionSize& size);

// x [N, in.., C], y [N, out.., O] -> w [O, C, kernel..].
void ConvolutionWeights(const ConvolutionSize& size, const float* x, const float* y, float* w,
                        bool accumulate, void* scratch, int threads);

}  // namespace losscape
