// The fused elementwise machine against its plain form: every instruction on every SIMD target the
// machine has, every way of reading an operand, threads, aliasing and malformed operations.
#include <hwy/highway.h>
#include <hwy/targets.h>

#include <algorithm>
#include <map>
#include <string>

#include "native/test/fused_reference.h"
#include "native/test/test.h"

namespace losscape {
namespace {

using test::Formula;
using test::Reference;
using test::Tensor;

constexpr DType kAllTypes[] = {DType::kF32, DType::kF64, DType::kBF16,
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
std::vector<Tensor> Run(const OpSpec& spec, std::vector<Tensor>& inputs, int threads = 1) {
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
bool Same(const Tensor& a, const Tensor& b) {
  if (a.bytes() == b.bytes()) return true;
  for (int64_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  }
  return a.size() == b.size();
}

// |a - b| in units of the last place of `expected` in the type.
double UlpError(double actual, long double expected, DType dtype) {
  const bool wide = dtype == DType::kF64;
  const double rounded =
      wide ? static_cast<double>(expected) : static_cast<double>(static_cast<float>(expected));
  if (std::isnan(actual) && std::isnan(rounded)) return 0;
  if (std::isinf(rounded) || std::isinf(actual)) return actual == rounded ? 0 : INFINITY;
  const int bits = wide ? 52 : 23;
  const int least = wide ? -1022 : -126;
  const int exponent = rounded == 0 ? least : std::max(std::ilogb(rounded), least);
  const double error =
      static_cast<double>(std::fabs((actual - expected) / std::ldexp(1.0L, exponent - bits)));
  return std::isnan(error) ? INFINITY : error;
}

std::vector<double> SpecialNumbers(DType dtype) {
  const bool wide = dtype == DType::kF64;
  const double least =
      wide ? std::numeric_limits<double>::denorm_min() : std::numeric_limits<float>::denorm_min();
  const double normal =
      wide ? std::numeric_limits<double>::min() : std::numeric_limits<float>::min();
  const double most = wide ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  std::vector<double> numbers = {0.0, least, 7 * least, normal, most, INFINITY};
  for (double x :
       {1.0,   0.5, 1.5, 2.0,  2.5,   3.0,   20.0,    88.0,    89.0,         104.0,       709.5,
        745.5, 1e6, 1e9, 1e20, 255.0, 256.0, 65504.0, 65520.0, 2147483647.0, 2147483648.0}) {
    numbers.push_back(x);
  }
  for (double x : {1.5707963267948966, 3.141592653589793, 355.0, 0.34657359, 0.69314718}) {
    numbers.push_back(x);
  }
  const size_t count = numbers.size();
  for (size_t i = 0; i < count; ++i) numbers.push_back(-numbers[i]);
  numbers.push_back(NAN);
  return numbers;
}

// Special numbers, then numbers spread evenly over magnitudes and over the usual range.
std::vector<double> Numbers(DType dtype, size_t count) {
  std::vector<double> numbers = SpecialNumbers(dtype);
  std::mt19937_64 random(7);
  const double range = dtype == DType::kF64 ? 1074 : 149;
  std::uniform_real_distribution<double> exponent(-range, 128), narrow(-24, 8), usual(-30, 30);
  std::bernoulli_distribution negative(0.5);
  while (numbers.size() < count) {
    const double sign = negative(random) ? -1 : 1;
    numbers.push_back(sign * std::exp2(exponent(random)));
    numbers.push_back(sign * std::exp2(narrow(random)));
    numbers.push_back(usual(random));
  }
  for (double& x : numbers) x = test::Stored(x, dtype);
  return numbers;
}

Tensor Fill(DType dtype, const std::vector<double>& numbers) {
  Tensor tensor(dtype, static_cast<int64_t>(numbers.size()));
  for (size_t i = 0; i < numbers.size(); ++i) tensor.Set(static_cast<int64_t>(i), numbers[i]);
  return tensor;
}

struct Bound {
  const char* op;
  double f32;
  double f64;
};

// In ulp. 0.5 is correctly rounded, 0 exact; the rest is what the header of math-inl.h promises.
constexpr Bound kUnary[] = {
    {"neg", 0, 0},          {"abs", 0, 0},         {"sign", 0, 0},        {"floor", 0, 0},
    {"round", 0, 0},        {"not", 0, 0},         {"isfinite", 0, 0},    {"cast_f32", 0, 0},
    {"cast_bf16", 0, 0},    {"cast_f16", 0, 0},    {"cast_i32", 0.5, 0},  {"cast_u8", 0, 0},
    {"sqrt", 0.501, 0.501}, {"rsqrt", 1.51, 1.51}, {"exp", 2, 2},         {"expm1", 2, 2},
    {"log", 2, 2},          {"log1p", 2, 2.5},     {"sin", 2, 2},         {"cos", 2, 2},
    {"tanh", 2.5, 3},       {"erf", 2, 3},         {"sigmoid", 2.5, 2.5}, {"softplus", 2.5, 3},
};

// Checks results against long double and names the worst number.
void CheckUlp(const std::string& what, const Tensor& actual, double bound,
              const std::vector<long double>& expected, const std::vector<std::string>& where) {
  double worst = -1;
  size_t at = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = UlpError(actual[static_cast<int64_t>(i)], expected[i], actual.dtype());
    if (error > worst) {
      worst = error;
      at = i;
    }
  }
  if (worst <= bound) return;
  test::Fail(__FILE__, __LINE__,
             what + ": " + std::to_string(worst) + " ulp at " + where[at] + ", bound " +
                 std::to_string(bound) + ", got " +
                 std::to_string(actual[static_cast<int64_t>(at)]));
}

std::string Text(double x) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.17g", x);
  return text;
}

TEST(fused_unary_instructions) {
  for (DType dtype : {DType::kF32, DType::kF64}) {
    const std::vector<double> numbers = Numbers(dtype, 30'000);
    std::vector<Tensor> inputs = {Fill(dtype, numbers)};
    std::vector<std::string> where;
    for (double x : numbers) where.push_back(Text(x));
    for (const Bound& bound : kUnary) {
      Formula formula({static_cast<int64_t>(numbers.size())});
      formula.Result(formula.Emit(bound.op, formula.Dense(dtype)), dtype);
      std::vector<long double> expected;
      for (double x : numbers) expected.push_back(test::Apply(bound.op, x, 0, 0));
      OnEveryTarget([&](const std::string& target) {
        const Tensor actual = Run(formula.spec, inputs)[0];
        CheckUlp(target + " " + bound.op + " " + Name(dtype), actual,
                 dtype == DType::kF64 ? bound.f64 : bound.f32, expected, where);
      });
    }
  }
}

TEST(fused_signs_of_zero_and_nan) {
  for (DType dtype : {DType::kF32, DType::kF64}) {
    for (const char* op : {"exp", "expm1", "log1p", "sin", "tanh", "erf", "sqrt", "neg"}) {
      Formula formula({3});
      formula.Result(formula.Emit(op, formula.Dense(dtype)), dtype);
      std::vector<Tensor> inputs = {Fill(dtype, {-0.0, 0.0, NAN})};
      OnEveryTarget([&](const std::string& target) {
        const Tensor y = Run(formula.spec, inputs)[0];
        const bool odd = std::string(op) != "exp";
        const bool flipped = std::string(op) == "neg";
        if (odd && std::string(op) != "sin" && std::signbit(y[0]) == flipped) {
          test::Fail(__FILE__, __LINE__, target + " loses the sign of zero in " + op);
        }
        if (odd) CHECK(y[0] == 0 && y[1] == 0);
        CHECK(std::isnan(y[2]));
      });
    }
  }
}

TEST(fused_binary_instructions) {
  const std::vector<Bound> bounds = {
      {"add", 0.501, 0.501}, {"sub", 0.501, 0.501}, {"mul", 0.501, 0.501}, {"div", 0.501, 0.501},
      {"pow", 1, 1},         {"max", 0, 0},         {"min", 0, 0},         {"eq", 0, 0},
      {"ne", 0, 0},          {"lt", 0, 0},          {"le", 0, 0},          {"gt", 0, 0},
      {"ge", 0, 0},          {"and", 0, 0},         {"or", 0, 0}};
  for (DType dtype : {DType::kF32, DType::kF64}) {
    std::vector<double> a, b;
    const std::vector<double> special = SpecialNumbers(dtype);
    for (double x : special) {
      for (double y : special) {
        a.push_back(test::Stored(x, dtype));
        b.push_back(test::Stored(y, dtype));
      }
    }
    std::mt19937_64 random(11);
    std::uniform_real_distribution<double> usual(-9, 9);
    for (int i = 0; i < 4000; ++i) {
      a.push_back(test::Stored(i % 3 ? std::fabs(usual(random)) : usual(random), dtype));
      b.push_back(test::Stored(i % 5 ? usual(random) : std::round(usual(random)), dtype));
    }
    std::vector<std::string> where;
    for (size_t i = 0; i < a.size(); ++i) where.push_back(Text(a[i]) + ", " + Text(b[i]));
    std::vector<Tensor> inputs = {Fill(dtype, a), Fill(dtype, b)};
    for (const Bound& bound : bounds) {
      Formula formula({static_cast<int64_t>(a.size())});
      const int x = formula.Dense(dtype);
      const int y = formula.Dense(dtype);
      formula.Result(formula.Emit(bound.op, x, y), dtype);
      std::vector<long double> expected;
      for (size_t i = 0; i < a.size(); ++i) {
        expected.push_back(test::Apply(bound.op, a[i], b[i], 0));
      }
      OnEveryTarget([&](const std::string& target) {
        const Tensor actual = Run(formula.spec, inputs)[0];
        CheckUlp(target + " " + bound.op + " " + Name(dtype), actual,
                 dtype == DType::kF64 ? bound.f64 : bound.f32, expected, where);
      });
    }
  }
}

// The formulas that the planner rewrites, with the constants that make it do so.
TEST(fused_joined_instructions) {
  using Build = int (*)(Formula&, int, int, int);
  const std::vector<Build> formulas = {
      [](Formula& f, int a, int b, int c) { return f.Emit("add", f.Emit("mul", a, b), c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("add", c, f.Emit("mul", a, b)); },
      [](Formula& f, int a, int b, int c) { return f.Emit("sub", f.Emit("mul", a, b), c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("sub", c, f.Emit("mul", a, b)); },
      [](Formula& f, int a, int b, int c) { return f.Emit("mul", f.Emit("gt", a, b), c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("mul", c, f.Emit("ge", a, b)); },
      [](Formula& f, int a, int b, int c) { return f.Emit("mul", f.Emit("eq", a, b), c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("mul", f.Emit("ne", a, b), c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("mul", f.Emit("lt", a, b), c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("where", f.Emit("le", a, b), a, c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("where", f.Emit("gt", a, b), c, b); },
      [](Formula& f, int a, int b, int c) { return f.Emit("where", f.Emit("ne", a, b), a, c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("where", f.Emit("eq", a, b), a, c); },
      [](Formula& f, int a, int b, int c) { return f.Emit("where", a, b, c); },
      [](Formula& f, int a, int, int) {
        const int zero = f.Const(0);
        return f.Emit("where", f.Emit("le", a, zero), zero, a);
      },
      [](Formula& f, int a, int, int) { return f.Emit("pow", a, f.Const(2)); },
      [](Formula& f, int a, int, int) { return f.Emit("pow", a, f.Const(3)); },
      [](Formula& f, int a, int, int) { return f.Emit("pow", a, f.Const(-1)); },
      [](Formula& f, int a, int, int) { return f.Emit("pow", a, f.Const(0.5)); },
      // Read twice, so that it may not be joined, and once more under another name.
      [](Formula& f, int a, int b, int c) {
        const int product = f.Emit("mul", a, b);
        return f.Emit("add", product, f.Emit("add", product, c));
      },
  };
  // Small integers: every intermediate number is exact, whether products are joined or not.
  const std::vector<double> numbers = {0, 1, -1, 2, -3, 4, 16, NAN, INFINITY, -INFINITY};
  std::vector<double> a, b, c;
  for (double x : numbers) {
    for (double y : numbers) {
      for (double z : numbers) {
        a.push_back(x);
        b.push_back(y);
        c.push_back(z);
      }
    }
  }
  for (DType dtype : {DType::kF32, DType::kF64}) {
    std::vector<Tensor> dense = {Fill(dtype, a), Fill(dtype, b), Fill(dtype, c)};
    for (size_t k = 0; k < formulas.size(); ++k) {
      // Every operand dense or uniform.
      for (int uniform = 0; uniform < 8; ++uniform) {
        Formula formula({static_cast<int64_t>(a.size())});
        std::vector<Tensor> inputs;
        for (int i = 0; i < 3; ++i) {
          if (uniform >> i & 1) {
            formula.Scalar(dtype);
            inputs.push_back(Fill(dtype, {numbers[static_cast<size_t>(2 * i + 1)]}));
          } else {
            formula.Dense(dtype);
            inputs.push_back(dense[static_cast<size_t>(i)]);
          }
        }
        formula.Result(formulas[k](formula, 0, 1, 2), dtype);
        const Tensor expected = Reference(formula.spec, inputs)[0];
        OnEveryTarget([&](const std::string& target) {
          const Tensor actual = Run(formula.spec, inputs)[0];
          if (Same(actual, expected)) return;
          test::Fail(__FILE__, __LINE__,
                     target + " formula " + std::to_string(k) + " uniform " +
                         std::to_string(uniform) + " " + Name(dtype));
        });
      }
    }
  }
}

// All numbers of the 16-bit types, and back; numbers between them, to every type.
TEST(fused_conversions) {
  for (DType small : {DType::kBF16, DType::kF16}) {
    for (DType wide : {DType::kF32, DType::kF64}) {
      Tensor codes(small, 65536);
      for (int64_t i = 0; i < 65536; ++i) codes.SetBits(i, static_cast<uint16_t>(i));
      Formula formula({65536});
      const int x = formula.Dense(small);
      formula.Result(x, wide);
      formula.Result(x, small);
      std::vector<Tensor> inputs = {codes};
      const auto expected = Reference(formula.spec, inputs);
      OnEveryTarget([&](const std::string&) {
        const auto actual = Run(formula.spec, inputs);
        CHECK(Same(actual[0], expected[0]));
        CHECK(Same(actual[1], expected[1]));
      });
    }
  }
  for (DType from : {DType::kF32, DType::kF64}) {
    std::vector<double> numbers = Numbers(from, 3000);
    std::mt19937_64 random(3);
    std::uniform_int_distribution<int> exponent(-30, 20), mantissa(0, 4095);
    // Halfway cases of both 16-bit types, and their neighbours.
    for (int i = 0; i < 4000; ++i) {
      const double x = std::ldexp(4096 + mantissa(random), exponent(random) - 12);
      numbers.insert(numbers.end(), {x, std::nextafter(x, 0), -std::nextafter(x, 1e9)});
    }
    for (double& x : numbers) x = test::Stored(x, from);
    for (DType to : kAllTypes) {
      Formula formula({static_cast<int64_t>(numbers.size())});
      formula.Result(formula.Dense(from), to);
      std::vector<Tensor> inputs = {Fill(from, numbers)};
      const Tensor expected = Reference(formula.spec, inputs)[0];
      OnEveryTarget([&](const std::string& target) {
        if (Same(Run(formula.spec, inputs)[0], expected)) return;
        test::Fail(__FILE__, __LINE__, target + " " + Name(from) + " to " + Name(to));
      });
    }
  }
}

class RandomFormula {
 public:
  explicit RandomFormula(uint64_t seed) : random_(seed) {}

  int Below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  // Small integers and instructions that keep them so: results are exact in every type.
  Formula Make() {
    const int rank = Below(6);
    std::vector<int64_t> shape;
    int64_t count = 1;
    for (int axis = 0; axis < rank; ++axis) {
      const int sizes[] = {1, 2, 3, 5, 8, 30, 64, 100, 257, 1000, 3000};
      int64_t size = sizes[Below(11)];
      if (count * size > 40'000) size = 1 + Below(3);
      if (Below(60) == 0) size = 0;
      shape.push_back(size);
      count *= std::max<int64_t>(size, 1);
    }
    Formula formula(shape);
    const int inputs = 1 + Below(4);
    for (int i = 0; i < inputs; ++i) Operand(formula, shape);
    std::vector<int> values;
    for (int i = 0; i < inputs; ++i) values.push_back(i);
    for (int k = Below(9); k > 0; --k) values.push_back(Instruction(formula, values));
    const int outputs = 1 + Below(3);
    for (int o = 0; o < outputs; ++o) {
      const int value =
          o == 0 ? values.back() : values[static_cast<size_t>(Below(int(values.size())))];
      formula.Result(value, Type());
    }
    return formula;
  }

  std::vector<Tensor> Inputs(const OpSpec& spec) {
    std::vector<Tensor> inputs;
    for (const TensorType& type : spec.inTypes) {
      Tensor tensor(type.dtype, type.Elements());
      for (int64_t i = 0; i < tensor.size(); ++i) tensor.Set(i, Below(4));
      inputs.push_back(tensor);
    }
    return inputs;
  }

 private:
  DType Type() { return Below(2) ? DType::kF32 : kAllTypes[Below(6)]; }

  // Dense in a random order of axes, with axes left out, an offset and room behind.
  void Operand(Formula& formula, const std::vector<int64_t>& shape) {
    const int kind = Below(5);
    if (kind == 0) {
      formula.Dense(Type());
      return;
    }
    std::vector<size_t> order(shape.size());
    for (size_t axis = 0; axis < order.size(); ++axis) order[axis] = order.size() - 1 - axis;
    if (kind == 1) std::shuffle(order.begin(), order.end(), random_);
    std::vector<int64_t> strides(shape.size(), 0);
    int64_t step = kind == 2 ? 1 + Below(2) : 1;
    for (size_t axis : order) {
      if (kind >= 2 && Below(2)) continue;
      strides[axis] = step;
      step *= std::max<int64_t>(shape[axis], 1);
    }
    const int64_t offset = kind == 3 ? Below(7) : 0;
    formula.Input(Type(), step + offset + Below(9), strides, offset);
  }

  int Instruction(Formula& formula, const std::vector<int>& values) {
    const auto any = [&] { return values[static_cast<size_t>(Below(int(values.size())))]; };
    switch (Below(9)) {
      case 0:
        return formula.Const(Below(3));
      case 1:
        return formula.Emit("where", any(), any(), any());
      case 2:
        return formula.Emit("mul", formula.Emit("lt", any(), any()), any());
      case 3:
        return formula.Emit("min", any(), formula.Const(7));
      case 4:
        return formula.Emit("min", formula.Emit("add", formula.Emit("mul", any(), any()), any()),
                            formula.Const(9));
      case 5:
        return formula.Emit("neg", any());
      case 6:
        return formula.Emit("sub", any(), any());
      case 7:
        return formula.Emit("where", formula.Emit("ge", any(), any()), any(), any());
      default:
        return formula.Emit("max", any(), any());
    }
  }

  std::mt19937_64 random_;
};

TEST(fused_random_formulas) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    RandomFormula random(seed);
    const Formula formula = random.Make();
    std::vector<Tensor> inputs = random.Inputs(formula.spec);
    const auto expected = Reference(formula.spec, inputs);
    OnEveryTarget([&](const std::string& target) {
      const auto actual = Run(formula.spec, inputs, 1 + static_cast<int>(seed % 3));
      for (size_t o = 0; o < expected.size(); ++o) {
        if (Same(actual[o], expected[o])) continue;
        test::Fail(__FILE__, __LINE__,
                   target + " seed " + std::to_string(seed) + " output " + std::to_string(o));
      }
    });
  }
}

// tanh'(x) g + sin(x) softplus(y), with all kinds of operands.
Formula Smooth(DType dtype, int64_t rows, int64_t columns) {
  Formula f({rows, columns});
  const int x = f.Dense(dtype);
  const int y = f.Input(dtype, columns, {0, 1});
  const int g = f.Input(dtype, rows, {1, 0});
  const int t = f.Emit("tanh", x);
  const int slope = f.Emit("sub", f.Const(1), f.Emit("mul", t, t));
  const int rest = f.Emit("mul", f.Emit("sin", x), f.Emit("softplus", y));
  f.Result(f.Emit("add", f.Emit("mul", slope, g), rest), dtype);
  f.Result(f.Emit("pow", f.Emit("exp", x), y), dtype);
  return f;
}

Tensor Normals(DType dtype, int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Tensor tensor(dtype, count);
  for (int64_t i = 0; i < count; ++i) tensor.Set(i, test::Stored(normal(random), dtype));
  return tensor;
}

TEST(fused_threads_do_not_change_bits) {
  for (DType dtype : {DType::kF32, DType::kF64}) {
    const Formula formula = Smooth(dtype, 123, 457);
    std::vector<Tensor> inputs = {Normals(dtype, 123 * 457, 1), Normals(dtype, 457, 2),
                                  Normals(dtype, 123, 3)};
    OnEveryTarget([&](const std::string&) {
      const auto one = Run(formula.spec, inputs, 1);
      for (int threads : {2, 3, 7}) {
        const auto many = Run(formula.spec, inputs, threads);
        CHECK(one[0].bytes() == many[0].bytes());
        CHECK(one[1].bytes() == many[1].bytes());
      }
    });
  }
}

// The number of an element may depend on nothing but the operands' numbers there: computed in
// rows of any length, and with operands expanded, it is the same.
TEST(fused_position_does_not_change_bits) {
  for (DType dtype : {DType::kF32, DType::kF64}) {
    const int64_t rows = 40, columns = 67;
    std::vector<Tensor> inputs = {Normals(dtype, rows * columns, 1), Normals(dtype, columns, 2),
                                  Normals(dtype, rows, 3)};
    OnEveryTarget([&](const std::string&) {
      const auto whole = Run(Smooth(dtype, rows, columns).spec, inputs);
      for (int64_t length : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 67}) {
        for (int64_t row : {int64_t{0}, rows - 1}) {
          const int64_t first = columns - length;
          std::vector<Tensor> part = {Tensor(dtype, length), Tensor(dtype, length),
                                      Tensor(dtype, 1)};
          for (int64_t i = 0; i < length; ++i) {
            part[0].Set(i, inputs[0][row * columns + first + i]);
            part[1].Set(i, inputs[1][first + i]);
          }
          part[2].Set(0, inputs[2][row]);
          const auto piece = Run(Smooth(dtype, 1, length).spec, part);
          for (int64_t i = 0; i < length; ++i) {
            CHECK(piece[0][i] == whole[0][row * columns + first + i]);
            CHECK(piece[1][i] == whole[1][row * columns + first + i]);
          }
        }
      }
    });
  }
}

// Two outputs over the storage of two inputs, both of which are read to the end.
TEST(fused_outputs_over_inputs) {
  for (int64_t count : {1, 5, 200, 1000, 100'003}) {
    Formula f({count});
    const int x = f.Dense(DType::kF32);
    const int y = f.Dense(DType::kF32);
    const int sum = f.Emit("add", x, y);
    const int product = f.Emit("mul", x, f.Emit("exp", y));
    f.Result(sum, DType::kF32);
    f.Result(f.Emit("sub", product, f.Emit("neg", x)), DType::kF32);
    const auto kernel = MakeKernel(f.spec);
    for (int in : {0, 1}) {
      for (int out : {0, 1}) CHECK(kernel->MayAlias(in, out));
    }
    std::vector<Tensor> inputs = {Normals(DType::kF32, count, 1), Normals(DType::kF32, count, 2)};
    const auto expected = Run(f.spec, inputs);
    for (int swapped : {0, 1}) {
      for (int threads : {1, 2, 3}) {
        std::vector<Tensor> work = inputs;
        const void* in[] = {work[0].data(), work[1].data()};
        void* out[] = {work[swapped ? 1 : 0].data(), work[swapped ? 0 : 1].data()};
        std::vector<unsigned char> scratch(kernel->ScratchBytes(threads) + 256);
        const uintptr_t start = (reinterpret_cast<uintptr_t>(scratch.data()) + 255) / 256 * 256;
        kernel->Run({in, out, reinterpret_cast<void*>(start), threads});
        CHECK(work[swapped ? 1 : 0].bytes() == expected[0].bytes());
        CHECK(work[swapped ? 0 : 1].bytes() == expected[1].bytes());
      }
    }
  }
}

TEST(fused_aliasing_of_other_widths) {
  // bf16 over f16, and i32 over f32, through conversions.
  const DType pairs[][2] = {{DType::kF16, DType::kBF16}, {DType::kF32, DType::kI32}};
  for (const auto& pair : pairs) {
    Formula f({5000});
    const int x = f.Dense(pair[0]);
    f.Result(f.Emit("mul", x, f.Const(8)), pair[1]);
    const auto kernel = MakeKernel(f.spec);
    CHECK(kernel->MayAlias(0, 0));
    std::vector<Tensor> inputs = {Normals(pair[0], 5000, 1)};
    const auto expected = Run(f.spec, inputs);
    const void* in[] = {inputs[0].data()};
    void* out[] = {inputs[0].data()};
    std::vector<unsigned char> scratch(kernel->ScratchBytes(2) + 256);
    const uintptr_t start = (reinterpret_cast<uintptr_t>(scratch.data()) + 255) / 256 * 256;
    kernel->Run({in, out, reinterpret_cast<void*>(start), 2});
    CHECK(inputs[0].bytes() == expected[0].bytes());
  }
}

TEST(fused_aliasing_is_refused) {
  Formula f({4, 8});
  f.Dense(DType::kF32);
  f.Input(DType::kF32, 8, {0, 1});
  f.Input(DType::kF32, 32, {1, 4});
  f.Dense(DType::kF64);
  f.Input(DType::kF32, 40, {8, 1}, 3);
  f.Result(f.Emit("add", 0, 1), DType::kF32);
  CHECK(MakeKernel(f.spec)->MayAlias(0, 0));
  for (int in : {1, 2, 3, 4}) CHECK(!MakeKernel(f.spec)->MayAlias(in, 0));
  // The same value read once more, across.
  f.spec.inputs[2] = f.spec.inputs[0];
  CHECK(!MakeKernel(f.spec)->MayAlias(0, 0));
}

// out 0 = 2 x, out 1 = x: over x, out 0 would be what out 1 copies.
TEST(fused_aliasing_of_operands_that_are_results) {
  Formula f({5000});
  const int x = f.Dense(DType::kF32);
  f.Dense(DType::kF32);
  f.Result(f.Emit("mul", x, f.Const(2)), DType::kF32);
  f.Result(x, DType::kF32);
  const auto kernel = MakeKernel(f.spec);
  CHECK(!kernel->MayAlias(0, 0));
  CHECK(kernel->MayAlias(0, 1));
  CHECK(kernel->MayAlias(1, 0));
  // The same value as the other operand.
  f.spec.inputs[1] = f.spec.inputs[0];
  CHECK(!MakeKernel(f.spec)->MayAlias(1, 0));
}

TEST(fused_malformed_operations) {
  const auto refuse = [](void (*spoil)(OpSpec&)) {
    Formula f({4, 8});
    f.Dense(DType::kF32);
    const int c = f.Const(2);
    f.Result(f.Emit("add", 0, c), DType::kF32);
    CHECK(MakeKernel(f.spec) != nullptr);
    spoil(f.spec);
    CHECK_THROWS(MakeKernel(f.spec), Code::kProgram);
  };
  refuse([](OpSpec& spec) { spec.numbers["strides"].pop_back(); });
  refuse([](OpSpec& spec) { spec.numbers["strides"][0] = 9; });
  refuse([](OpSpec& spec) { spec.numbers["strides"][0] = -8; });
  refuse([](OpSpec& spec) { spec.numbers["strides"][0] = 0.5; });
  refuse([](OpSpec& spec) { spec.numbers["strides"][0] = 1e300; });
  refuse([](OpSpec& spec) { spec.numbers["strides"][0] = NAN; });
  refuse([](OpSpec& spec) { spec.numbers["offsets"][0] = 1; });
  refuse([](OpSpec& spec) { spec.numbers["offsets"].clear(); });
  refuse([](OpSpec& spec) { spec.numbers["shape"][0] = -4; });
  refuse([](OpSpec& spec) { spec.numbers["shape"][0] = 1e15; });
  refuse([](OpSpec& spec) { spec.numbers["shape"].resize(9, 1); });
  refuse([](OpSpec& spec) { spec.numbers["code"].pop_back(); });
  refuse([](OpSpec& spec) { spec.numbers["code"][0] = 7; });
  refuse([](OpSpec& spec) { spec.numbers["code"][1] = 1; });   // constants: 0 only
  refuse([](OpSpec& spec) { spec.numbers["code"][5] = 2; });   // its own result
  refuse([](OpSpec& spec) { spec.numbers["code"][5] = -1; });  // missing
  refuse([](OpSpec& spec) { spec.numbers["code"][7] = 0; });   // one too many
  refuse([](OpSpec& spec) { spec.numbers["results"][0] = 3; });
  refuse([](OpSpec& spec) { spec.numbers["results"].push_back(0); });
  refuse([](OpSpec& spec) { spec.numbers.erase("results"); });
  refuse([](OpSpec& spec) { spec.strings["ops"][1] = "frobnicate"; });
  refuse([](OpSpec& spec) { spec.strings["ops"][1] = ""; });
  refuse([](OpSpec& spec) { spec.strings.clear(); });
  refuse([](OpSpec& spec) { spec.outTypes[0].shape[0] = 5; });
}

}  // namespace
}  // namespace losscape
