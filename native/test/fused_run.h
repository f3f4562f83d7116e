// Running fused elementwise operations on every SIMD target, and comparing what comes out.
#pragma once

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "native/test/fused_reference.h"
#include "native/test/test.h"

namespace losscape::test {

inline constexpr DType kAllTypes[] = {DType::kF32, DType::kF64, DType::kBF16,
                                      DType::kF16, DType::kI32, DType::kU8};

template <class F>
void OnEveryTarget(F f) {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    f(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(0);
  }
}

// Outputs of the kernel. Scratch is full of NaN and outputs are followed by guard bytes.
inline std::vector<Tensor> Run(const OpSpec& spec, std::vector<Tensor>& inputs, int threads = 1) {
  const auto kernel = MakeKernel(spec);
  constexpr size_t kGuard = 256;
  std::vector<const void*> in;
  for (Tensor& tensor : inputs) in.push_back(tensor.data());
  std::vector<std::vector<unsigned char>> storage;
  std::vector<void*> out;
  for (const TensorType& type : spec.outTypes) storage.emplace_back(type.Bytes() + kGuard, 0xa5);
  for (auto& bytes : storage) out.push_back(bytes.data());
  std::vector<unsigned char> scratch(kernel->ScratchBytes(threads) + 256, 0xff);
  const uintptr_t start = (reinterpret_cast<uintptr_t>(scratch.data()) + 255) / 256 * 256;
  kernel->Run({in.data(), out.data(), reinterpret_cast<void*>(start), threads});
  std::vector<Tensor> results;
  for (size_t o = 0; o < out.size(); ++o) {
    const TensorType& type = spec.outTypes[o];
    results.emplace_back(type.dtype, type.Elements());
    if (type.Bytes() > 0) std::memcpy(results[o].data(), out[o], type.Bytes());
    CHECK(std::all_of(storage[o].begin() + static_cast<std::ptrdiff_t>(type.Bytes()),
                      storage[o].end(), [](unsigned char byte) { return byte == 0xa5; }));
  }
  return results;
}

// Bit for bit, but any NaN equals any NaN.
inline bool Same(const Tensor& a, const Tensor& b) {
  if (a.bytes() == b.bytes()) return true;
  for (int64_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  }
  return a.size() == b.size();
}

}  // namespace losscape::test
