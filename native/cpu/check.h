// Preconditions of the kernels' factories: the shapes of an operation have to fit one another
// before a kernel may trust them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "native/runtime/error.h"
#include "native/runtime/kernel.h"

namespace losscape {

inline std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

inline void ExpectOperands(const OpSpec& op, size_t minInputs, size_t maxInputs, size_t outputs) {
  const size_t inputs = op.inTypes.size();
  if (inputs < minInputs || inputs > maxInputs || op.outTypes.size() != outputs) {
    throw Error(Code::kProgram, op.name, ": expected ", minInputs, " to ", maxInputs,
                " inputs and ", outputs, " outputs, got ", inputs, " and ", op.outTypes.size(),
                ".");
  }
}

inline void ExpectShape(const OpSpec& op, const char* what, const TensorType& type,
                        const std::vector<int64_t>& shape) {
  if (type.shape != shape) {
    throw Error(Code::kShape, op.name, ": expected shape ", ShapeText(shape), " for ", what,
                ", got ", ShapeText(type.shape), ".");
  }
}

inline void ExpectDType(const OpSpec& op, const char* what, const TensorType& type, DType dtype) {
  if (type.dtype != dtype) {
    throw Error(Code::kDType, op.name, ": expected ", Name(dtype), " for ", what, ", got ",
                Name(type.dtype), ".");
  }
}

[[noreturn]] inline void ThrowDType(const OpSpec& op, const TensorType& type) {
  throw Error(Code::kDType, op.name, ": no CPU kernel for ", Name(type.dtype),
              "; cast the operand to f32 or f64.");
}

// An axis attribute of a tensor of rank `rank`.
inline int ExpectAxis(const OpSpec& op, double axis, size_t rank) {
  if (!(axis >= 0 && axis < static_cast<double>(rank)) || axis != static_cast<int>(axis)) {
    throw Error(Code::kProgram, op.name, ": expected an axis in [0, ", rank, "), got ", axis, ".");
  }
  return static_cast<int>(axis);
}

// Product of shape[from .. to).
inline int64_t Volume(const std::vector<int64_t>& shape, size_t from, size_t to) {
  int64_t volume = 1;
  for (size_t i = from; i < to; ++i) volume *= shape[i];
  return volume;
}

}  // namespace losscape
