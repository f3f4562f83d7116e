// What the addon exports: one Init function per file of native/addon, listed in addon.cc.
#pragma once

#include <napi.h>

namespace losscape {

void InitInfo(Napi::Env env, Napi::Object exports);

}  // namespace losscape
