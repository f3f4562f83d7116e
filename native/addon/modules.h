// What the addon exports: one Init function per file of native/addon, listed in addon.cc.
#pragma once

#include <napi.h>

namespace losscape {

void InitBuffer(Napi::Env env, Napi::Object exports);  // first: opens the environment
void InitExecutable(Napi::Env env, Napi::Object exports);
void InitInfo(Napi::Env env, Napi::Object exports);
void InitLanczos(Napi::Env env, Napi::Object exports);
void InitOperator(Napi::Env env, Napi::Object exports);
void InitTrainer(Napi::Env env, Napi::Object exports);
void InitVectors(Napi::Env env, Napi::Object exports);
void InitWrappedOperator(Napi::Env env, Napi::Object exports);

}  // namespace losscape
