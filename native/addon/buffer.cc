#include <cstring>

#include "native/addon/arguments.h"
#include "native/addon/handles.h"
#include "native/addon/modules.h"

namespace losscape {

std::vector<Napi::ClassPropertyDescriptor<TokenHandle>> TokenHandle::Members() {
  return {InstanceMethod("cancel", &TokenHandle::Cancel)};
}

Napi::Value TokenHandle::Cancel(const Napi::CallbackInfo& info) {
  Guard(info.Env(), [&] { Get()->Cancel(); });
  return info.Env().Undefined();
}

std::vector<Napi::ClassPropertyDescriptor<BufferHandle>> BufferHandle::Members() {
  return {InstanceAccessor<&BufferHandle::GetBytes>("bytes"),
          InstanceMethod("write", &BufferHandle::Write),
          InstanceMethod("read", &BufferHandle::Read),
          InstanceMethod("clear", &BufferHandle::Clear)};
}

Napi::Value BufferHandle::GetBytes(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(Get()->bytes()));
  });
}

namespace {

void CheckRange(const Buffer& buffer, size_t offset, size_t length) {
  if (offset > buffer.bytes() || length > buffer.bytes() - offset) {
    throw Error(Code::kShape, "Bytes ", offset, " to ", offset + length,
                " do not lie in a buffer of ", buffer.bytes(), " bytes.");
  }
}

}  // namespace

Napi::Value BufferHandle::Write(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Buffer> buffer = Get();
    const size_t offset = ToSize(info[0], "byteOffset");
    const Bytes source = ToBytes(info[1], "source");
    CheckRange(*buffer, offset, source.length);
    auto copy = std::make_shared<std::vector<uint8_t>>(source.data, source.data + source.length);
    return Environment::Of(info.Env())
        .Submit(ToCall(info[2]), [buffer, offset, copy](RunContext&, const auto&) {
          if (!copy->empty()) std::memcpy(buffer->data() + offset, copy->data(), copy->size());
        });
  });
}

Napi::Value BufferHandle::Read(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Buffer> buffer = Get();
    const size_t offset = ToSize(info[0], "byteOffset");
    const size_t length = ToBytes(info[1], "target").length;
    CheckRange(*buffer, offset, length);
    auto copy = std::make_shared<std::vector<uint8_t>>();
    Environment::Call call = ToCall(info[2]);
    auto target =
        std::make_shared<Napi::ObjectReference>(Napi::Persistent(info[1].As<Napi::Object>()));
    call.resolve = [copy, target](Napi::Env env) -> Napi::Value {
      const Bytes out = ToBytes(target->Value(), "target");
      ExpectLength(out, copy->size());
      if (out.length > 0) std::memcpy(out.data, copy->data(), out.length);
      return env.Undefined();
    };
    return Environment::Of(info.Env())
        .Submit(std::move(call), [buffer, offset, length, copy](RunContext&, const auto&) {
          copy->assign(buffer->data() + offset, buffer->data() + offset + length);
        });
  });
}

Napi::Value BufferHandle::Clear(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<Buffer> buffer = Get();
    return Environment::Of(info.Env()).Submit(ToCall(info[0]), [buffer](RunContext&, const auto&) {
      std::memset(buffer->data(), 0, buffer->bytes());
    });
  });
}

namespace {

Napi::Value CreateToken(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    return TokenHandle::Make(info.Env(), std::make_shared<Token>());
  });
}

// setErrorClass(constructor): what the addon's errors are instances of from now on.
Napi::Value SetErrorClass(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsFunction()) throw Error(Code::kArgument, "Expected a class of errors.");
    Environment::Of(info.Env()).constructors()[kErrorClass] =
        Napi::Persistent(info[0].As<Napi::Function>());
    return info.Env().Undefined();
  });
}

Napi::Value CreateBuffer(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    return BufferHandle::Make(info.Env(), std::make_shared<Buffer>(ToSize(info[0], "bytes")));
  });
}

Napi::Value SetThreads(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t threads = ToSize(info[0], "threads");
    if (threads < 1 || threads > 1024) {
      throw Error(Code::kArgument, "Expected 1 to 1024 threads, got ", threads, ".");
    }
    Environment::Of(info.Env()).executor().SetThreads(static_cast<int>(threads));
    return info.Env().Undefined();
  });
}

Napi::Value ToJs(Napi::Env env, const MemoryReport& report) {
  Napi::Object live = Napi::Object::New(env);
  for (const auto& [kind, use] : report.live) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("count", static_cast<double>(use.count));
    entry.Set("bytes", static_cast<double>(use.bytes));
    live.Set(kind, entry);
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("live", live);
  out.Set("bytes", static_cast<double>(report.bytes));
  out.Set("peakBytes", static_cast<double>(report.peakBytes));
  return out;
}

Napi::Value Memory(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&] { return ToJs(info.Env(), ReportMemory()); });
}

Napi::Value SetLimit(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    SetMemoryLimit(ToSize(info[0], "bytes"));
    return info.Env().Undefined();
  });
}

Napi::Value Shutdown(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    Environment::Of(info.Env()).Stop();
    return info.Env().Undefined();
  });
}

}  // namespace

void InitBuffer(Napi::Env env, Napi::Object exports) {
  Environment::Open(env);
  TokenHandle::Register(env);
  BufferHandle::Register(env);
  exports.Set("setErrorClass", Napi::Function::New(env, SetErrorClass, "setErrorClass"));
  exports.Set("createToken", Napi::Function::New(env, CreateToken, "createToken"));
  exports.Set("createBuffer", Napi::Function::New(env, CreateBuffer, "createBuffer"));
  exports.Set("shutdown", Napi::Function::New(env, Shutdown, "shutdown"));
  exports.Set("setThreads", Napi::Function::New(env, SetThreads, "setThreads"));
  exports.Set("memory", Napi::Function::New(env, Memory, "memory"));
  exports.Set("setMemoryLimit", Napi::Function::New(env, SetLimit, "setMemoryLimit"));
}

}  // namespace losscape
