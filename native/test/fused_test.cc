// The fused elementwise machine against its plain form: random formulas with every way of reading
// an operand, threads, aliasing and malformed operations. Its accuracy: fused_accuracy_test.cc.
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
