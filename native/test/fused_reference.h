// The slow, plain form of the fused elementwise machine, and a builder of its operations.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "native/runtime/kernel.h"

namespace losscape::test {

// Rounds to a binary format with `bits` of mantissa behind the point, half to even.
inline double RoundTo(double x, int bits, int minExponent, int maxExponent) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), minExponent);
  const double unit = std::ldexp(1.0, exponent - bits);
  const double y = std::nearbyint(x / unit) * unit;
  if (std::fabs(y) >= std::ldexp(2.0, maxExponent)) return std::copysign(INFINITY, x);
  return y;
}

inline double Saturate(double x, double low, double high) {
  if (std::isnan(x)) return 0;
  return std::min(std::max(std::trunc(x), low), high);
}

// What a number is after it was stored as `dtype`.
inline double Stored(double x, DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return x;
    case DType::kF32:
      return static_cast<float>(x);
    case DType::kBF16:
      return RoundTo(x, 7, -126, 127);
    case DType::kF16:
      return RoundTo(x, 10, -14, 15);
    case DType::kI32:
      return Saturate(x, -2147483648.0, 2147483647.0);
    case DType::kU8:
      return Saturate(x, 0, 255);
  }
  return x;
}

// Elements of any dtype, read and written as numbers.
class Tensor {
 public:
  Tensor(DType dtype, int64_t elements)
      : dtype_(dtype), bytes_(static_cast<size_t>(elements) * ByteSize(dtype)) {}

  DType dtype() const { return dtype_; }
  int64_t size() const { return static_cast<int64_t>(bytes_.size() / ByteSize(dtype_)); }
  void* data() { return bytes_.data(); }
  const std::vector<unsigned char>& bytes() const { return bytes_; }

  double operator[](int64_t i) const {
    switch (dtype_) {
      case DType::kF64:
        return As<double>(i);
      case DType::kF32:
        return As<float>(i);
      case DType::kI32:
        return As<int32_t>(i);
      case DType::kU8:
        return As<uint8_t>(i);
      case DType::kBF16:
        return Small(As<uint16_t>(i), 7, 127);
      case DType::kF16:
        return Small(As<uint16_t>(i), 10, 15);
    }
    return 0;
  }

  void Set(int64_t i, double x) {
    switch (dtype_) {
      case DType::kF64:
        return Put<double>(i, x);
      case DType::kF32:
        return Put<float>(i, static_cast<float>(x));
      case DType::kI32:
        return Put<int32_t>(i, static_cast<int32_t>(x));
      case DType::kU8:
        return Put<uint8_t>(i, static_cast<uint8_t>(x));
      case DType::kBF16:
        return Put<uint16_t>(i, Encode(Stored(x, dtype_), 7, 127));
      case DType::kF16:
        return Put<uint16_t>(i, Encode(Stored(x, dtype_), 10, 15));
    }
  }

  void SetBits(int64_t i, uint16_t bits) { Put<uint16_t>(i, bits); }

 private:
  template <typename T>
  T As(int64_t i) const {
    T x;
    std::memcpy(&x, &bytes_[static_cast<size_t>(i) * sizeof(T)], sizeof(T));
    return x;
  }

  template <typename T>
  void Put(int64_t i, T x) {
    std::memcpy(&bytes_[static_cast<size_t>(i) * sizeof(T)], &x, sizeof(T));
  }

  static double Small(uint16_t code, int bits, int bias) {
    const int exponent = (code & 0x7fff) >> bits;
    const int mantissa = code & ((1 << bits) - 1);
    double x = exponent == 0 ? std::ldexp(mantissa, 1 - bias - bits)
                             : std::ldexp(mantissa + (1 << bits), exponent - bias - bits);
    if (exponent == 2 * bias + 1) x = mantissa ? NAN : INFINITY;
    return code & 0x8000 ? -x : x;
  }

  // x is representable.
  static uint16_t Encode(double x, int bits, int bias) {
    const int sign = std::signbit(x) ? 0x8000 : 0;
    const int top = (2 * bias + 1) << bits;
    if (std::isnan(x)) return static_cast<uint16_t>(top | 1 << (bits - 1));
    if (std::isinf(x)) return static_cast<uint16_t>(sign | top);
    if (x == 0) return static_cast<uint16_t>(sign);
    const int exponent = std::max(std::ilogb(x), 1 - bias);
    const int mantissa = static_cast<int>(std::ldexp(std::fabs(x), bits - exponent));
    const int hidden = 1 << bits;
    const int code = mantissa < hidden ? mantissa : ((exponent + bias) << bits) + mantissa - hidden;
    return static_cast<uint16_t>(sign | code);
  }

  DType dtype_;
  std::vector<unsigned char> bytes_;
};

// A fused operation under construction.
class Formula {
 public:
  explicit Formula(std::vector<int64_t> shape) : shape_(std::move(shape)) {
    spec.numbers["shape"];
    for (int64_t n : shape_) spec.numbers["shape"].push_back(static_cast<double>(n));
    spec.name = "fused";
    spec.numbers["strides"];
    spec.numbers["offsets"];
    spec.numbers["consts"];
    spec.numbers["code"];
    spec.numbers["results"];
  }

  int64_t Count() const {
    int64_t n = 1;
    for (int64_t size : shape_) n *= size;
    return n;
  }

  // An operand of `elements` read with these strides; returns its register.
  int Input(DType dtype, int64_t elements, const std::vector<int64_t>& strides,
            int64_t offset = 0) {
    for (int64_t stride : strides) spec.numbers["strides"].push_back(static_cast<double>(stride));
    spec.numbers["offsets"].push_back(static_cast<double>(offset));
    const int id = static_cast<int>(spec.inTypes.size());
    spec.inputs.push_back(id);
    spec.inTypes.push_back({dtype, {elements}});
    return id;
  }

  // Row-major over the whole space.
  int Dense(DType dtype) {
    std::vector<int64_t> strides(shape_.size());
    int64_t step = 1;
    for (size_t axis = shape_.size(); axis-- > 0;) {
      strides[axis] = step;
      step *= shape_[axis];
    }
    return Input(dtype, Count(), strides);
  }

  int Scalar(DType dtype) { return Input(dtype, 1, std::vector<int64_t>(shape_.size(), 0)); }

  int Const(double number) {
    spec.numbers["consts"].push_back(number);
    return Emit("const", static_cast<int>(spec.numbers["consts"].size()) - 1);
  }

  // All inputs come first.
  int Emit(const std::string& op, int a, int b = -1, int c = -1) {
    std::vector<std::string>& names = spec.strings["ops"];
    size_t at = 0;
    while (at < names.size() && names[at] != op) ++at;
    if (at == names.size()) names.push_back(op);
    for (double word : {static_cast<double>(at), double(a), double(b), double(c)}) {
      spec.numbers["code"].push_back(word);
    }
    return static_cast<int>(spec.inTypes.size() + spec.numbers["code"].size() / 4) - 1;
  }

  void Result(int value, DType dtype) {
    spec.outputs.push_back(1000 + static_cast<int>(spec.outTypes.size()));
    spec.outTypes.push_back({dtype, shape_});
    spec.numbers["results"].push_back(value);
  }

  OpSpec spec;

 private:
  std::vector<int64_t> shape_;
};

// One instruction on numbers. Everything but casts is exact to long double's rounding.
inline long double Apply(const std::string& op, long double a, long double b, long double c) {
  const long double nan = std::numeric_limits<long double>::quiet_NaN();
  if (op == "neg") return -a;
  if (op == "abs") return std::fabs(a);
  if (op == "sign") return std::isnan(a) ? a : static_cast<long double>((a > 0) - (a < 0));
  if (op == "exp") return std::exp(a);
  if (op == "expm1") return std::expm1(a);
  if (op == "log") return a < 0 ? nan : std::log(a);
  if (op == "log1p") return a < -1 ? nan : std::log1p(a);
  if (op == "sqrt") return std::sqrt(a);
  if (op == "rsqrt") return 1 / std::sqrt(a);
  if (op == "sin") return std::sin(a);
  if (op == "cos") return std::cos(a);
  if (op == "tanh") return std::tanh(a);
  if (op == "erf") return std::erf(a);
  if (op == "sigmoid") return a >= 0 ? 1 / (1 + std::exp(-a)) : std::exp(a) / (1 + std::exp(a));
  if (op == "softplus") {
    return std::isnan(a) ? a : std::max(a, 0.0L) + std::log1p(std::exp(-std::fabs(a)));
  }
  if (op == "floor") return std::floor(a);
  if (op == "round") return std::nearbyint(a);
  if (op == "not") return a == 0;
  if (op == "isfinite") return std::isfinite(a);
  if (op == "cast_f32") return Stored(static_cast<double>(a), DType::kF32);
  if (op == "cast_bf16") return Stored(static_cast<double>(a), DType::kBF16);
  if (op == "cast_f16") return Stored(static_cast<double>(a), DType::kF16);
  if (op == "cast_i32") return Stored(static_cast<double>(a), DType::kI32);
  if (op == "cast_u8") return Stored(static_cast<double>(a), DType::kU8);
  if (op == "add") return a + b;
  if (op == "sub") return a - b;
  if (op == "mul") return a * b;
  if (op == "div") return a / b;
  if (op == "pow") return std::pow(a, b);
  if (op == "max") return std::isnan(a) || std::isnan(b) ? nan : std::max(a, b);
  if (op == "min") return std::isnan(a) || std::isnan(b) ? nan : std::min(a, b);
  if (op == "eq") return a == b;
  if (op == "ne") return a != b;
  if (op == "lt") return a < b;
  if (op == "le") return a <= b;
  if (op == "gt") return a > b;
  if (op == "ge") return a >= b;
  if (op == "and") return a != 0 && b != 0;
  if (op == "or") return a != 0 || b != 0;
  if (op == "where") return a != 0 ? b : c;
  return nan;
}

// Element by element, walking every operand by its strides.
inline std::vector<Tensor> Reference(const OpSpec& spec, const std::vector<Tensor>& inputs) {
  const std::vector<double>& shape = spec.numbers.at("shape");
  const std::vector<double>& code = spec.numbers.at("code");
  const size_t rank = shape.size();
  std::vector<Tensor> outputs;
  for (const TensorType& type : spec.outTypes) outputs.emplace_back(type.dtype, type.Elements());
  const int64_t count = outputs.empty() ? 0 : outputs[0].size();
  std::vector<int64_t> index(rank);
  std::vector<long double> registers;
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i;
    for (size_t axis = rank; axis-- > 0;) {
      index[axis] = rest % static_cast<int64_t>(shape[axis]);
      rest /= static_cast<int64_t>(shape[axis]);
    }
    registers.clear();
    for (size_t k = 0; k < inputs.size(); ++k) {
      double at = spec.numbers.at("offsets")[k];
      for (size_t axis = 0; axis < rank; ++axis) {
        at += static_cast<double>(index[axis]) * spec.numbers.at("strides")[k * rank + axis];
      }
      registers.push_back(inputs[k][static_cast<int64_t>(at)]);
    }
    for (size_t k = 0; k < code.size(); k += 4) {
      const std::string& op = spec.strings.at("ops")[static_cast<size_t>(code[k])];
      const auto value = [&](size_t operand) {
        const double from = code[k + 1 + operand];
        return from < 0 ? 0.0L : registers[static_cast<size_t>(from)];
      };
      registers.push_back(op == "const"
                              ? spec.numbers.at("consts")[static_cast<size_t>(code[k + 1])]
                              : Apply(op, value(0), value(1), value(2)));
    }
    for (size_t o = 0; o < outputs.size(); ++o) {
      const long double x = registers[static_cast<size_t>(spec.numbers.at("results")[o])];
      outputs[o].Set(i, Stored(static_cast<double>(x), outputs[o].dtype()));
    }
  }
  return outputs;
}

}  // namespace losscape::test
