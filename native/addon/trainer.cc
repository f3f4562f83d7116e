#include "native/addon/arguments.h"
#include "native/addon/handles.h"
#include "native/addon/modules.h"

namespace losscape {

std::vector<Napi::ClassPropertyDescriptor<TrainerHandle>> TrainerHandle::Members() {
  return {InstanceMethod("run", &TrainerHandle::Run)};
}

namespace {

// Steps of microseconds share a queue job; nothing else waits longer than this for its turn.
constexpr double kSliceSeconds = 0.002;

TrainSteps ToSteps(const Napi::Value& value) {
  const Napi::Object given = ToObject(value, "steps");
  TrainSteps steps;
  steps.from = static_cast<int64_t>(ToSize(given.Get("from"), "from"));
  steps.to = static_cast<int64_t>(ToSize(given.Get("to"), "to"));
  const Bytes rows = ToBytes(given.Get("rows"), "rows", napi_int32_array);
  const Bytes weights = ToBytes(given.Get("weights"), "weights", napi_float32_array);
  const auto* row = reinterpret_cast<const int32_t*>(rows.data);
  const auto* weight = reinterpret_cast<const float*>(weights.data);
  steps.rows.assign(row, row + rows.length / sizeof(int32_t));
  steps.weights.assign(weight, weight + weights.length / sizeof(float));
  steps.learningRates = ToDoubles(given.Get("learningRates"), "learningRates");
  return steps;
}

Napi::Value ToJs(Napi::Env env, const TrainResult& result) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("losses", losscape::ToJs(env, result.losses));
  out.Set("correct", losscape::ToJs(env, result.correct));
  out.Set("gradientNorms", losscape::ToJs(env, result.gradientNorms));
  out.Set("done", static_cast<double>(result.done));
  out.Set("diverged", result.diverged);
  return out;
}

bool IsAborted(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return e.code() == Code::kAborted;
  } catch (...) {
    return false;
  }
}

}  // namespace

Napi::Value TrainerHandle::Run(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<NativeTrainer> trainer = Get();
    TrainSteps steps = ToSteps(info[0]);
    const int64_t from = steps.from;
    const std::shared_ptr<TrainRun> run = trainer->Begin(std::move(steps));
    Environment::Call call = ToCall(info[1], "onStep");
    call.resolve = [run](Napi::Env env) { return ToJs(env, run->result()); };
    // The last finished step stands; an abort is not an error of what was done.
    call.settle = [](std::exception_ptr error) {
      return error && IsAborted(error) ? nullptr : error;
    };
    return Environment::Of(info.Env())
        .SubmitSteps(std::move(call), [trainer, run, from](RunContext& context,
                                                           const Environment::Reporter& report) {
          if (run->Finished()) return false;
          run->Step(context, kSliceSeconds);
          const TrainResult& result = run->result();
          if (report && result.done > 0) {
            const double step = static_cast<double>(from + result.done);
            const double loss = result.losses[static_cast<size_t>(result.done) - 1];
            report([step, loss](Napi::Env env, const Napi::Function& callback) {
              callback.Call({Napi::Number::New(env, step), Napi::Number::New(env, loss)});
            });
          }
          return !run->Finished();
        });
  });
}

namespace {

OptimizerKind ToKind(const std::string& name) {
  if (name == "sgd") return OptimizerKind::kSgd;
  if (name == "adam") return OptimizerKind::kAdam;
  if (name == "adamw") return OptimizerKind::kAdamW;
  throw Error(Code::kArgument, "optimizer: expected sgd, adam or adamw, got ", name, ".");
}

OptimizerSpec ToOptimizer(const Napi::Object& given) {
  OptimizerSpec spec;
  spec.kind = ToKind(ToString(given.Get("kind"), "kind"));
  spec.momentum = ToNumber(given.Get("momentum"), "momentum");
  spec.dampening = ToNumber(given.Get("dampening"), "dampening");
  spec.nesterov = given.Get("nesterov").ToBoolean();
  spec.beta1 = ToNumber(given.Get("beta1"), "beta1");
  spec.beta2 = ToNumber(given.Get("beta2"), "beta2");
  spec.epsilon = ToNumber(given.Get("epsilon"), "epsilon");
  spec.clipNorm = ToNumber(given.Get("clipNorm"), "clipNorm");
  return spec;
}

OptimizerSegments ToOptimizerSegments(const Napi::Value& value) {
  OptimizerSegments segments;
  static_cast<Segments&>(segments) = ToSegments(value);
  const Napi::Object given = value.As<Napi::Object>();
  segments.learningRateFactor = ToDoubles(given.Get("learningRateFactor"), "learningRateFactor");
  segments.decay = ToDoubles(given.Get("decay"), "decay");
  for (const double flag : ToDoubles(given.Get("frozen"), "frozen")) {
    segments.frozen.push_back(flag != 0);
  }
  return segments;
}

TrainerInput ToInput(const Napi::Object& object) {
  const std::string kind = ToString(object.Get("kind"), "inputs.kind");
  const size_t index = ToSize(object.Get("index"), "inputs.index");
  if (kind == "theta") return {TrainerInput::Kind::kTheta, index};
  if (kind == "state") return {TrainerInput::Kind::kState, index};
  if (kind == "fixed") return {TrainerInput::Kind::kFixed, index};
  if (kind == "rows") return {TrainerInput::Kind::kRows, index};
  if (kind == "weights") return {TrainerInput::Kind::kWeights, index};
  if (kind == "key") return {TrainerInput::Kind::kKey, index};
  if (kind == "rate") return {TrainerInput::Kind::kRate, index};
  throw Error(Code::kArgument, "Unknown kind of trainer input: ", kind, ".");
}

Napi::Value CreateTrainer(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const Napi::Object given = ToObject(info[0], "spec");
    TrainerSpec spec;
    spec.dtype = ToFloatDType(given.Get("dtype"));
    spec.storage = ToStorage(given.Get("storage"));
    spec.segments = ToOptimizerSegments(given.Get("segments"));
    spec.optimizer = ToOptimizer(ToObject(given.Get("optimizer"), "optimizer"));
    spec.theta = BufferHandle::From(given.Get("theta"));
    const Napi::Array moments = ToArray(given.Get("moments"), "moments");
    for (uint32_t i = 0; i < moments.Length(); ++i) {
      spec.moments.push_back(BufferHandle::From(moments.Get(i)));
    }
    const Napi::Value average = given.Get("average");
    if (!average.IsUndefined()) {
      const Napi::Object object = ToObject(average, "average");
      spec.average.average = BufferHandle::From(object.Get("buffer"));
      spec.average.decay = ToNumber(object.Get("decay"), "average.decay");
      spec.average.warmup = object.Get("warmup").ToBoolean();
    }
    const Napi::Value state = given.Get("state");
    if (!state.IsUndefined()) {
      const Napi::Object object = ToObject(state, "state");
      spec.state.buffer = BufferHandle::From(object.Get("buffer"));
      spec.state.storage = ToStorage(object.Get("storage"));
      spec.state.offsets = ToSizes(object.Get("offsets"), "state.offsets");
    }
    spec.executable = ExecutableHandle::From(given.Get("executable"));
    const Napi::Array inputs = ToArray(given.Get("inputs"), "inputs");
    for (uint32_t i = 0; i < inputs.Length(); ++i) {
      spec.inputs.push_back(ToInput(ToObject(inputs.Get(i), "inputs")));
    }
    spec.fixed = ToViews(given.Get("fixed"), "fixed");
    spec.batch = ToSize(given.Get("batch"), "batch");
    const Napi::Value accumulate = given.Get("accumulate");
    if (!accumulate.IsUndefined()) spec.accumulate = ToSize(accumulate, "accumulate");
    spec.seed = ToSize(given.Get("seed"), "seed");
    spec.gradientOffsets = ToSizes(given.Get("gradientOffsets"), "gradientOffsets");
    return TrainerHandle::Make(info.Env(), MakeTrainer(std::move(spec)));
  });
}

}  // namespace

void InitTrainer(Napi::Env env, Napi::Object exports) {
  TrainerHandle::Register(env);
  exports.Set("createTrainer", Napi::Function::New(env, CreateTrainer, "createTrainer"));
}

}  // namespace losscape
