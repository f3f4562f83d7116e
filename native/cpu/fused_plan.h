// From a `fused` operation to what its machine runs: checked, dead instructions dropped, pairs
// joined, values given buffers by liveness.
//
// A *value* is a register of the program: 0 .. inputs-1 are the operands, inputs + k is the result
// of instruction k. During a block a value is a vector of the block's elements or *uniform*: one
// number, repeated over one SIMD vector. Uniform operands are taken as immediates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/cpu/fused_ops.h"
#include "native/runtime/kernel.h"

namespace losscape {

constexpr int kFusedMaxRank = 8;
// Bytes of a uniform value and the largest SIMD vector that the machine uses.
constexpr size_t kFusedSlot = 64;
// Behind every buffer: whole vectors may be written past a run's end.
constexpr size_t kFusedPadding = 2 * kFusedSlot;

// How one operand is read along the iteration space: `rank` merged axes, outermost first.
struct FusedOperand {
  DType dtype = DType::kF32;
  int64_t elements = 0;  // of the tensor
  int64_t offset = 0;
  int rank = 0;
  int64_t shape[kFusedMaxRank];
  int64_t stride[kFusedMaxRank];
  bool dense = false;    // element i of the space is element i of the tensor
  bool uniform = false;  // one element for the whole space
  // The pattern repeats after this many elements and is kept expanded, from `tile` bytes on in
  // the thread's scratch; 0: it is not.
  int64_t period = 0;
  size_t tile = 0;
  int lastRead = -1;  // the last step that reads it; steps.size() when it is a result itself
};

struct FusedStep {
  FusedOp op;
  int16_t arity;
  int32_t source[4];  // values; of kLoad: the operand
  int32_t value;      // that it makes
  int32_t output;     // that may be written without a buffer between, or -1
};

struct FusedPlan {
  bool wide = false;  // computes in f64
  int64_t count = 0;  // elements of the iteration space
  int64_t block = 0;  // elements of a block
  double cost = 0;    // per element, in units of FusedOpInfo::cost
  std::vector<FusedOperand> operands;
  std::vector<FusedStep> prologue;  // on uniform values only: once per run and thread
  std::vector<FusedStep> steps;     // once per block
  std::vector<int> results;         // value of each output
  std::vector<DType> outputs;       // dtypes

  // Per value: where it lives in the thread's scratch, or, for immediates, in `immediates`.
  int values = 0;
  std::vector<size_t> place;
  std::vector<bool> immediate;
  std::vector<char> immediates;  // repeated over kFusedSlot bytes each
  size_t scratch = 0;            // bytes per thread

  // Of the tables at the start of the scratch.
  size_t UniformOffset() const { return static_cast<size_t>(values) * sizeof(void*); }
  size_t DirectOffset() const { return UniformOffset() + (values + 7) / 8 * 8; }
};

// Throws Error{ERR_PROGRAM} for whatever does not follow the format in program.h, naming it.
FusedPlan PlanFused(const OpSpec& op);

}  // namespace losscape
