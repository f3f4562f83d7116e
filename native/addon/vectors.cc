// Functions on device vectors and dense matrices, and the machine's rates.
#include <cmath>

#include "native/addon/arguments.h"
#include "native/addon/errors.h"
#include "native/addon/modules.h"
#include "native/cpu/combine.h"
#include "native/cpu/gram.h"
#include "native/cpu/hypot.h"
#include "native/cpu/machine_rates.h"
#include "native/cpu/multiply.h"
#include "native/runtime/blas.h"
#include "native/runtime/lanczos.h"
#include "native/runtime/probe.h"

namespace losscape {
namespace {

// dsyevd's workspace is 1 + 6 n + 2 n^2 numbers, counted in 32 bits.
constexpr size_t kMaxEigenSize = 32766;

int ToThreads(const Napi::Value& value) {
  const size_t threads = ToSize(value, "threads");
  if (threads < 1 || threads > 1024) {
    throw Error(Code::kArgument, "Expected 1 to 1024 threads, got ", threads, ".");
  }
  return static_cast<int>(threads);
}

ProbeKind ToProbeKind(const std::string& name) {
  if (name == "rademacher") return ProbeKind::kRademacher;
  if (name == "normal") return ProbeKind::kNormal;
  if (name == "uniform") return ProbeKind::kUniform;
  throw Error(Code::kArgument, "Expected rademacher, normal or uniform, got ", name, ".");
}

// Runs `compute` as a job and resolves with its number.
template <typename Compute>
Napi::Value SubmitNumber(Napi::Env env, Environment::Call call, Compute compute) {
  auto result = std::make_shared<double>(0);
  call.resolve = [result](Napi::Env inner) { return Napi::Number::New(inner, *result); };
  return Environment::Of(env).Submit(
      std::move(call), [result, compute = std::move(compute)](RunContext& context, const auto&) {
        *result = compute(context);
      });
}

Napi::Value FillProbeJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const DType dtype = ToFloatDType(info[1]);
    const Segments segments = ToSegments(info[2]);
    const ProbeKind kind = ToProbeKind(ToString(info[3], "kind"));
    const uint64_t seed = ToSize(info[4], "seed");
    const uint64_t stream = ToSize(info[5], "stream");
    const View target = ToView(info[0], "target", 0, ByteSize(dtype));
    const size_t end =
        segments.offsets.empty() ? 0 : segments.offsets.back() + segments.lengths.back();
    // Storage ends on a 256-byte boundary behind the last segment.
    const size_t storage = (end + 63) / 64 * 64;
    if (target.bytes() < storage * ByteSize(dtype)) {
      throw Error(Code::kShape, "The probe needs ", storage * ByteSize(dtype), " bytes, there are ",
                  target.bytes(), ".");
    }
    segments.Check(storage);
    return Environment::Of(info.Env())
        .Submit(ToCall(info[6]), [=](RunContext& context, const auto&) {
          if (dtype == DType::kF64) {
            FillProbe(kind, seed, stream, segments, target.data<double>(), storage,
                      context.threads());
          } else {
            FillProbe(kind, seed, stream, segments, target.data<float>(), storage,
                      context.threads());
          }
        });
  });
}

Napi::Value DotJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t elements = ToSize(info[2], "elements");
    const DType dtype = ToFloatDType(info[3]);
    const View a = ToView(info[0], "a", elements * ByteSize(dtype), ByteSize(dtype));
    const View b = ToView(info[1], "b", elements * ByteSize(dtype), ByteSize(dtype));
    return SubmitNumber(info.Env(), ToCall(info[4]), [=](RunContext& context) {
      return dtype == DType::kF64
                 ? Dot(a.data<double>(), b.data<double>(), elements, context.threads())
                 : Dot(a.data<float>(), b.data<float>(), elements, context.threads());
    });
  });
}

size_t ToRows(const Napi::Value& value, const char* what) {
  const size_t rows = ToSize(value, what);
  if (rows > 1 << 20) throw Error(Code::kArgument, "Expected at most ", 1 << 20, " rows.");
  return rows;
}

// `rows` vectors one after another.
View ToBlock(const Napi::Value& value, const char* what, size_t rows, size_t storage, DType dtype) {
  return ToView(value, what, rows * storage * ByteSize(dtype), ByteSize(dtype));
}

Napi::Value GramJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t rows = ToRows(info[1], "countA");
    const size_t others = ToRows(info[3], "countB");
    const size_t storage = ToStorage(info[4]);
    const DType dtype = ToFloatDType(info[5]);
    const View a = ToBlock(info[0], "a", rows, storage, dtype);
    const View b = ToBlock(info[2], "b", others, storage, dtype);
    auto sums = std::make_shared<std::vector<double>>(rows * others);
    Environment::Call call = ToCall(info[6]);
    call.resolve = [sums](Napi::Env env) { return ToJs(env, *sums); };
    return Environment::Of(info.Env())
        .Submit(std::move(call), [=](RunContext& context, const auto&) {
          if (dtype == DType::kF64) {
            GramRows(a.data<double>(), rows, b.data<double>(), others, storage, sums->data(),
                     context.threads());
          } else {
            GramRows(a.data<float>(), rows, b.data<float>(), others, storage, sums->data(),
                     context.threads());
          }
        });
  });
}

template <typename T>
void CombineBlock(const std::vector<double>& coefficients, const View& x, size_t from,
                  const View& y, size_t to, size_t storage, bool add, int threads) {
  std::vector<const T*> rows(from);
  for (size_t j = 0; j < from; ++j) rows[j] = x.data<T>() + j * storage;
  CombineRows(rows.data(), from, coefficients.data(), to, y.data<T>(), storage, storage, threads,
              add);
}

Napi::Value CombineVectorsJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const std::vector<double> coefficients = ToDoubles(info[0], "coefficients");
    const size_t from = ToRows(info[2], "from");
    const size_t to = ToRows(info[4], "to");
    const size_t storage = ToStorage(info[5]);
    const DType dtype = ToFloatDType(info[6]);
    const bool add = info[7].ToBoolean();
    if (coefficients.size() != to * from) {
      throw Error(Code::kShape, "Expected ", to, " x ", from, " coefficients, got ",
                  coefficients.size(), ".");
    }
    const View x = ToBlock(info[1], "x", from, storage, dtype);
    const View y = ToBlock(info[3], "y", to, storage, dtype);
    const size_t bytes = storage * ByteSize(dtype);
    if (from > 0 && x.buffer == y.buffer && x.offset < y.offset + to * bytes &&
        y.offset < x.offset + from * bytes) {
      throw Error(Code::kArgument, "Combinations must not overlap the vectors they are made of.");
    }
    return Environment::Of(info.Env())
        .Submit(ToCall(info[8]), [=](RunContext& context, const auto&) {
          if (dtype == DType::kF64) {
            CombineBlock<double>(coefficients, x, from, y, to, storage, add, context.threads());
          } else {
            CombineBlock<float>(coefficients, x, from, y, to, storage, add, context.threads());
          }
        });
  });
}

Napi::Value MultiplyVectorsJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t elements = ToStorage(info[3]);
    const DType dtype = ToFloatDType(info[4]);
    const bool add = info[5].ToBoolean();
    const View a = ToBlock(info[0], "a", 1, elements, dtype);
    const View b = ToBlock(info[1], "b", 1, elements, dtype);
    const View y = ToBlock(info[2], "y", 1, elements, dtype);
    return Environment::Of(info.Env())
        .Submit(ToCall(info[6]), [=](RunContext& context, const auto&) {
          if (dtype == DType::kF64) {
            Multiply(a.data<double>(), b.data<double>(), y.data<double>(), elements, add,
                     context.threads());
          } else {
            Multiply(a.data<float>(), b.data<float>(), y.data<float>(), elements, add,
                     context.threads());
          }
        });
  });
}

Napi::Value HypotVectorsJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t rows = ToRows(info[1], "count");
    const size_t storage = ToStorage(info[3]);
    const DType dtype = ToFloatDType(info[4]);
    const View x = ToBlock(info[0], "x", rows, storage, dtype);
    const View y = ToBlock(info[2], "y", 1, storage, dtype);
    return Environment::Of(info.Env())
        .Submit(ToCall(info[5]), [=](RunContext& context, const auto&) {
          if (dtype == DType::kF64) {
            HypotRows(x.data<double>(), rows, storage, y.data<double>(), storage,
                      context.threads());
          } else {
            HypotRows(x.data<float>(), rows, storage, y.data<float>(), storage, context.threads());
          }
        });
  });
}

Napi::Value SymmetricEigen(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t n = ToSize(info[1], "n");
    auto matrix = std::make_shared<std::vector<double>>(ToDoubles(info[0], "matrix"));
    if (n < 1 || n > kMaxEigenSize || matrix->size() != n * n) {
      throw Error(Code::kShape, "Expected a matrix of ", n, " x ", n, " elements, got ",
                  matrix->size(), ".");
    }
    const bool vectors = info[2].ToBoolean();
    auto values = std::make_shared<std::vector<double>>(n);
    Environment::Call call = ToCall(info[3]);
    call.resolve = [matrix, values, vectors](Napi::Env env) -> Napi::Value {
      Napi::Object out = Napi::Object::New(env);
      out.Set("values", ToJs(env, *values));
      if (vectors) out.Set("vectors", ToJs(env, *matrix));
      return out;
    };
    return Environment::Of(info.Env())
        .Submit(std::move(call), [matrix, values, vectors, n](RunContext& context, const auto&) {
          for (const double x : *matrix) {
            if (!std::isfinite(x)) {
              throw Error(Code::kNotFinite, "Expected a finite matrix of ", n, " x ", n,
                          " elements, got one with ", x, ".");
            }
          }
          const Blas& blas = OpenBlas();
          blas.set_threads(context.threads());
          CheckBlas(blas.dsyevd(static_cast<int64_t>(n), vectors, matrix->data(), values->data()),
                    "dsyevd");
        });
  });
}

Napi::Value CopyBandwidthJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t bytes = ToSize(info[0], "bytes");
    const int threads = ToThreads(info[1]);
    return SubmitNumber(info.Env(), {}, [=](RunContext&) { return CopyBandwidth(bytes, threads); });
  });
}

Napi::Value GemmRateJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t n = ToSize(info[0], "n");
    if (n < 1 || n > 16384) throw Error(Code::kArgument, "Expected n from 1 to 16384.");
    const DType dtype = ToFloatDType(info[1]);
    const int threads = ToThreads(info[2]);
    return SubmitNumber(info.Env(), {},
                        [=](RunContext&) { return GemmRate(static_cast<int>(n), dtype, threads); });
  });
}

Napi::Value ReorthogonalizationJob(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    const size_t storage = ToStorage(info[0]);
    const size_t rows = ToSize(info[1], "rows");
    if (rows > 1 << 20) throw Error(Code::kArgument, "Expected at most ", 1 << 20, " rows.");
    const size_t repeats = ToSize(info[2], "repeats");
    const int threads = ToThreads(info[3]);
    auto seconds = std::make_shared<std::vector<double>>();
    Environment::Call call;
    call.resolve = [seconds](Napi::Env env) { return ToJs(env, *seconds); };
    return Environment::Of(info.Env()).Submit(std::move(call), [=](RunContext&, const auto&) {
      *seconds = ReorthogonalizationTime(storage, rows, repeats, threads);
    });
  });
}

}  // namespace

void InitVectors(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name));
  };
  add("fillProbe", FillProbeJob);
  add("dot", DotJob);
  add("gram", GramJob);
  add("combineVectors", CombineVectorsJob);
  add("multiplyVectors", MultiplyVectorsJob);
  add("hypotVectors", HypotVectorsJob);
  add("symmetricEigen", SymmetricEigen);
  add("copyBandwidth", CopyBandwidthJob);
  add("gemmRate", GemmRateJob);
  add("reorthogonalizationTime", ReorthogonalizationJob);
}

}  // namespace losscape
