// JavaScript handles of native objects: the class, its constructor per environment, disposal.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <utility>

#include "native/addon/environment.h"
#include "native/addon/errors.h"

namespace losscape {

// A handle shares its native object with the jobs in flight that use it; disposing drops the
// handle's share only. `Self` declares `static constexpr const char* kName` and `Define`.
template <typename Self, typename Native>
class Handle : public Napi::ObjectWrap<Self> {
 public:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {}

  static void Register(Napi::Env env) {
    std::vector<Napi::ClassPropertyDescriptor<Self>> members = Self::Members();
    members.push_back(Self::InstanceMethod("dispose", &Self::Dispose));
    const Napi::Function constructor = Self::DefineClass(env, Self::kName, members);
    Environment::Of(env).constructors()[Self::kName] = Napi::Persistent(constructor);
  }

  static Napi::Object Make(Napi::Env env, std::shared_ptr<Native> native) {
    Napi::Object object = Environment::Of(env).constructors()[Self::kName].Value().New({});
    Self::Unwrap(object)->native_ = std::move(native);
    return object;
  }

  // Throws Error{ERR_ARGUMENT} for anything that is not such a handle, ERR_DISPOSED for a dead one.
  static std::shared_ptr<Native> From(const Napi::Value& value) {
    if (value.IsObject()) {
      const Napi::Object object = value.As<Napi::Object>();
      const Napi::Function constructor =
          Environment::Of(value.Env()).constructors()[Self::kName].Value();
      if (object.InstanceOf(constructor)) return Self::Unwrap(object)->Get();
    }
    throw Error(Code::kArgument, "Expected a ", Self::kName, " handle.");
  }

  std::shared_ptr<Native> Get() const {
    if (!native_) throw Error(Code::kDisposed, "This ", Self::kName, " has been disposed.");
    return native_;
  }

  Napi::Value Dispose(const Napi::CallbackInfo& info) {
    native_.reset();
    return info.Env().Undefined();
  }

 private:
  std::shared_ptr<Native> native_;
};

}  // namespace losscape
