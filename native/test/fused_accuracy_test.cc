// Accuracy of the fused elementwise machine: every instruction and conversion on every SIMD target
// the machine has, against long double.
#include <algorithm>
#include <string>

#include "native/test/fused_reference.h"
#include "native/test/fused_run.h"
#include "native/test/test.h"

namespace losscape {
namespace {

using test::Formula;
using test::kAllTypes;
using test::OnEveryTarget;
using test::Reference;
using test::Run;
using test::Same;
using test::Tensor;

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

}  // namespace
}  // namespace losscape
