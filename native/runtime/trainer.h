// The training loop over one flat parameter vector: TrainerSpec of lib/native.ts.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "native/cpu/optimizer.h"
#include "native/runtime/buffer.h"
#include "native/runtime/executable.h"
#include "native/runtime/types.h"

namespace losscape {

struct TrainerInput {
  // kRate: the learning rate of the step, before the factors of segments.
  enum class Kind { kTheta, kState, kFixed, kRows, kWeights, kKey, kRate };
  Kind kind;
  size_t index;  // kTheta, kState: element offset; kFixed: index of `fixed`
};

// What the model carries along without learning it. A program has its new values as outputs 2, 3,
// ..., before the gradients; they are stored when a step has succeeded.
struct StateSpec {
  std::shared_ptr<Buffer> buffer;  // null: there is none
  size_t storage = 0;
  std::vector<size_t> offsets;  // element offset of each output
};

// A moving average of theta: after step t (from 0), average += (1 - d)(theta - average) with
// d = decay, or min(decay, (1 + t) / (10 + t)) while it warms up.
struct AverageSpec {
  std::shared_ptr<Buffer> average;  // null: none is kept
  double decay = 0;
  bool warmup = false;
};

struct TrainerSpec {
  DType dtype = DType::kF32;
  size_t storage = 0;
  OptimizerSegments segments;
  OptimizerSpec optimizer;
  std::shared_ptr<Buffer> theta;
  std::vector<std::shared_ptr<Buffer>> moments;
  AverageSpec average;
  StateSpec state;
  std::shared_ptr<Executable> executable;
  std::vector<TrainerInput> inputs;
  std::vector<View> fixed;
  size_t batch = 0;
  // Batches of a step. Their gradients are averaged with the sums of their weights, the state goes
  // on from batch to batch, and those of no weight are left out.
  size_t accumulate = 1;
  uint64_t seed = 0;
  std::vector<size_t> gradientOffsets;  // element offset of the outputs after the state's
};

// Steps [from, to), copied from JavaScript at the call.
struct TrainSteps {
  int64_t from = 0;
  int64_t to = 0;
  std::vector<int32_t> rows;   // [to - from, accumulate, batch]
  std::vector<float> weights;  // [to - from, accumulate, batch]
  std::vector<double> learningRates;
};

struct TrainResult {
  std::vector<double> losses;
  std::vector<double> correct;
  std::vector<double> gradientNorms;
  int64_t done = 0;
  bool diverged = false;
};

// One run of a trainer: `Step` until it is `Finished`, each call a queue job of its own; on abort
// the caller just stops calling and `result()` is what was done, theta being at that boundary.
class TrainRun {
 public:
  virtual ~TrainRun() = default;
  virtual bool Finished() const = 0;
  // At least one step, and more while less than `seconds` have gone by. A step that throws
  // (ERR_ABORTED inside the program) leaves theta and the state as they were before it.
  virtual void Step(RunContext& context, double seconds) = 0;
  virtual const TrainResult& result() const = 0;
};

class NativeTrainer {
 public:
  virtual ~NativeTrainer() = default;
  virtual const TrainerSpec& spec() const = 0;
  // Throws Error{ERR_SHAPE} when the lengths do not fit. The trainer must outlive the run. Runs may
  // be queued one behind the other: after one that diverged at a step, those from later steps on
  // make no step and report divergence too.
  virtual std::unique_ptr<TrainRun> Begin(TrainSteps steps) = 0;
  // Memory of its own: gradients and staging.
  virtual size_t Bytes() const = 0;
};

// Throws Error{ERR_SHAPE, ERR_ARGUMENT} when the parts of the specification do not fit.
std::unique_ptr<NativeTrainer> MakeTrainer(TrainerSpec spec);

}  // namespace losscape
