// Linear operators on vectors in device storage.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "native/cpu/vector.h"
#include "native/runtime/buffer.h"
#include "native/runtime/executable.h"
#include "native/runtime/types.h"

namespace losscape {

// Chunks (or rows) done and in all, within one Apply.
using OperatorProgress = std::function<void(size_t done, size_t total)>;

struct LinearProgram {
  int tangents;
  std::shared_ptr<Executable> executable;
};

class NativeOperator {
 public:
  NativeOperator(DType dtype, size_t storage) : dtype_(dtype), storage_(storage) {}
  virtual ~NativeOperator() = default;
  NativeOperator(const NativeOperator&) = delete;
  NativeOperator& operator=(const NativeOperator&) = delete;

  DType dtype() const { return dtype_; }
  // Elements of one vector in device storage.
  size_t storage() const { return storage_; }

  // out[r] = A in[r], r < count; vectors one after another, `storage` elements each, and must not
  // overlap. Executor thread only. Throws Error{ERR_ABORTED} between chunks when cancelled.
  virtual void Apply(const void* in, void* out, int count, RunContext& context,
                     const OperatorProgress& progress = nullptr) = 0;
  // A further program for several vectors at once, for products from now on. Any thread. Throws
  // Error{ERR_ARGUMENT, ERR_SHAPE, ERR_DTYPE} when it does not fit.
  virtual void AddLinear(LinearProgram linear);
  // Forgets kept tensors, so that the next product runs the primal part again.
  virtual void Invalidate() {}
  // Any thread.
  virtual size_t KeptBytes() const { return 0; }

 private:
  DType dtype_;
  size_t storage_;
};

struct LinearInput {
  enum class Kind { kKept, kChunk, kTangent };
  Kind kind;
  // kKept: output of the primal program; kChunk: view of the chunk; kTangent: element offset.
  size_t index;
};

// out = scale * sum over chunks of linear(kept(chunk), v): see OperatorSpec in lib/native.ts.
struct OperatorSpec {
  DType dtype = DType::kF32;
  size_t storage = 0;
  Segments segments;
  double scale = 1;
  std::shared_ptr<Executable> primal;           // may be null
  std::vector<std::vector<View>> primalInputs;  // [chunks][primal inputs]
  std::vector<LinearProgram> linear;            // ascending tangents, the first is 1
  std::vector<LinearInput> linearInputs;
  std::vector<std::vector<View>> chunkInputs;  // [chunks][views]
  std::vector<size_t> linearOutputs;           // element offset of each output
  size_t keepBytes = 0;
  // Chunks run side by side, one per thread of the executor; the executables are for one thread.
  bool sideBySide = false;
};

// The mean over a data set of a linear map given by a program. Chunks that do not run side by side
// are summed in f64, in their order; one alone writes to the result, which is scaled in place.
// Throws Error{ERR_SHAPE, ERR_ARGUMENT} when the parts of the specification do not fit.
std::unique_ptr<NativeOperator> MakeProgramOperator(OperatorSpec spec);

// A dense matrix, row-major [size, size], converted to `dtype`. Rows are f64 dot products,
// rounded once.
std::unique_ptr<NativeOperator> MakeDenseOperator(const double* matrix, size_t size, DType dtype);

}  // namespace losscape
