#include "native/addon/arguments.h"
#include "native/addon/handles.h"
#include "native/addon/modules.h"

namespace losscape {

std::vector<Napi::ClassPropertyDescriptor<OperatorHandle>> OperatorHandle::Members() {
  return {InstanceMethod("apply", &OperatorHandle::Apply),
          InstanceMethod("addLinear", &OperatorHandle::AddLinear),
          InstanceMethod("invalidate", &OperatorHandle::Invalidate),
          InstanceAccessor<&OperatorHandle::GetKeptBytes>("keptBytes")};
}

Napi::Value OperatorHandle::Apply(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<NativeOperator> op = Get();
    const size_t count = ToSize(info[2], "count");
    if (count < 1 || count > 1 << 20) {
      throw Error(Code::kArgument, "Expected 1 to ", 1 << 20, " vectors, got ", count, ".");
    }
    const size_t bytes = count * op->storage() * ByteSize(op->dtype());
    const View in = ToView(info[0], "input", bytes, ByteSize(op->dtype()));
    const View out = ToView(info[1], "output", bytes, ByteSize(op->dtype()));
    if (in.buffer == out.buffer && in.offset < out.offset + bytes &&
        out.offset < in.offset + bytes) {
      throw Error(Code::kArgument, "The result of a product must not overlap its operand.");
    }
    return Environment::Of(info.Env())
        .Submit(ToCall(info[3], "onProgress"),
                [op, in, out, count](RunContext& context, const Environment::Reporter& report) {
                  OperatorProgress progress;
                  if (report) {
                    progress = [&report](size_t done, size_t total) {
                      report([done, total](Napi::Env env, const Napi::Function& callback) {
                        callback.Call({Napi::Number::New(env, static_cast<double>(done)),
                                       Napi::Number::New(env, static_cast<double>(total))});
                      });
                    };
                  }
                  op->Apply(in.data(), out.data(), static_cast<int>(count), context, progress);
                });
  });
}

Napi::Value OperatorHandle::AddLinear(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t tangents = ToSize(info[0], "tangents");
    if (tangents > 1 << 20)
      throw Error(Code::kArgument, "Expected at most ", 1 << 20, " tangents.");
    Get()->AddLinear({static_cast<int>(tangents), ExecutableHandle::From(info[1])});
    return info.Env().Undefined();
  });
}

Napi::Value OperatorHandle::Invalidate(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<NativeOperator> op = Get();
    return Environment::Of(info.Env()).Submit(ToCall(info[0]), [op](RunContext&, const auto&) {
      op->Invalidate();
    });
  });
}

Napi::Value OperatorHandle::GetKeptBytes(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(Get()->KeptBytes()));
  });
}

namespace {

std::vector<std::vector<View>> ToChunks(const Napi::Value& value, const char* what) {
  const Napi::Array array = ToArray(value, what);
  std::vector<std::vector<View>> chunks;
  for (uint32_t i = 0; i < array.Length(); ++i) chunks.push_back(ToViews(array.Get(i), what));
  return chunks;
}

LinearInput ToLinearInput(const Napi::Object& object) {
  const std::string kind = ToString(object.Get("kind"), "linearInputs.kind");
  const size_t index = ToSize(object.Get("index"), "linearInputs.index");
  if (kind == "kept") return {LinearInput::Kind::kKept, index};
  if (kind == "chunk") return {LinearInput::Kind::kChunk, index};
  if (kind == "tangent") return {LinearInput::Kind::kTangent, index};
  throw Error(Code::kArgument, "Unknown kind of linear input: ", kind, ".");
}

Napi::Value CreateOperator(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const Napi::Object given = ToObject(info[0], "spec");
    OperatorSpec spec;
    spec.dtype = ToFloatDType(given.Get("dtype"));
    spec.storage = ToStorage(given.Get("storage"));
    spec.segments = ToSegments(given.Get("segments"));
    spec.scale = ToNumber(given.Get("scale"), "scale");
    const Napi::Value primal = given.Get("primal");
    if (!primal.IsUndefined()) spec.primal = ExecutableHandle::From(primal);
    spec.primalInputs = ToChunks(given.Get("primalInputs"), "primalInputs");
    const Napi::Array linear = ToArray(given.Get("linear"), "linear");
    for (uint32_t i = 0; i < linear.Length(); ++i) {
      const Napi::Object entry = ToObject(linear.Get(i), "linear");
      spec.linear.push_back({static_cast<int>(ToSize(entry.Get("tangents"), "tangents")),
                             ExecutableHandle::From(entry.Get("executable"))});
    }
    const Napi::Array inputs = ToArray(given.Get("linearInputs"), "linearInputs");
    for (uint32_t i = 0; i < inputs.Length(); ++i) {
      spec.linearInputs.push_back(ToLinearInput(ToObject(inputs.Get(i), "linearInputs")));
    }
    spec.chunkInputs = ToChunks(given.Get("chunkInputs"), "chunkInputs");
    spec.linearOutputs = ToSizes(given.Get("linearOutputs"), "linearOutputs");
    spec.keepBytes = ToSize(given.Get("keepBytes"), "keepBytes");
    spec.sideBySide = given.Get("sideBySide").ToBoolean();
    return OperatorHandle::Make(info.Env(), MakeProgramOperator(std::move(spec)));
  });
}

Napi::Value CreateDenseOperator(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const Bytes bytes = ToBytes(info[0], "matrix", napi_float64_array);
    const size_t size = ToSize(info[1], "size");
    if (size < 1 || size > 1 << 20 || bytes.length != size * size * sizeof(double)) {
      throw Error(Code::kShape, "Expected a Float64Array of ", size, " x ", size, " elements.");
    }
    return OperatorHandle::Make(info.Env(),
                                MakeDenseOperator(reinterpret_cast<const double*>(bytes.data), size,
                                                  ToFloatDType(info[2])));
  });
}

}  // namespace

void InitOperator(Napi::Env env, Napi::Object exports) {
  OperatorHandle::Register(env);
  exports.Set("createOperator", Napi::Function::New(env, CreateOperator, "createOperator"));
  exports.Set("createDenseOperator",
              Napi::Function::New(env, CreateDenseOperator, "createDenseOperator"));
}

}  // namespace losscape
