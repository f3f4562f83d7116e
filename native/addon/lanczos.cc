#include <cstring>

#include "native/addon/arguments.h"
#include "native/addon/handles.h"
#include "native/addon/modules.h"

namespace losscape {

void SharedLanczos::Publish() {
  std::lock_guard<std::mutex> lock(mutex_);
  snapshot_ = lanczos->state();
}

LanczosState SharedLanczos::Snapshot() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return snapshot_;
}

std::vector<Napi::ClassPropertyDescriptor<LanczosHandle>> LanczosHandle::Members() {
  return {InstanceMethod("start", &LanczosHandle::Start),
          InstanceMethod("run", &LanczosHandle::Run),
          InstanceMethod("current", &LanczosHandle::Current),
          InstanceMethod("feed", &LanczosHandle::Feed),
          InstanceMethod("state", &LanczosHandle::State),
          InstanceMethod("readBasis", &LanczosHandle::ReadBasis),
          InstanceMethod("writeBasis", &LanczosHandle::WriteBasis),
          InstanceMethod("restore", &LanczosHandle::Restore),
          InstanceMethod("restart", &LanczosHandle::Restart),
          InstanceMethod("combine", &LanczosHandle::Combine),
          InstanceMethod("gram", &LanczosHandle::Gram),
          InstanceMethod("orthogonality", &LanczosHandle::Orthogonality),
          InstanceAccessor<&LanczosHandle::GetBasisBytes>("basisBytes")};
}

namespace {

// A Ritz vector in the estimate: at, index, value, overlap, previous.
constexpr size_t kRitzFields = 5;

Napi::Value ToJs(Napi::Env env, const OverlapEstimate& estimate) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("current", losscape::ToJs(env, estimate.current));
  out.Set("previous", losscape::ToJs(env, estimate.previous));
  out.Set("noise", estimate.noise);
  out.Set("pending", estimate.pending);
  std::vector<double> ritz;
  for (const ConvergedRitz& r : estimate.ritz) {
    ritz.insert(ritz.end(), {static_cast<double>(r.at), static_cast<double>(r.index), r.value,
                             r.overlap, r.previous});
  }
  out.Set("ritz", losscape::ToJs(env, ritz));
  return out;
}

OverlapEstimate ToEstimate(const Napi::Object& given) {
  OverlapEstimate estimate;
  estimate.current = ToDoubles(given.Get("current"), "estimate.current");
  estimate.previous = ToDoubles(given.Get("previous"), "estimate.previous");
  estimate.noise = ToNumber(given.Get("noise"), "estimate.noise");
  estimate.pending = given.Get("pending").ToBoolean();
  const std::vector<double> ritz = ToDoubles(given.Get("ritz"), "estimate.ritz");
  for (size_t k = 0; k + kRitzFields <= ritz.size(); k += kRitzFields) {
    estimate.ritz.push_back({static_cast<int64_t>(ritz[k]), static_cast<int64_t>(ritz[k + 1]),
                             ritz[k + 2], ritz[k + 3], ritz[k + 4]});
  }
  return estimate;
}

Napi::Value ToJs(Napi::Env env, const LanczosState& state) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("steps", static_cast<double>(state.steps));
  out.Set("kept", static_cast<double>(state.kept));
  out.Set("products", static_cast<double>(state.products));
  out.Set("restarts", static_cast<double>(state.restarts));
  out.Set("breakdowns", static_cast<double>(state.breakdowns));
  out.Set("reorthogonalizations", static_cast<double>(state.reorthogonalizations));
  out.Set("alpha", losscape::ToJs(env, state.alpha));
  out.Set("beta", losscape::ToJs(env, state.beta));
  out.Set("asymmetry", state.asymmetry);
  out.Set("noise", state.noise);
  out.Set("invariantSubspaceAt", static_cast<double>(state.invariantSubspaceAt));
  out.Set("exhausted", state.exhausted);
  out.Set("estimate", ToJs(env, state.estimate));
  return out;
}

size_t ElementBytes(const SharedLanczos& shared) { return ByteSize(shared.lanczos->spec().dtype); }

size_t RowBytes(const SharedLanczos& shared) {
  return shared.lanczos->spec().storage * ElementBytes(shared);
}

// Copies a typed array that must hold one vector in storage.
std::shared_ptr<std::vector<uint8_t>> CopyRow(const SharedLanczos& shared, const Napi::Value& value,
                                              const char* what) {
  const Bytes bytes = ToBytes(value, what);
  if (bytes.length != RowBytes(shared)) {
    throw Error(Code::kShape, what, ": expected ", RowBytes(shared), " bytes, got ", bytes.length,
                ".");
  }
  return std::make_shared<std::vector<uint8_t>>(bytes.data, bytes.data + bytes.length);
}

}  // namespace

Napi::Value LanczosHandle::Start(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    const View vector = ToView(info[0], "vector", RowBytes(*shared), ElementBytes(*shared));
    return Environment::Of(info.Env())
        .Submit(ToCall(info[1]), [shared, vector](RunContext& context, const auto&) {
          shared->lanczos->Start(vector.data(), context);
          shared->Publish();
        });
  });
}

Napi::Value LanczosHandle::Run(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    const std::shared_ptr<NativeOperator> op = OperatorHandle::From(info[0]);
    auto left = std::make_shared<size_t>(ToSize(info[1], "steps"));
    const LanczosSpec& spec = shared->lanczos->spec();
    if (op->storage() != spec.storage || op->dtype() != spec.dtype) {
      throw Error(Code::kShape, "The operator's vectors have ", op->storage(), " elements of ",
                  Name(op->dtype()), ", Lanczos has ", spec.storage, " of ", Name(spec.dtype), ".");
    }
    Environment::Call call = ToCall(info[2], "onStep");
    call.resolve = [shared](Napi::Env env) { return ToJs(env, shared->Snapshot()); };
    return Environment::Of(info.Env())
        .SubmitSteps(std::move(call),
                     [shared, op, left](RunContext& context, const Environment::Reporter& report) {
                       if (*left == 0 || shared->lanczos->Finished()) return false;
                       shared->lanczos->Step(*op, context);
                       shared->Publish();
                       if (report) {
                         report([shared](Napi::Env env, const Napi::Function& callback) {
                           callback.Call({ToJs(env, shared->Snapshot())});
                         });
                       }
                       return --*left > 0 && !shared->lanczos->Finished();
                     });
  });
}

Napi::Value LanczosHandle::ReadRow(const Napi::CallbackInfo& info, bool current) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    const size_t row = current ? 0 : ToSize(info[0], "row");
    const Napi::Value target = info[current ? 0 : 1];
    const size_t bytes = RowBytes(*shared);
    if (ToBytes(target, "target").length != bytes) {
      throw Error(Code::kShape, "Expected a target of ", bytes, " bytes.");
    }
    Environment::Call call = ToCall(info[current ? 1 : 2]);
    auto kept =
        std::make_shared<Napi::ObjectReference>(Napi::Persistent(target.As<Napi::Object>()));
    auto copy = std::make_shared<std::vector<uint8_t>>(bytes);
    call.resolve = [kept, copy](Napi::Env env) -> Napi::Value {
      const Bytes out = ToBytes(kept->Value(), "target");
      ExpectLength(out, copy->size());
      std::memcpy(out.data, copy->data(), out.length);
      return env.Undefined();
    };
    return Environment::Of(info.Env())
        .Submit(std::move(call), [shared, row, current, copy](RunContext&, const auto&) {
          if (current) {
            std::memcpy(copy->data(), shared->lanczos->Current(), copy->size());
          } else {
            shared->lanczos->ReadBasis(row, copy->data());
          }
        });
  });
}

Napi::Value LanczosHandle::Current(const Napi::CallbackInfo& info) { return ReadRow(info, true); }

Napi::Value LanczosHandle::ReadBasis(const Napi::CallbackInfo& info) {
  return ReadRow(info, false);
}

Napi::Value LanczosHandle::Feed(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    const auto product = CopyRow(*shared, info[0], "product");
    Environment::Call call = ToCall(info[1]);
    call.resolve = [shared](Napi::Env env) { return ToJs(env, shared->Snapshot()); };
    return Environment::Of(info.Env())
        .Submit(std::move(call), [shared, product](RunContext& context, const auto&) {
          shared->lanczos->Feed(product->data(), context);
          shared->Publish();
        });
  });
}

Napi::Value LanczosHandle::State(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&] { return ToJs(info.Env(), Get()->Snapshot()); });
}

Napi::Value LanczosHandle::WriteBasis(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    const size_t row = ToSize(info[0], "row");
    const auto source = CopyRow(*shared, info[1], "source");
    return Environment::Of(info.Env())
        .Submit(ToCall(info[2]), [shared, row, source](RunContext&, const auto&) {
          shared->lanczos->WriteBasis(row, source->data());
        });
  });
}

Napi::Value LanczosHandle::Restore(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    const Napi::Object given = ToObject(info[0], "state");
    LanczosState state;
    const auto count = [&given](const char* name) {
      return static_cast<int64_t>(ToSize(given.Get(name), name));
    };
    state.steps = count("steps");
    state.kept = count("kept");
    state.products = count("products");
    state.restarts = count("restarts");
    state.breakdowns = count("breakdowns");
    state.reorthogonalizations = count("reorthogonalizations");
    state.estimate = ToEstimate(ToObject(given.Get("estimate"), "estimate"));
    state.alpha = ToDoubles(given.Get("alpha"), "alpha");
    state.beta = ToDoubles(given.Get("beta"), "beta");
    state.asymmetry = ToNumber(given.Get("asymmetry"), "asymmetry");
    state.noise = ToNumber(given.Get("noise"), "noise");
    const Napi::Value invariant = given.Get("invariantSubspaceAt");
    if (ToNumber(invariant, "invariantSubspaceAt") >= 0) {
      state.invariantSubspaceAt = count("invariantSubspaceAt");
    }
    state.exhausted = given.Get("exhausted").ToBoolean();
    return Environment::Of(info.Env())
        .Submit(ToCall(info[1]), [shared, state](RunContext&, const auto&) {
          shared->lanczos->Restore(state);
          shared->Publish();
        });
  });
}

Napi::Value LanczosHandle::Restart(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    const std::vector<double> coefficients = ToDoubles(info[0], "coefficients");
    const std::vector<double> values = ToDoubles(info[1], "values");
    const size_t steps = static_cast<size_t>(shared->Snapshot().steps);
    if (coefficients.size() != values.size() * steps) {
      throw Error(Code::kShape, "Expected ", values.size(), " x ", steps, " coefficients, got ",
                  coefficients.size(), ".");
    }
    Environment::Call call = ToCall(info[2]);
    call.resolve = [shared](Napi::Env env) { return ToJs(env, shared->Snapshot()); };
    return Environment::Of(info.Env())
        .Submit(std::move(call), [shared, coefficients, values, steps](RunContext& context,
                                                                       const auto&) {
          if (static_cast<size_t>(shared->lanczos->state().steps) != steps) {
            throw Error(Code::kArgument, "Lanczos went on since restart was called.");
          }
          shared->lanczos->Restart(coefficients.data(), values.data(), values.size(), context);
          shared->Publish();
        });
  });
}

Napi::Value LanczosHandle::Combine(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    const std::vector<double> coefficients = ToDoubles(info[0], "coefficients");
    const size_t count = ToSize(info[1], "count");
    const size_t steps = static_cast<size_t>(shared->Snapshot().steps);
    if (count < 1 || count > 1 << 20 || coefficients.size() != count * steps) {
      throw Error(Code::kShape, "Expected ", count, " x ", steps, " coefficients, got ",
                  coefficients.size(), ".");
    }
    const View out = ToView(info[2], "output", count * RowBytes(*shared), ElementBytes(*shared));
    return Environment::Of(info.Env())
        .Submit(ToCall(info[3]),
                [shared, coefficients, count, steps, out](RunContext& context, const auto&) {
                  if (static_cast<size_t>(shared->lanczos->state().steps) != steps) {
                    throw Error(Code::kArgument, "Lanczos went on since combine was called.");
                  }
                  shared->lanczos->Combine(coefficients.data(), count, out.data(), context);
                });
  });
}

Napi::Value LanczosHandle::Gram(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    auto result = std::make_shared<std::vector<double>>();
    Environment::Call call = ToCall(info[0]);
    call.resolve = [result](Napi::Env env) { return losscape::ToJs(env, *result); };
    return Environment::Of(info.Env())
        .Submit(std::move(call), [shared, result](RunContext& context, const auto&) {
          *result = shared->lanczos->Gram(context);
        });
  });
}

Napi::Value LanczosHandle::Orthogonality(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<SharedLanczos> shared = Get();
    auto result = std::make_shared<double>(0);
    Environment::Call call = ToCall(info[0]);
    call.resolve = [result](Napi::Env env) { return Napi::Number::New(env, *result); };
    return Environment::Of(info.Env())
        .Submit(std::move(call), [shared, result](RunContext& context, const auto&) {
          *result = shared->lanczos->Orthogonality(context);
        });
  });
}

Napi::Value LanczosHandle::GetBasisBytes(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(Get()->lanczos->BasisBytes()));
  });
}

namespace {

Reorthogonalize ToReorthogonalize(const std::string& name) {
  if (name == "cgs2") return Reorthogonalize::kCgs2;
  if (name == "cgs1") return Reorthogonalize::kCgs1;
  if (name == "partial") return Reorthogonalize::kPartial;
  if (name == "selective") return Reorthogonalize::kSelective;
  if (name == "none") return Reorthogonalize::kNone;
  throw Error(Code::kArgument,
              "reorthogonalize: expected cgs2, cgs1, partial, selective or none, got ", name, ".");
}

OnBreakdown ToOnBreakdown(const std::string& name) {
  if (name == "stop") return OnBreakdown::kStop;
  if (name == "restart") return OnBreakdown::kRestart;
  throw Error(Code::kArgument, "onBreakdown: expected stop or restart, got ", name, ".");
}

Napi::Value CreateLanczos(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const Napi::Object given = ToObject(info[0], "spec");
    LanczosSpec spec;
    spec.dtype = ToFloatDType(given.Get("dtype"));
    spec.storage = ToStorage(given.Get("storage"));
    spec.segments = ToSegments(given.Get("segments"));
    spec.maxSteps = ToSize(given.Get("maxSteps"), "maxSteps");
    spec.reorthogonalize =
        ToReorthogonalize(ToString(given.Get("reorthogonalize"), "reorthogonalize"));
    spec.breakdown = ToNumber(given.Get("breakdown"), "breakdown");
    spec.onBreakdown = ToOnBreakdown(ToString(given.Get("onBreakdown"), "onBreakdown"));
    spec.seed = ToSize(given.Get("seed"), "seed");
    spec.stream = ToSize(given.Get("stream"), "stream");
    auto shared = std::make_shared<SharedLanczos>();
    shared->lanczos = MakeLanczos(std::move(spec));
    return LanczosHandle::Make(info.Env(), std::move(shared));
  });
}

}  // namespace

void InitLanczos(Napi::Env env, Napi::Object exports) {
  LanczosHandle::Register(env);
  exports.Set("createLanczos", Napi::Function::New(env, CreateLanczos, "createLanczos"));
}

}  // namespace losscape
