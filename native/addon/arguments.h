// Reading of arguments, with the checks that memory safety needs; everything else is checked in
// TypeScript.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "native/addon/environment.h"
#include "native/cpu/vector.h"
#include "native/runtime/buffer.h"
#include "native/runtime/error.h"
#include "native/runtime/types.h"

namespace losscape {

// A non-negative integer up to 2^53.
size_t ToSize(const Napi::Value& value, const char* what);
// Elements of a vector in device storage: small enough that bytes of many cannot overflow.
size_t ToStorage(const Napi::Value& value);
double ToNumber(const Napi::Value& value, const char* what);
std::string ToString(const Napi::Value& value, const char* what);
Napi::Object ToObject(const Napi::Value& value, const char* what);
Napi::Array ToArray(const Napi::Value& value, const char* what);
DType ToFloatDType(const Napi::Value& value);

// The numbers of a typed array.
std::vector<double> ToDoubles(const Napi::Value& value, const char* what);
std::vector<size_t> ToSizes(const Napi::Value& value, const char* what);
Segments ToSegments(const Napi::Value& value);

struct Bytes {
  uint8_t* data;
  size_t length;
};
// The memory of a typed array, valid until control returns to JavaScript.
Bytes ToBytes(const Napi::Value& value, const char* what);

// The same of a typed array with this type of elements.
Bytes ToBytes(const Napi::Value& value, const char* what, napi_typedarray_type type);
// Throws Error{ERR_ARGUMENT} when a target of `length` bytes was detached or resized meanwhile.
void ExpectLength(const Bytes& target, size_t length);

// { buffer, offset } with at least `bytes` behind it, at a multiple of `align` bytes.
View ToView(const Napi::Value& value, const char* what, size_t bytes = 0, size_t align = 1);
std::vector<View> ToViews(const Napi::Value& value, const char* what);

// { token, priority, ... } and the callback called `progress` when present.
Environment::Call ToCall(const Napi::Value& options, const char* progress = nullptr);

// Typed arrays owned by JavaScript.
Napi::Float64Array ToJs(Napi::Env env, const std::vector<double>& values);

}  // namespace losscape
