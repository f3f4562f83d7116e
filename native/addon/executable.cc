#include <limits>

#include "native/addon/arguments.h"
#include "native/addon/handles.h"
#include "native/addon/modules.h"

namespace losscape {

std::vector<Napi::ClassPropertyDescriptor<ExecutableHandle>> ExecutableHandle::Members() {
  return {InstanceAccessor<&ExecutableHandle::GetInputBytes>("inputBytes"),
          InstanceAccessor<&ExecutableHandle::GetOutputBytes>("outputBytes"),
          InstanceAccessor<&ExecutableHandle::GetArenaBytes>("arenaBytes"),
          InstanceAccessor<&ExecutableHandle::GetUnplannedBytes>("unplannedBytes"),
          InstanceMethod("describe", &ExecutableHandle::Describe),
          InstanceMethod("run", &ExecutableHandle::Run)};
}

namespace {

Napi::Value ByteSizes(Napi::Env env, const std::vector<TensorType>& types) {
  Napi::Array sizes = Napi::Array::New(env, types.size());
  for (uint32_t i = 0; i < types.size(); ++i) {
    sizes.Set(i, static_cast<double>(types[i].Bytes()));
  }
  return sizes;
}

Napi::Value ToJs(Napi::Env env, const std::vector<OperationProfile>& profile) {
  Napi::Array out = Napi::Array::New(env, profile.size());
  for (uint32_t i = 0; i < profile.size(); ++i) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", profile[i].name);
    entry.Set("milliseconds", profile[i].milliseconds);
    entry.Set("calls", static_cast<double>(profile[i].calls));
    out.Set(i, entry);
  }
  return out;
}

bool Flag(const Napi::Value& options, const char* name) {
  return options.IsObject() && options.As<Napi::Object>().Get(name).ToBoolean();
}

}  // namespace

Napi::Value ExecutableHandle::GetInputBytes(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&] { return ByteSizes(info.Env(), Get()->inputTypes()); });
}

Napi::Value ExecutableHandle::GetOutputBytes(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&] { return ByteSizes(info.Env(), Get()->outputTypes()); });
}

Napi::Value ExecutableHandle::GetArenaBytes(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(Get()->arenaBytes()));
  });
}

Napi::Value ExecutableHandle::GetUnplannedBytes(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(Get()->unplannedBytes()));
  });
}

Napi::Value ExecutableHandle::Describe(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::vector<std::string>& lines = Get()->Describe();
    Napi::Array out = Napi::Array::New(info.Env(), lines.size());
    for (uint32_t i = 0; i < lines.size(); ++i) out.Set(i, lines[i]);
    return out;
  });
}

Napi::Value ExecutableHandle::Run(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Executable> executable = Get();
    const std::vector<View> inputs = ToViews(info[0], "inputs");
    const std::vector<View> outputs = ToViews(info[1], "outputs");
    executable->CheckViews(inputs, outputs);
    const bool anomaly = Flag(info[2], "anomaly");
    std::shared_ptr<std::vector<OperationProfile>> profile;
    Environment::Call call = ToCall(info[2]);
    if (Flag(info[2], "profile")) {
      profile = std::make_shared<std::vector<OperationProfile>>();
      call.resolve = [profile](Napi::Env env) { return ToJs(env, *profile); };
    }
    return Environment::Of(info.Env())
        .Submit(std::move(call),
                [executable, inputs, outputs, anomaly, profile](RunContext& context, const auto&) {
                  RunOptions options;
                  options.anomaly = anomaly;
                  options.profile = profile.get();
                  executable->Run(inputs, outputs, context, options);
                });
  });
}

namespace {

Napi::Value Compile(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const Napi::Array list = ToArray(info[0], "names");
    std::vector<std::string> names;
    for (uint32_t i = 0; i < list.Length(); ++i) {
      names.push_back(ToString(list.Get(i), "names"));
    }
    const std::vector<double> words = ToDoubles(info[1], "words");
    CompileOptions options;
    options.threads = Environment::Of(info.Env()).executor().threads();
    if (info[2].IsObject()) {
      const Napi::Object given = info[2].As<Napi::Object>();
      if (given.Get("threads").IsNumber()) {
        const size_t threads = ToSize(given.Get("threads"), "threads");
        if (threads < 1 || threads > 1024) {
          throw Error(Code::kArgument, "Expected 1 to 1024 threads, got ", threads, ".");
        }
        options.threads = static_cast<int>(threads);
      }
      if (given.Get("donate").IsArray()) {
        const Napi::Array pairs = given.Get("donate").As<Napi::Array>();
        for (uint32_t i = 0; i < pairs.Length(); ++i) {
          const std::vector<size_t> pair = ToSizes(pairs.Get(i), "donate");
          constexpr size_t kMost = std::numeric_limits<int>::max();
          if (pair.size() != 2 || pair[0] > kMost || pair[1] > kMost) {
            throw Error(Code::kArgument, "donate: expected pairs of an input and an output.");
          }
          options.donate.emplace_back(static_cast<int>(pair[0]), static_cast<int>(pair[1]));
        }
      }
    }
    Program program = DecodeProgram(names, words.data(), words.size());
    return ExecutableHandle::Make(info.Env(), Executable::Compile(std::move(program), options));
  });
}

}  // namespace

void InitExecutable(Napi::Env env, Napi::Object exports) {
  ExecutableHandle::Register(env);
  exports.Set("compile", Napi::Function::New(env, Compile, "compile"));
}

}  // namespace losscape
