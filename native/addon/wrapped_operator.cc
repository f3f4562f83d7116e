// createWrappedOperator: see WrapperSpec in lib/native.ts.
#include "native/runtime/wrapped_operator.h"

#include "native/addon/arguments.h"
#include "native/addon/handles.h"
#include "native/addon/modules.h"

namespace losscape {
namespace {

std::unique_ptr<NativeOperator> MakeSum(const Napi::Object& spec) {
  std::vector<OperatorTerm> terms;
  const Napi::Array operators = ToArray(spec.Get("terms"), "terms");
  for (uint32_t i = 0; i < operators.Length(); ++i) {
    const Napi::Object term = ToObject(operators.Get(i), "terms");
    terms.push_back(
        {OperatorHandle::From(term.Get("operator")), ToNumber(term.Get("factor"), "factor")});
  }
  std::vector<RankOneTerm> rankOne;
  const Napi::Array vectors = ToArray(spec.Get("rankOne"), "rankOne");
  for (uint32_t i = 0; i < vectors.Length(); ++i) {
    const Napi::Object term = ToObject(vectors.Get(i), "rankOne");
    rankOne.push_back(
        {ToDoubles(term.Get("vector"), "vector"), ToNumber(term.Get("factor"), "factor")});
  }
  return MakeSumOperator(std::move(terms), ToNumber(spec.Get("identity"), "identity"), rankOne);
}

std::unique_ptr<NativeOperator> MakeInverse(const Napi::Object& spec) {
  InverseOptions options;
  options.damping = ToNumber(spec.Get("damping"), "damping");
  options.tol = ToNumber(spec.Get("tol"), "tol");
  options.maxIterations = ToSize(spec.Get("maxIterations"), "maxIterations");
  options.allowUnconverged = spec.Get("allowUnconverged").ToBoolean();
  const Napi::Value preconditioner = spec.Get("preconditioner");
  if (!preconditioner.IsUndefined()) {
    options.preconditioner = ToDoubles(preconditioner, "preconditioner");
  }
  return MakeInverseOperator(OperatorHandle::From(spec.Get("operator")), std::move(options));
}

std::unique_ptr<NativeOperator> Make(const Napi::Object& spec) {
  const std::string kind = ToString(spec.Get("kind"), "kind");
  if (kind == "sum") return MakeSum(spec);
  if (kind == "square") return MakeSquareOperator(OperatorHandle::From(spec.Get("operator")));
  if (kind == "congruence") {
    return MakeCongruenceOperator(OperatorHandle::From(spec.Get("operator")),
                                  ToDoubles(spec.Get("diagonal"), "diagonal"));
  }
  if (kind == "inverse") return MakeInverse(spec);
  throw Error(Code::kArgument, "Expected sum, square, congruence or inverse, got ", kind, ".");
}

Napi::Value CreateWrappedOperator(const Napi::CallbackInfo& info) {
  return Guard(info.Env(), [&]() -> Napi::Value {
    return OperatorHandle::Make(info.Env(), Make(ToObject(info[0], "spec")));
  });
}

}  // namespace

void InitWrappedOperator(Napi::Env env, Napi::Object exports) {
  exports.Set("createWrappedOperator",
              Napi::Function::New(env, CreateWrappedOperator, "createWrappedOperator"));
}

}  // namespace losscape
