#include "native/addon/arguments.h"

#include <cmath>

#include "native/addon/handles.h"

namespace losscape {

namespace {

// Every integer up to here is a double of its own.
constexpr double kMaxInteger = 9007199254740992.0;

}  // namespace

size_t ToSize(const Napi::Value& value, const char* what) {
  const double number = ToNumber(value, what);
  if (!(number >= 0 && number <= kMaxInteger && std::floor(number) == number)) {
    throw Error(Code::kArgument, what, ": expected a non-negative integer, got ", number, ".");
  }
  return static_cast<size_t>(number);
}

size_t ToStorage(const Napi::Value& value) {
  const size_t storage = ToSize(value, "storage");
  if (storage > size_t{1} << 40) {
    throw Error(Code::kArgument, "storage: expected at most 2^40 elements, got ", storage, ".");
  }
  return storage;
}

double ToNumber(const Napi::Value& value, const char* what) {
  if (!value.IsNumber()) throw Error(Code::kArgument, what, ": expected a number.");
  return value.As<Napi::Number>().DoubleValue();
}

std::string ToString(const Napi::Value& value, const char* what) {
  if (!value.IsString()) throw Error(Code::kArgument, what, ": expected a string.");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Object ToObject(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) throw Error(Code::kArgument, what, ": expected an object.");
  return value.As<Napi::Object>();
}

Napi::Array ToArray(const Napi::Value& value, const char* what) {
  if (!value.IsArray()) throw Error(Code::kArgument, what, ": expected an array.");
  return value.As<Napi::Array>();
}

DType ToFloatDType(const Napi::Value& value) {
  const std::string name = ToString(value, "dtype");
  if (name == "f32") return DType::kF32;
  if (name == "f64") return DType::kF64;
  throw Error(Code::kDType, "Expected dtype f32 or f64, got ", name, ".");
}

namespace {

template <typename Element>
void Widen(const Bytes& bytes, std::vector<double>* out) {
  const auto* data = reinterpret_cast<const Element*>(bytes.data);
  const size_t count = bytes.length / sizeof(Element);
  out->assign(data, data + count);
}

}  // namespace

Bytes ToBytes(const Napi::Value& value, const char* what) {
  if (!value.IsTypedArray()) throw Error(Code::kArgument, what, ": expected a typed array.");
  // Not through its ArrayBuffer, which may be a SharedArrayBuffer.
  void* data = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, nullptr, nullptr, &data, nullptr, nullptr) !=
      napi_ok) {
    throw Error(Code::kArgument, what, ": the typed array cannot be read.");
  }
  return {static_cast<uint8_t*>(data), data ? value.As<Napi::TypedArray>().ByteLength() : 0};
}

Bytes ToBytes(const Napi::Value& value, const char* what, napi_typedarray_type type) {
  const Bytes bytes = ToBytes(value, what);
  if (value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw Error(Code::kDType, what, ": expected a typed array of another element type.");
  }
  return bytes;
}

void ExpectLength(const Bytes& target, size_t length) {
  if (target.length == length) return;
  throw Error(Code::kArgument, "target: expected an array of ", length,
              " bytes until the call settles, but it has ", target.length,
              " now: it was transferred or resized.");
}

std::vector<double> ToDoubles(const Napi::Value& value, const char* what) {
  const Bytes bytes = ToBytes(value, what);
  std::vector<double> out;
  switch (value.As<Napi::TypedArray>().TypedArrayType()) {
    case napi_float64_array:
      Widen<double>(bytes, &out);
      break;
    case napi_float32_array:
      Widen<float>(bytes, &out);
      break;
    case napi_int32_array:
      Widen<int32_t>(bytes, &out);
      break;
    case napi_uint8_array:
      Widen<uint8_t>(bytes, &out);
      break;
    default:
      throw Error(Code::kArgument, what, ": expected an array of numbers.");
  }
  return out;
}

std::vector<size_t> ToSizes(const Napi::Value& value, const char* what) {
  std::vector<size_t> out;
  if (value.IsArray()) {
    const auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(ToSize(array.Get(i), what));
    return out;
  }
  for (const double number : ToDoubles(value, what)) {
    if (!(number >= 0 && number <= kMaxInteger && std::floor(number) == number)) {
      throw Error(Code::kArgument, what, ": expected non-negative integers, got ", number, ".");
    }
    out.push_back(static_cast<size_t>(number));
  }
  return out;
}

Segments ToSegments(const Napi::Value& value) {
  const Napi::Object object = ToObject(value, "segments");
  Segments segments;
  segments.offsets = ToSizes(object.Get("offsets"), "segments.offsets");
  segments.lengths = ToSizes(object.Get("lengths"), "segments.lengths");
  if (segments.offsets.size() != segments.lengths.size()) {
    throw Error(Code::kShape, "segments: ", segments.offsets.size(), " offsets but ",
                segments.lengths.size(), " lengths.");
  }
  return segments;
}

View ToView(const Napi::Value& value, const char* what, size_t bytes, size_t align) {
  const Napi::Object object = ToObject(value, what);
  const View view{BufferHandle::From(object.Get("buffer")), ToSize(object.Get("offset"), what)};
  if (view.offset > view.buffer->bytes() || view.bytes() < bytes) {
    throw Error(Code::kShape, what, ": expected ", bytes, " bytes at offset ", view.offset,
                ", the buffer has ", view.buffer->bytes(), ".");
  }
  if (view.offset % align != 0) {
    throw Error(Code::kArgument, what, ": expected an offset of a multiple of ", align,
                " bytes, got ", view.offset, ".");
  }
  return view;
}

std::vector<View> ToViews(const Napi::Value& value, const char* what) {
  const Napi::Array array = ToArray(value, what);
  std::vector<View> views;
  for (uint32_t i = 0; i < array.Length(); ++i) views.push_back(ToView(array.Get(i), what));
  return views;
}

Environment::Call ToCall(const Napi::Value& options, const char* progress) {
  Environment::Call call;
  if (options.IsUndefined()) return call;
  const Napi::Object object = ToObject(options, "options");
  const Napi::Value token = object.Get("token");
  if (!token.IsUndefined()) call.options.token = TokenHandle::From(token);
  const Napi::Value priority = object.Get("priority");
  if (!priority.IsUndefined()) call.options.priority = ToSize(priority, "priority") > 0 ? 1 : 0;
  if (progress) {
    const Napi::Value callback = object.Get(progress);
    if (callback.IsFunction()) call.onProgress = Napi::Persistent(callback.As<Napi::Function>());
  }
  return call;
}

Napi::Float64Array ToJs(Napi::Env env, const std::vector<double>& values) {
  Napi::Float64Array array = Napi::Float64Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

}  // namespace losscape
