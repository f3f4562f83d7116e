#include "native/runtime/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>

#include "native/cpu/average.h"
#include "native/runtime/error.h"
#include "native/runtime/memory.h"

namespace losscape {
namespace {

constexpr const char* kKind = "trainer";
constexpr size_t kGradients = 2;  // index of the first gradient among the outputs

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
    CheckState();
    CheckInputs();
    CheckOutputs();
  }

  const TrainerSpec& spec() const override { return spec_; }
  size_t Bytes() const override { return gradient_.bytes(); }
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
  T* theta() { return reinterpret_cast<T*>(spec_.theta->data()); }
  T* average() { return reinterpret_cast<T*>(spec_.average.average->data()); }

  // Whether a run from `step` on comes after a step that diverged.
  bool HaltedBefore(int64_t step) const { return halted_ >= 0 && step > halted_; }
  void Halt(int64_t step) { halted_ = step; }
  void Resume() { halted_ = -1; }

 private:
  void CheckState() const {
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
    if (spec_.batch == 0) throw Error(Code::kArgument, "Trainer: expected a batch of at least 1.");
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
        Expect(type.dtype == spec_.dtype && input.index <= spec_.storage &&
                   elements <= spec_.storage - input.index,
               name + " to be a part of theta", type);
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

  void CheckOutputs() const {
    const std::vector<TensorType>& types = spec_.executable->outputTypes();
    if (types.size() != kGradients + spec_.gradientOffsets.size()) {
      throw Error(Code::kShape, "Trainer: expected outputs for the loss, the correct samples and ",
                  spec_.gradientOffsets.size(), " gradients, got ", types.size(), ".");
    }
    for (size_t k = 0; k < kGradients; ++k) {
      const DType dtype = types[k].dtype;
      Expect(types[k].Elements() == 1 &&
                 (dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kI32),
             "output " + std::to_string(k) + " to be one f32, f64 or i32", types[k]);
    }
    for (size_t k = kGradients; k < types.size(); ++k) {
      const size_t offset = spec_.gradientOffsets[k - kGradients];
      Expect(types[k].dtype == spec_.dtype && offset <= spec_.storage &&
                 static_cast<size_t>(types[k].Elements()) <= spec_.storage - offset,
             "output " + std::to_string(k) + " to be a part of the gradient", types[k]);
    }
  }

  TrainerSpec spec_;
  Allocation gradient_;  // [storage]; what no output writes stays zero
  bool busy_ = false;
  int64_t halted_ = -1;  // the step that diverged; -1: none
};

template <typename T>
class Run final : public TrainRun {
 public:
  Run(Trainer<T>& trainer, TrainSteps steps)
      : trainer_(trainer), steps_(std::move(steps)), count_(steps_.to - steps_.from) {
    const size_t count = static_cast<size_t>(count_);
    const size_t samples = count * trainer.spec().batch;
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
      if (input.kind == TrainerInput::Kind::kTheta) inputs_[k] = trainer_.theta() + input.index;
      if (input.kind == TrainerInput::Kind::kFixed) inputs_[k] = spec.fixed[input.index].data();
      if (input.kind == TrainerInput::Kind::kKey) inputs_[k] = key_;
      if (input.kind == TrainerInput::Kind::kWeights && types[k].dtype == DType::kF64 &&
          wideWeights_.empty()) {
        wideWeights_.assign(steps_.weights.begin(), steps_.weights.end());
      }
    }
    outputs_ = {scalars_, scalars_ + 1};
    for (size_t offset : spec.gradientOffsets) outputs_.push_back(trainer_.gradient() + offset);
  }

  void BindStep(int64_t step) {
    const TrainerSpec& spec = trainer_.spec();
    const std::vector<TensorType>& types = spec.executable->inputTypes();
    const size_t at = static_cast<size_t>(step - steps_.from) * spec.batch;
    for (size_t k = 0; k < inputs_.size(); ++k) {
      if (spec.inputs[k].kind == TrainerInput::Kind::kRows) inputs_[k] = steps_.rows.data() + at;
      if (spec.inputs[k].kind == TrainerInput::Kind::kWeights) {
        inputs_[k] = types[k].dtype == DType::kF64
                         ? static_cast<const void*>(wideWeights_.data() + at)
                         : static_cast<const void*>(steps_.weights.data() + at);
      }
    }
    key_[0] = static_cast<int32_t>(static_cast<uint32_t>(spec.seed));
    key_[1] = static_cast<int32_t>(static_cast<uint32_t>(spec.seed >> 32));
    key_[2] = static_cast<int32_t>(static_cast<uint32_t>(step));
    key_[3] = 0;
  }

  void One(RunContext& context) {
    const TrainerSpec& spec = trainer_.spec();
    const int64_t step = steps_.from + result_.done;
    const int threads = context.threads();
    const typename Trainer<T>::Busy busy(trainer_);
    BindStep(step);
    spec.executable->Run(inputs_.data(), outputs_.data(), context);

    const std::vector<TensorType>& types = spec.executable->outputTypes();
    const double loss = ReadScalar(types[0], scalars_);
    const double norm = GradientNorm(spec.segments, trainer_.gradient(), threads);
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      trainer_.Halt(step);
      result_.diverged = true;
      return;
    }
    T* moments[2] = {nullptr, nullptr};
    for (int k = 0; k < spec.optimizer.Moments(); ++k) {
      moments[k] = reinterpret_cast<T*>(spec.moments[static_cast<size_t>(k)]->data());
    }
    OptimizerStep(spec.optimizer, spec.segments, step,
                  steps_.learningRates[static_cast<size_t>(result_.done)],
                  ClipScale(spec.optimizer.clipNorm, norm), trainer_.gradient(), trainer_.theta(),
                  moments, threads);
    if (spec.average.average) {
      const double t = static_cast<double>(step);
      const double decay = spec.average.warmup ? std::min(spec.average.decay, (1 + t) / (10 + t))
                                               : spec.average.decay;
      MoveAverage(decay, trainer_.theta(), trainer_.average(), spec.storage, threads);
    }
    result_.losses.push_back(loss);
    result_.correct.push_back(ReadScalar(types[1], scalars_ + 1));
    result_.gradientNorms.push_back(norm);
    ++result_.done;
  }

  Trainer<T>& trainer_;
  const TrainSteps steps_;
  const int64_t count_;
  std::vector<double> wideWeights_;
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;
  double scalars_[2] = {0, 0};  // loss, correct; of any scalar type
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
