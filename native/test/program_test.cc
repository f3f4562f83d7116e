#include "native/runtime/program.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "native/runtime/executable.h"
#include "native/runtime/number.h"
#include "native/test/test.h"

namespace losscape {
namespace {

const std::vector<std::string> kNames = {"constant", "reshape", "data", "kind", "sum"};

// x [2, 3]; k = constant [3]; r = reshape(x) [6]; outputs r, k.
const std::vector<double> kWords = {
    1,                                            // version
    3, 0, 2, 2, 3, 0, 1, 3, 0, 1, 6,              // values: f32 [2, 3], f32 [3], f32 [6]
    1, 0,                                         // inputs
    2, 2, 1,                                      // outputs
    2,                                            // nodes
    0, 0, 1, 1, 2, 2, 0, 3, 5, 6, 7, 3, 1, 1, 4,  // constant, data [5, 6, 7], kind ['sum']
    1, 1, 0, 1, 2, 0,                             // reshape
};

Program Decode(const std::vector<double>& words) {
  return DecodeProgram(kNames, words.data(), words.size());
}

TEST(program_decodes) {
  const Program program = Decode(kWords);
  CHECK(program.values.size() == 3);
  CHECK(program.values[0].shape == std::vector<int64_t>({2, 3}));
  CHECK(program.inputs == std::vector<int>({0}));
  CHECK(program.outputs == std::vector<int>({2, 1}));
  CHECK(program.nodes.size() == 2);
  CHECK(program.nodes[0].Numbers("data") == std::vector<double>({5, 6, 7}));
  CHECK(program.nodes[0].String("kind") == "sum");
  CHECK_THROWS(program.nodes[0].Number("data"), Code::kProgram);
  CHECK_THROWS(program.nodes[0].Numbers("absent"), Code::kProgram);
  CHECK(program.nodes[0].Number("absent", 4) == 4);
}

// Every word replaced by everything that a word should not be: the decoder may accept what still
// makes sense, but only an Error may come out, and what it accepts must compile or say why not.
TEST(program_survives_corruption) {
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<double> poison = {-1,
                                0,
                                1,
                                2,
                                3,
                                7,
                                0.5,
                                1e6,
                                1e9,
                                1e15,
                                1e300,
                                -1e300,
                                infinity,
                                -infinity,
                                NAN,
                                4294967296.0,
                                9007199254740993.0};
  int accepted = 0;
  int refused = 0;
  const auto attempt = [&](const std::vector<double>& words) {
    try {
      Executable::Compile(Decode(words), {});
      ++accepted;
    } catch (const Error&) {
      ++refused;
    }
  };
  for (size_t at = 0; at < kWords.size(); ++at) {
    for (double value : poison) {
      std::vector<double> words = kWords;
      words[at] = value;
      attempt(words);
    }
    attempt({kWords.begin(), kWords.begin() + static_cast<std::ptrdiff_t>(at)});
  }
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::vector<double> words = kWords;
    for (int change = 0; change < 3; ++change) {
      const size_t at = random() % words.size();
      switch (random() % 3) {
        case 0:
          words[at] = poison[random() % poison.size()];
          break;
        case 1:
          words.erase(words.begin() + static_cast<std::ptrdiff_t>(at));
          break;
        default:
          words.insert(words.begin() + static_cast<std::ptrdiff_t>(at), random() % 8);
      }
    }
    attempt(words);
  }
  CHECK(accepted > 0);
  CHECK(refused > accepted);
}

TEST(program_refuses_what_is_not_one) {
  const auto with = [](size_t at, double value) {
    std::vector<double> words = kWords;
    words[at] = value;
    return words;
  };
  CHECK_THROWS(Decode({}), Code::kProgram);
  CHECK_THROWS(Decode(with(0, 2)), Code::kProgram);     // version
  CHECK_THROWS(Decode(with(2, 6)), Code::kProgram);     // dtype
  CHECK_THROWS(Decode(with(4, 1e13)), Code::kProgram);  // dimension
  CHECK_THROWS(Decode(with(13, 1)), Code::kProgram);    // the constant's value is an input as well
  CHECK_THROWS(Decode(with(11, 5)), Code::kShape);      // reshape to 5 elements
  CHECK_THROWS(Decode(with(10, 2)), Code::kProgram);    // rank 2 shifts all that follows
  std::vector<double> longer = kWords;
  longer.push_back(0);
  CHECK_THROWS(Decode(longer), Code::kProgram);
}

TEST(program_refuses_tensors_beyond_memory) {
  // f32 [2^20, 2^20, 2^20]
  const double n = 1048576;
  CHECK_THROWS(Decode({1, 1, 0, 3, n, n, n, 1, 0, 0, 0}), Code::kShape);
  // No element, but axes whose product a kernel may form: f32 [0, 2^41, 2^41].
  const double half = 2199023255552;
  CHECK_THROWS(Decode({1, 1, 0, 3, 0, half, half, 1, 0, 0, 0}), Code::kShape);
}

TEST(program_names_unknown_operations) {
  Program program;
  program.values.resize(1);
  OpSpec node;
  node.name = "no_such_operation";
  node.outputs = {0};
  node.outTypes = {program.values[0]};
  program.nodes = {node};
  CHECK_THROWS(Executable::Compile(program, {}), Code::kProgram);
}

TEST(program_constants_and_reshapes_run) {
  const auto executable = Executable::Compile(Decode(kWords), {});
  CHECK(executable->arenaBytes() == 0);
  const float x[6] = {1, 2, 3, 4, 5, 6};
  float r[6] = {};
  float k[3] = {};
  const void* in[] = {x};
  void* out[] = {r, k};
  RunContext context(1);
  executable->Run(in, out, context);
  for (int i = 0; i < 6; ++i) CHECK(r[i] == x[i]);
  for (int i = 0; i < 3; ++i) CHECK(k[i] == 5.0f + static_cast<float>(i));
}

TEST(number_stores_every_dtype) {
  uint16_t half[6];
  const double values[6] = {1, -2, 65504, 65520, 6.103515625e-05 / 2, NAN};
  const uint16_t f16[5] = {0x3C00, 0xC000, 0x7BFF, 0x7C00, 0x0200};
  for (size_t i = 0; i < 6; ++i) StoreNumber(DType::kF16, half, i, values[i]);
  for (size_t i = 0; i < 5; ++i) CHECK(half[i] == f16[i]);
  CHECK(HasNaN(DType::kF16, half, 6));
  CHECK(!HasNaN(DType::kF16, half, 5));
  StoreNumber(DType::kBF16, half, 0, 1.00390625);  // halfway between 1 and 1.0078125: even
  StoreNumber(DType::kBF16, half, 1, 1.01171875);  // halfway between 1.0078125 and 1.015625
  CHECK(half[0] == 0x3F80);
  CHECK(half[1] == 0x3F82);
  int32_t integer[4];
  const double reals[4] = {-1.9, 3e9, -3e9, NAN};
  for (size_t i = 0; i < 4; ++i) StoreNumber(DType::kI32, integer, i, reals[i]);
  CHECK(integer[0] == -1);
  CHECK(integer[1] == 2147483647);
  CHECK(integer[2] == -2147483647 - 1);
  CHECK(integer[3] == 0);
  uint8_t byte[2];
  StoreNumber(DType::kU8, byte, 0, 300);
  StoreNumber(DType::kU8, byte, 1, -1);
  CHECK(byte[0] == 255);
  CHECK(byte[1] == 0);
}

}  // namespace
}  // namespace losscape
