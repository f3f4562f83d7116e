#include "native/runtime/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "native/cpu/average.h"
#include "native/runtime/error.h"
#include "native/runtime/memory.h"

namespace losscape {
namespace {

constexpr const char* kKind = "trainer";
constexpr size_t kScalars = 2;  // outputs before those of the state: loss, correct samples

double ReadScalar(const TensorType& type, const void* data) {
  switch (type.dtype) {
    case DType::kF32:
      return static_cast<double>(*static_cast<const float*>(data));
    case DType::kF64:
      return *static_cast<const double*>(data);
    default:
      return static_cast<double>(*static_cast<const int32_t*>(data));
  }
}

template <typename T>
bool AllFinite(const T* x, size_t n) {
  bool finite = true;
  for (size_t i = 0; i < n; ++i) finite &= std::isfinite(x[i]);
  return finite;
}

void Expect(bool fits, const std::string& what, const TensorType& type) {
  if (!fits) {
    throw Error(Code::kShape, "Trainer: expected ", what, ", got ", type.Elements(),
                " elements of ", Name(type.dtype), ".");
  }
}

template <typename T>
class Trainer final : public NativeTrainer {
 public:
  explicit Trainer(TrainerSpec spec)
      : spec_(std::move(spec)), gradient_(kKind, spec_.storage * sizeof(T)) {
    spec_.segments.Check(spec_.storage);
    CheckBuffers();
    CheckState();
    CheckInputs();
    CheckOutputs();
    if (spec_.accumulate > 1) further_ = Allocation(kKind, gradient_.bytes());
    if (spec_.state.storage == 0) return;
    for (Allocation& next : next_) next = Allocation(kKind, spec_.state.storage * sizeof(T));
  }

  const TrainerSpec& spec() const override { return spec_; }
  size_t Bytes() const override {
    return gradient_.bytes() + further_.bytes() + next_[0].bytes() + next_[1].bytes();
  }
  std::unique_ptr<TrainRun> Begin(TrainSteps steps) override;

  // A program yields to urgent jobs; a run among them must not overwrite the gradient.
  class Busy {
   public:
    explicit Busy(Trainer& owner) : owner_(owner) {
      if (owner.busy_) {
        throw Error(Code::kArgument,
                    "Trainer: expected no step to be under way; wait for run to settle.");
      }
      owner.busy_ = true;
    }
    ~Busy() { owner_.busy_ = false; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    Trainer& owner_;
  };

  T* gradient() { return reinterpret_cast<T*>(gradient_.data()); }
  // Of the batches of a step after its first.
  T* further() { return reinterpret_cast<T*>(further_.data()); }
  T* state() {
    return spec_.state.buffer ? reinterpret_cast<T*>(spec_.state.buffer->data()) : nullptr;
  }
  // The state within a step: a batch reads one of the two and writes the other.
  T* next(size_t k) { return reinterpret_cast<T*>(next_[k % 2].data()); }
  T* theta() { return reinterpret_cast<T*>(spec_.theta->data()); }
  T* average() { return reinterpret_cast<T*>(spec_.average.average->data()); }

  // Whether a run from `step` on comes after a step that diverged.
  bool HaltedBefore(int64_t step) const { return halted_ >= 0 && step > halted_; }
  void Halt(int64_t step) { halted_ = step; }
  void Resume() { halted_ = -1; }

 private:
  void CheckState() const {
    const StateSpec& state = spec_.state;
    const size_t bytes = state.storage * sizeof(T);
    const size_t found = state.buffer ? state.buffer->bytes() : 0;
    if (found < bytes || (state.buffer && state.storage == 0)) {
      throw Error(Code::kShape, "Trainer: expected a buffer of ", bytes,
                  " bytes (at least one element) for the state, got ", found, ".");
    }
  }

  void CheckBuffers() const {
    const size_t bytes = spec_.storage * sizeof(T);
    if (!spec_.theta || spec_.theta->bytes() < bytes) {
      throw Error(Code::kShape, "Trainer: expected a buffer of ", bytes, " bytes for theta, got ",
                  spec_.theta ? spec_.theta->bytes() : 0, ".");
    }
    const size_t moments = static_cast<size_t>(spec_.optimizer.Moments());
    if (spec_.moments.size() < moments) {
      throw Error(Code::kShape, "Trainer: expected ", moments,
                  " moment buffers for this optimizer, got ", spec_.moments.size(), ".");
    }
    for (size_t k = 0; k < moments; ++k) {
      if (!spec_.moments[k] || spec_.moments[k]->bytes() < bytes) {
        throw Error(Code::kShape, "Trainer: expected ", bytes, " bytes for moment ", k, ".");
      }
    }
    const AverageSpec& average = spec_.average;
    if (average.average && average.average->bytes() < bytes) {
      throw Error(Code::kShape, "Trainer: expected ", bytes,
                  " bytes for the average of theta, got ", average.average->bytes(), ".");
    }
    if (average.average && !(average.decay >= 0 && average.decay <= 1)) {
      throw Error(Code::kArgument, "Trainer: expected a decay of the average in [0, 1], got ",
                  average.decay, ".");
    }
    if (spec_.batch == 0 || spec_.accumulate == 0) {
      throw Error(Code::kArgument, "Trainer: expected at least 1 batch of at least 1 a step, got ",
                  spec_.accumulate, " of ", spec_.batch, ".");
    }
    if (!(spec_.optimizer.clipNorm > 0)) {
      throw Error(Code::kArgument, "Trainer: expected clipNorm > 0 (infinity: off), got ",
                  spec_.optimizer.clipNorm, ".");
    }
  }

  void CheckInputs() const {
    const std::vector<TensorType>& types = spec_.executable->inputTypes();
    if (types.size() != spec_.inputs.size()) {
      throw Error(Code::kShape, "Trainer: expected ", types.size(), " inputs of the program, got ",
                  spec_.inputs.size(), ".");
    }
    for (size_t k = 0; k < types.size(); ++k) CheckInput(k, types[k], spec_.inputs[k]);
  }

  void CheckInput(size_t k, const TensorType& type, const TrainerInput& input) const {
    const size_t elements = static_cast<size_t>(type.Elements());
    const std::string name = "input " + std::to_string(k);
    const bool batch = elements == spec_.batch;
    switch (input.kind) {
      case TrainerInput::Kind::kTheta:
        Expect(type.dtype == spec_.dtype && IsPart(type, input.index, spec_.storage),
               name + " to be a part of theta", type);
        break;
      case TrainerInput::Kind::kState:
        Expect(type.dtype == spec_.dtype && IsPart(type, input.index, spec_.state.storage),
               name + " to be a part of the state", type);
        break;
      case TrainerInput::Kind::kRate:
        Expect((type.dtype == DType::kF32 || type.dtype == DType::kF64) && elements == 1,
               name + " to be one learning rate", type);
        break;
      case TrainerInput::Kind::kFixed:
        Expect(input.index < spec_.fixed.size() &&
                   spec_.fixed[input.index].bytes() >= type.Bytes() &&
                   spec_.fixed[input.index].offset % ByteSize(type.dtype) == 0,
               name + " to fit its fixed view", type);
        break;
      case TrainerInput::Kind::kRows:
        Expect(type.dtype == DType::kI32 && batch, name + " to be i32 [batch] rows", type);
        break;
      case TrainerInput::Kind::kWeights:
        Expect((type.dtype == DType::kF32 || type.dtype == DType::kF64) && batch,
               name + " to be [batch] weights", type);
        break;
      case TrainerInput::Kind::kKey:
        Expect(type.dtype == DType::kI32 && elements == 4, name + " to be an i32 [4] key", type);
        break;
    }
  }

  static bool IsPart(const TensorType& type, size_t offset, size_t storage) {
    return offset <= storage && static_cast<size_t>(type.Elements()) <= storage - offset;
  }

  void CheckOutputs() const {
    const std::vector<TensorType>& types = spec_.executable->outputTypes();
    const std::vector<size_t>& states = spec_.state.offsets;
    const std::vector<size_t>& gradients = spec_.gradientOffsets;
    if (types.size() != kScalars + states.size() + gradients.size()) {
      throw Error(Code::kShape, "Trainer: expected outputs for the loss, the correct samples, ",
                  states.size(), " state tensors and ", gradients.size(), " gradients, got ",
                  types.size(), ".");
    }
    for (size_t k = 0; k < types.size(); ++k) {
      const std::string name = "output " + std::to_string(k);
      const DType dtype = types[k].dtype;
      if (k < kScalars) {
        Expect(types[k].Elements() == 1 &&
                   (dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kI32),
               name + " to be one f32, f64 or i32", types[k]);
        continue;
      }
      const size_t at = k - kScalars;
      if (at < states.size()) {
        Expect(dtype == spec_.dtype && IsPart(types[k], states[at], spec_.state.storage),
               name + " to be a part of the state", types[k]);
      } else {
        Expect(
            dtype == spec_.dtype && IsPart(types[k], gradients[at - states.size()], spec_.storage),
            name + " to be a part of the gradient", types[k]);
      }
    }
  }

  TrainerSpec spec_;
  Allocation gradient_;  // [storage]; what no output writes stays zero
  Allocation further_;   // the same, with several batches a step
  Allocation next_[2];   // [state.storage]
  bool busy_ = false;
  int64_t halted_ = -1;  // the step that diverged; -1: none
};

template <typename T>
class Run final : public TrainRun {
 public:
  Run(Trainer<T>& trainer, TrainSteps steps)
      : trainer_(trainer), steps_(std::move(steps)), count_(steps_.to - steps_.from) {
    const size_t count = static_cast<size_t>(count_);
    const size_t samples = count * trainer.spec().accumulate * trainer.spec().batch;
    if (steps_.from < 0 || count_ < 0 || steps_.rows.size() != samples ||
        steps_.weights.size() != samples || steps_.learningRates.size() != count) {
      throw Error(Code::kShape, "Trainer: expected ", samples, " rows and weights and ", count,
                  " learning rates for steps [", steps_.from, ", ", steps_.to, "), got ",
                  steps_.rows.size(), ", ", steps_.weights.size(), " and ",
                  steps_.learningRates.size(), ".");
    }
    Bind();
    result_.losses.reserve(count);
    result_.correct.reserve(count);
    result_.gradientNorms.reserve(count);
  }

  bool Finished() const override { return result_.diverged || result_.done == count_; }
  const TrainResult& result() const override { return result_; }

  void Step(RunContext& context, double seconds) override {
    if (trainer_.HaltedBefore(steps_.from)) {
      result_.diverged = true;
      return;
    }
    trainer_.Resume();
    const auto start = std::chrono::steady_clock::now();
    std::chrono::duration<double> elapsed{0};
    while (!Finished()) {
      One(context);
      elapsed = std::chrono::steady_clock::now() - start;
      if (elapsed.count() >= seconds) break;
      context.Yield();
    }
  }

 private:
  // Pointers that every step has in common.
  void Bind() {
    const TrainerSpec& spec = trainer_.spec();
    const std::vector<TensorType>& types = spec.executable->inputTypes();
    inputs_.resize(types.size());
    for (size_t k = 0; k < types.size(); ++k) {
      const TrainerInput& input = spec.inputs[k];
      const bool wide = types[k].dtype == DType::kF64;
      if (input.kind == TrainerInput::Kind::kTheta) inputs_[k] = trainer_.theta() + input.index;
      if (input.kind == TrainerInput::Kind::kFixed) inputs_[k] = spec.fixed[input.index].data();
      if (input.kind == TrainerInput::Kind::kKey) inputs_[k] = key_;
      if (input.kind == TrainerInput::Kind::kRate) {
        inputs_[k] = wide ? static_cast<const void*>(&rate_) : static_cast<const void*>(&rateF32_);
      }
      if (input.kind == TrainerInput::Kind::kWeights && wide && wideWeights_.empty()) {
        wideWeights_.assign(steps_.weights.begin(), steps_.weights.end());
      }
    }
    outputs_.resize(spec.executable->outputTypes().size());
    for (size_t k = 0; k < kScalars; ++k) outputs_[k] = scalars_ + k;
  }

  // Pointers of batch `m` of a step, whose samples begin at `at`, and where its results go.
  void BindBatch(int64_t step, size_t m, size_t at, const T* state, T* next, T* gradient) {
    const TrainerSpec& spec = trainer_.spec();
    const std::vector<TensorType>& types = spec.executable->inputTypes();
    for (size_t k = 0; k < inputs_.size(); ++k) {
      const TrainerInput& input = spec.inputs[k];
      if (input.kind == TrainerInput::Kind::kState) inputs_[k] = state + input.index;
      if (input.kind == TrainerInput::Kind::kRows) inputs_[k] = steps_.rows.data() + at;
      if (input.kind == TrainerInput::Kind::kWeights) {
        inputs_[k] = types[k].dtype == DType::kF64
                         ? static_cast<const void*>(wideWeights_.data() + at)
                         : static_cast<const void*>(steps_.weights.data() + at);
      }
    }
    size_t output = kScalars;
    for (size_t offset : spec.state.offsets) outputs_[output++] = next + offset;
    for (size_t offset : spec.gradientOffsets) outputs_[output++] = gradient + offset;
    const uint64_t draw = static_cast<uint64_t>(step) * spec.accumulate + m;
    key_[0] = static_cast<int32_t>(static_cast<uint32_t>(spec.seed));
    key_[1] = static_cast<int32_t>(static_cast<uint32_t>(spec.seed >> 32));
    key_[2] = static_cast<int32_t>(static_cast<uint32_t>(draw));
    key_[3] = 0;
  }

  // Means over the batches of a step, weighted with the sums of their weights.
  struct Means {
    double loss = 0;
    double correct = 0;
    double weight = 0;
    const T* state = nullptr;  // after the last batch
  };

  // Leaves the mean gradient in the trainer's.
  Means RunBatches(int64_t step, RunContext& context) {
    const TrainerSpec& spec = trainer_.spec();
    const std::vector<TensorType>& types = spec.executable->outputTypes();
    const size_t first = static_cast<size_t>(step - steps_.from) * spec.accumulate;
    Means means;
    means.state = trainer_.state();
    for (size_t m = 0; m < spec.accumulate; ++m) {
      const size_t at = (first + m) * spec.batch;
      const float* weights = steps_.weights.data() + at;
      const double weight = std::accumulate(weights, weights + spec.batch, 0.0);
      // The mean over no samples is not a number; one batch alone says so itself.
      if (weight == 0 && spec.accumulate > 1) continue;
      const bool isFirst = means.weight == 0;
      T* const gradient = isFirst ? trainer_.gradient() : trainer_.further();
      T* const next = trainer_.next(m);
      BindBatch(step, m, at, means.state, next, gradient);
      spec.executable->Run(inputs_.data(), outputs_.data(), context);
      means.weight += weight;
      const double share = isFirst ? 1 : weight / means.weight;
      means.loss += share * (ReadScalar(types[0], scalars_) - means.loss);
      means.correct += ReadScalar(types[1], scalars_ + 1);
      if (trainer_.state()) means.state = next;
      if (!isFirst) {
        MoveAverage(1 - share, gradient, trainer_.gradient(), spec.storage, context.threads());
      }
      if (!std::isfinite(means.loss)) break;
    }
    if (spec.accumulate > 1 && means.weight == 0) means.loss = std::nan("");
    return means;
  }

  void One(RunContext& context) {
    const TrainerSpec& spec = trainer_.spec();
    const int64_t step = steps_.from + result_.done;
    const int threads = context.threads();
    const typename Trainer<T>::Busy busy(trainer_);
    rate_ = steps_.learningRates[static_cast<size_t>(result_.done)];
    rateF32_ = static_cast<float>(rate_);
    const Means means = RunBatches(step, context);
    const double norm = GradientNorm(spec.segments, trainer_.gradient(), threads);
    if (!std::isfinite(means.loss) || !std::isfinite(norm) ||
        !AllFinite(means.state, spec.state.storage)) {
      trainer_.Halt(step);
      result_.diverged = true;
      return;
    }
    T* moments[2] = {nullptr, nullptr};
    for (int k = 0; k < spec.optimizer.Moments(); ++k) {
      moments[k] = reinterpret_cast<T*>(spec.moments[static_cast<size_t>(k)]->data());
    }
    OptimizerStep(spec.optimizer, spec.segments, step, rate_,
                  ClipScale(spec.optimizer.clipNorm, norm), trainer_.gradient(), trainer_.theta(),
                  moments, threads);
    std::copy_n(means.state, spec.state.storage, trainer_.state());
    if (spec.average.average) {
      const double t = static_cast<double>(step);
      const double decay = spec.average.warmup ? std::min(spec.average.decay, (1 + t) / (10 + t))
                                               : spec.average.decay;
      MoveAverage(decay, trainer_.theta(), trainer_.average(), spec.storage, threads);
    }
    result_.losses.push_back(means.loss);
    result_.correct.push_back(means.correct);
    result_.gradientNorms.push_back(norm);
    ++result_.done;
  }

  Trainer<T>& trainer_;
  const TrainSteps steps_;
  const int64_t count_;
  std::vector<double> wideWeights_;
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;
  double scalars_[kScalars] = {0, 0};  // loss, correct; of any scalar type
  double rate_ = 0;
  float rateF32_ = 0;
  int32_t key_[4] = {0, 0, 0, 0};
  TrainResult result_;
};

template <typename T>
std::unique_ptr<TrainRun> Trainer<T>::Begin(TrainSteps steps) {
  return std::make_unique<Run<T>>(*this, std::move(steps));
}

}  // namespace

std::unique_ptr<NativeTrainer> MakeTrainer(TrainerSpec spec) {
  switch (spec.dtype) {
    case DType::kF32:
      return std::make_unique<Trainer<float>>(std::move(spec));
    case DType::kF64:
      return std::make_unique<Trainer<double>>(std::move(spec));
    default:
      throw Error(Code::kDType, "Trainer: expected f32 or f64, got ", Name(spec.dtype), ".");
  }
}

}  // namespace losscape
