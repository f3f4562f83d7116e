// From C++ exceptions to JavaScript errors with a code.
#pragma once

#include <napi.h>

#include <new>

#include "native/runtime/error.h"

namespace losscape {

// Where the environment's constructors keep the class that setErrorClass registered.
constexpr char kErrorClass[] = "Error";

// new ErrorClass(code, message) when a class was registered, else an Error with a `code`.
Napi::Error ToJsError(Napi::Env env, const char* code, const char* message);

// Runs `body` on the JavaScript thread; its exceptions become JavaScript errors with a code.
template <typename Body>
auto Guard(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const Error& error) {
    throw ToJsError(env, CodeName(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    throw ToJsError(env, CodeName(Code::kOutOfMemory), "The native library is out of memory.");
  } catch (const std::exception& error) {
    throw ToJsError(env, CodeName(Code::kNative), error.what());
  }
}

}  // namespace losscape
