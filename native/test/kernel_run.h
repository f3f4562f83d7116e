// Runs one kernel on numbers given as doubles, on storage that is only element-aligned.
#pragma once

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "native/cpu/half.h"
#include "native/runtime/kernel.h"
#include "native/test/test.h"

namespace losscape::test {

using Numbers = std::vector<double>;
using Shape = std::vector<int64_t>;

inline double ReadElement(DType dtype, const char* at) {
  switch (dtype) {
    case DType::kF32: {
      float v;
      std::memcpy(&v, at, sizeof v);
      return v;
    }
    case DType::kF64: {
      double v;
      std::memcpy(&v, at, sizeof v);
      return v;
    }
    case DType::kI32: {
      int32_t v;
      std::memcpy(&v, at, sizeof v);
      return v;
    }
    case DType::kU8:
      return static_cast<uint8_t>(*at);
    default: {
      uint16_t v;
      std::memcpy(&v, at, sizeof v);
      return dtype == DType::kF16 ? FloatFromF16(v) : FloatFromBf16(v);
    }
  }
}

inline void WriteElement(DType dtype, double number, char* at) {
  auto put = [at](auto v) { std::memcpy(at, &v, sizeof v); };
  switch (dtype) {
    case DType::kF32:
      return put(static_cast<float>(number));
    case DType::kF64:
      return put(number);
    case DType::kI32:
      return put(static_cast<int32_t>(number));
    case DType::kU8:
      return put(static_cast<uint8_t>(number));
    case DType::kF16:
      return put(F16FromFloat(static_cast<float>(number)));
    case DType::kBF16:
      return put(Bf16FromFloat(static_cast<float>(number)));
  }
}

// Elements start one element behind a 64-byte boundary and end with the allocation, so that
// sanitizers see every access outside.
class Storage {
 public:
  explicit Storage(const TensorType& type)
      : type_(type), size_(type.Elements() * ByteSize(type.dtype)) {
    const size_t offset = ByteSize(type.dtype);
    block_ = std::make_unique<char[]>(offset + size_ + 1);
    data_ = block_.get() + offset;
    std::memset(block_.get(), 0xA5, offset + size_ + 1);
  }
  char* data() { return data_; }
  void Write(const Numbers& numbers) {
    for (size_t i = 0; i < numbers.size(); ++i) {
      WriteElement(type_.dtype, numbers[i], data_ + i * ByteSize(type_.dtype));
    }
  }
  Numbers Read() const {
    Numbers numbers(type_.Elements());
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = ReadElement(type_.dtype, data_ + i * ByteSize(type_.dtype));
    }
    return numbers;
  }
  bool Intact() const { return data_[size_] == static_cast<char>(0xA5); }

 private:
  TensorType type_;
  size_t size_;
  std::unique_ptr<char[]> block_;
  char* data_;
};

// KernelRun("reduce").String("kind", "sum").Number("axes", {0}).In(..).Out(..).Run(threads)
class KernelRun {
 public:
  explicit KernelRun(const char* name) { op_.name = name; }

  KernelRun& Number(const char* key, const Numbers& values) {
    op_.numbers[key] = values;
    return *this;
  }
  KernelRun& String(const char* key, const char* value) {
    op_.strings[key] = {value};
    return *this;
  }
  KernelRun& In(DType dtype, const Shape& shape, const Numbers& values) {
    op_.inTypes.push_back({dtype, shape});
    op_.inputs.push_back(static_cast<int>(op_.inputs.size()));
    in_.emplace_back(op_.inTypes.back());
    in_.back().Write(values);
    return *this;
  }
  KernelRun& Out(DType dtype, const Shape& shape) {
    op_.outTypes.push_back({dtype, shape});
    op_.outputs.push_back(static_cast<int>(op_.inTypes.size() + op_.outputs.size()));
    return *this;
  }
  // Output `out` shares the storage of input `in`, where the kernel allows that.
  KernelRun& Alias(int in, int out) {
    aliasIn_ = in;
    aliasOut_ = out;
    return *this;
  }

  std::unique_ptr<Kernel> Make() const { return MakeKernel(op_); }

  std::vector<Numbers> Run(int threads) {
    const std::unique_ptr<Kernel> kernel = Make();
    std::vector<Storage> out;
    for (const TensorType& type : op_.outTypes) out.emplace_back(type);
    const size_t scratchBytes = kernel->ScratchBytes(threads);
    std::unique_ptr<char[]> scratch = std::make_unique<char[]>(scratchBytes + 256);
    // NaN in every format: kernels may expect nothing of it.
    std::memset(scratch.get(), 0xFF, scratchBytes + 256);
    const uintptr_t address = reinterpret_cast<uintptr_t>(scratch.get());
    std::vector<const void*> in;
    std::vector<void*> results;
    for (Storage& storage : in_) in.push_back(storage.data());
    for (Storage& storage : out) results.push_back(storage.data());
    const bool alias = aliasIn_ >= 0;
    if (alias) {
      CHECK(kernel->MayAlias(aliasIn_, aliasOut_));
      results[aliasOut_] = const_cast<void*>(in[aliasIn_]);
    }
    kernel->Run(
        {in.data(), results.data(), reinterpret_cast<void*>((address + 255) / 256 * 256), threads});
    std::vector<Numbers> numbers;
    for (size_t i = 0; i < out.size(); ++i) {
      CHECK(out[i].Intact());
      numbers.push_back(alias && static_cast<int>(i) == aliasOut_ ? in_[aliasIn_].Read()
                                                                  : out[i].Read());
    }
    return numbers;
  }

 private:
  OpSpec op_;
  std::vector<Storage> in_;
  int aliasIn_ = -1, aliasOut_ = -1;
};

// Calls body() once for every SIMD target that was compiled and that this machine has.
template <typename Body>
void ForEachTarget(Body body) {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
}

inline int64_t Volume(const Shape& shape) {
  int64_t volume = 1;
  for (int64_t size : shape) volume *= size;
  return volume;
}

// Numbers that f32, and with `steps` also f16 and bf16, hold exactly.
class Source {
 public:
  explicit Source(uint32_t seed) : engine_(seed) {}
  int64_t Below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  double Uniform(double low, double high) {
    return static_cast<float>(low + (high - low) * (engine_() / 4294967296.0));
  }
  Numbers Normal(int64_t count, double scale = 1) {
    std::normal_distribution<double> normal;
    Numbers numbers(count);
    for (double& x : numbers) x = static_cast<float>(scale * normal(engine_));
    return numbers;
  }
  Numbers Integers(int64_t count, int64_t low, int64_t high) {
    Numbers numbers(count);
    for (double& x : numbers) x = static_cast<double>(low + Below(high - low + 1));
    return numbers;
  }

 private:
  std::mt19937 engine_;
};

inline bool SameNumbers(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

// NaN equals NaN.
inline double LargestDifference(const Numbers& a, const Numbers& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double difference = std::fabs(a[i] - b[i]);
    largest = difference <= largest ? largest : std::isnan(difference) ? INFINITY : difference;
  }
  return largest;
}

}  // namespace losscape::test
