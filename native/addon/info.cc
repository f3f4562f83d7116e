#include <napi.h>

#include <string>

#include "native/addon/errors.h"
#include "native/addon/modules.h"
#include "native/cpu/onednn.h"
#include "native/runtime/blas.h"
#include "native/runtime/simd.h"
#include "native/runtime/threads.h"

#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

namespace losscape {
namespace {

std::string LibcVersion() {
#ifdef __GLIBC__
  return std::string("glibc ") + gnu_get_libc_version();
#else
  return "musl";
#endif
}

// info(): NativeInfo of lib/native.ts.
Napi::Value Info(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  return Guard(env, [&]() -> Napi::Value {
    const Simd& simd = GetSimd();
    Napi::Array targets = Napi::Array::New(env, simd.targets.size());
    for (uint32_t i = 0; i < simd.targets.size(); ++i) targets.Set(i, simd.targets[i]);
    Napi::Object info = Napi::Object::New(env);
    info.Set("version", LOSSCAPE_VERSION);
    info.Set("simd", simd.target);
    info.Set("simdTargets", targets);
    info.Set("threads", DefaultThreads());
    info.Set("onednn", OneDnnVersion());
    info.Set("libc", LibcVersion());
    return info;
  });
}

// blasInfo(): opens OpenBLAS and tells its build and the kernels it chose.
Napi::Value BlasInfo(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  return Guard(env, [&]() -> Napi::Value {
    const Blas& blas = OpenBlas();
    Napi::Object info = Napi::Object::New(env);
    info.Set("version", std::string(blas.version()));
    info.Set("core", std::string(blas.core()));
    return info;
  });
}

}  // namespace

void InitInfo(Napi::Env env, Napi::Object exports) {
  exports.Set("info", Napi::Function::New(env, Info, "info"));
  exports.Set("blasInfo", Napi::Function::New(env, BlasInfo, "blasInfo"));
}

}  // namespace losscape
