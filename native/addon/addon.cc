#include <napi.h>

#include "native/addon/errors.h"
#include "native/addon/modules.h"
#include "native/runtime/blas.h"
#include "native/runtime/simd.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  losscape::Guard(env, [&] {
    losscape::GetSimd();  // before anything can run a kernel
    losscape::ChooseBlasCore();
    for (auto init : {losscape::InitBuffer, losscape::InitInfo, losscape::InitExecutable,
                      losscape::InitOperator, losscape::InitLanczos, losscape::InitTrainer,
                      losscape::InitVectors, losscape::InitWrappedOperator}) {
      init(env, exports);
    }
  });
  return exports;
}

}  // namespace

NODE_API_MODULE(losscape, Init)
