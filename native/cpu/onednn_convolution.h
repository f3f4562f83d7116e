// One f32 convolution by oneDNN, made for fixed sizes and a thread count.
//
// Images with channels last are read and written as they lie; channels-first ones are brought into
// the blocked layout that oneDNN chooses and back. Filters are brought into its layout in every
// run.
#pragma once

#include <cstddef>
#include <memory>

#include "native/cpu/convolution.h"

namespace losscape {

class OneDnnConvolution {
 public:
  // nullptr where oneDNN has nothing better than plain loops for these sizes.
  // Throws Error{ERR_OUT_OF_MEMORY} or Error{ERR_NATIVE}.
  static std::unique_ptr<OneDnnConvolution> Make(ConvolutionKind kind, const ConvolutionSize& size,
                                                 bool accumulate, int threads);
  virtual ~OneDnnConvolution() = default;
  virtual size_t scratchBytes() const = 0;
  // a, b -> y [+ y]: x, w -> y; dy, w -> x; x, dy -> w by kind. On the threads that it was made
  // for, which OpenMP has to grant the caller. May run on several threads at once, each with its
  // own scratch of 64-byte alignment.
  virtual void Run(const float* a, const float* b, float* y, void* scratch) const = 0;
};

}  // namespace losscape
