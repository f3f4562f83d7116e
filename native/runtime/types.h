// Element types and tensor types, shared by program, planner and kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace losscape {

// Order is the wire order of lib/program/encode.ts.
enum class DType : uint8_t { kF32, kF64, kBF16, kF16, kI32, kU8 };
constexpr int kDTypeCount = 6;

constexpr size_t ByteSize(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

const char* Name(DType dtype);

// Dense, row-major. A scalar has an empty shape.
struct TensorType {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t Elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  size_t Bytes() const { return static_cast<size_t>(Elements()) * ByteSize(dtype); }
};

}  // namespace losscape
