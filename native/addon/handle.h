// JavaScript handles of native objects: the class, its constructor per environment, disposal.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "native/addon/environment.h"
#include "native/addon/errors.h"
#include "native/runtime/buffer.h"

namespace losscape {

// FNV-1a.
constexpr uint64_t TagOf(const char* name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (; *name; ++name) hash = (hash ^ static_cast<unsigned char>(*name)) * 0x100000001b3;
  return hash;
}

// A handle shares its native object with the jobs in flight that use it; disposing drops the
// handle's share only. `Self` declares `static constexpr const char* kName` and `Define`.
template <typename Self, typename Native>
class Handle : public Napi::ObjectWrap<Self> {
 public:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {
    info.This().As<Napi::Object>().TypeTag(&kTag);
  }

  static void Register(Napi::Env env) {
    std::vector<Napi::ClassPropertyDescriptor<Self>> members = Self::Members();
    members.push_back(Self::InstanceMethod("dispose", &Self::Dispose));
    const Napi::Function constructor = Self::DefineClass(env, Self::kName, members);
    Environment::Of(env).constructors()[Self::kName] = Napi::Persistent(constructor);
  }

  static Napi::Object Make(Napi::Env env, std::shared_ptr<Native> native) {
    Napi::Object object = Environment::Of(env).constructors()[Self::kName].Value().New({});
    Self* const handle = Self::Unwrap(object);
    handle->native_ = std::move(native);
    if constexpr (std::is_same_v<Native, Buffer>) handle->Charge(env, handle->native_->bytes());
    return object;
  }

  // Throws Error{ERR_ARGUMENT} for anything that is not such a handle, ERR_DISPOSED for a dead one.
  static std::shared_ptr<Native> From(const Napi::Value& value) {
    if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag)) {
      return Self::Unwrap(value.As<Napi::Object>())->Get();
    }
    throw Error(Code::kArgument, "Expected a ", Self::kName, " handle.");
  }

  std::shared_ptr<Native> Get() const {
    if (!native_) throw Error(Code::kDisposed, "This ", Self::kName, " has been disposed.");
    return native_;
  }

  Napi::Value Dispose(const Napi::CallbackInfo& info) {
    native_.reset();
    Charge(info.Env(), 0);
    return info.Env().Undefined();
  }

  void Finalize(Napi::Env env) override { Charge(env, 0); }

 private:
  // What the collector thinks the handle holds: without it many megabytes look like a small object,
  // and handles that nobody disposed are found late.
  void Charge(Napi::Env env, size_t bytes) {
    const int64_t change = static_cast<int64_t>(bytes) - charged_;
    if (change != 0) Napi::MemoryManagement::AdjustExternalMemory(env, change);
    charged_ = static_cast<int64_t>(bytes);
  }

  // Prototypes can be changed from JavaScript, tags cannot. The second half tells the class.
  inline static const napi_type_tag kTag = {0x6c6f737363617065, TagOf(Self::kName)};

  std::shared_ptr<Native> native_;
  int64_t charged_ = 0;
};

}  // namespace losscape
