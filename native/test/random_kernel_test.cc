#include <cmath>
#include <vector>

#include "native/cpu/random_words.h"
#include "native/runtime/random.h"
#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

const Numbers kKey = {123456789, -5, 77, 0};

Numbers RunRandom(const char* kind, DType dtype, const Shape& shape, const Numbers& key,
                  double stream, int threads) {
  return KernelRun("random")
      .String("kind", kind)
      .Number("stream", {stream})
      .In(DType::kI32, {4}, key)
      .Out(dtype, shape)
      .Run(threads)[0];
}

TEST(RandomFollowsTheCounters) {
  const uint32_t key[2] = {123456789u, static_cast<uint32_t>(-5)};
  const double stream = 4000000000.0;
  const int64_t count = 10007;
  for (DType dtype : {DType::kF32, DType::kF64}) {
    Numbers uniform(count), normal(count), rademacher(count);
    auto rounded = [dtype](double x) { return dtype == DType::kF32 ? static_cast<float>(x) : x; };
    auto word = [&](int64_t i) {
      const uint32_t counter[4] = {static_cast<uint32_t>(i / 4), 0, 4000000000u, 77};
      uint32_t block[4];
      PhiloxBlock(key, counter, block);
      return block[i % 4];
    };
    for (int64_t i = 0; i < count; ++i) {
      const double u = (word(i) + 0.5) / 4294967296.0;
      uniform[i] = rounded(u);
      normal[i] = rounded(InverseNormal(u));
      rademacher[i] = (word(i / 32) >> (i % 32)) & 1 ? 1 : -1;
    }
    for (int threads = 1; threads <= 3; ++threads) {
      CHECK(SameNumbers(RunRandom("uniform", dtype, {count}, kKey, stream, threads), uniform));
      CHECK(SameNumbers(RunRandom("normal", dtype, {count}, kKey, stream, threads), normal));
      CHECK(
          SameNumbers(RunRandom("rademacher", dtype, {count}, kKey, stream, threads), rademacher));
    }
  }
}

TEST(RandomWordsAreThoseOfTheBlocks) {
  const uint64_t seed = 0x0123456789abcdefu, stream = 0xfedcba9876543210u;
  // Before, on and after a carry into the counter's high word.
  for (uint64_t first : {uint64_t{0}, uint64_t{5}, (uint64_t{1} << 32) - 9, uint64_t{1} << 40}) {
    for (size_t blocks : {0, 1, 3, 4, 7, 8, 15, 16, 17, 33, 300}) {
      std::vector<uint32_t> expected(4 * blocks);
      std::vector<float> floats(4 * blocks);
      std::vector<double> doubles(4 * blocks);
      for (size_t b = 0; b < blocks; ++b) {
        RandomBlock(seed, stream, first + b, expected.data() + 4 * b);
      }
      FillUniforms(seed, stream, 4 * first, 4 * blocks, floats.data());
      FillUniforms(seed, stream, 4 * first, 4 * blocks, doubles.data());
      ForEachTarget([&] {
        std::vector<uint32_t> words(4 * blocks);
        std::vector<float> f(4 * blocks);
        std::vector<double> d(4 * blocks);
        RandomWords(seed, stream, first, blocks, words.data());
        UniformBlocks(seed, stream, first, blocks, f.data());
        UniformBlocks(seed, stream, first, blocks, d.data());
        CHECK(words == expected);
        CHECK(f == floats);
        CHECK(d == doubles);
      });
    }
  }
}

TEST(RandomHasTheMomentsOfItsKind) {
  const int64_t count = 200000;
  struct Case {
    const char* kind;
    double mean, variance, fourth;
  };
  for (const Case& test : {Case{"uniform", 0.5, 1 / 12.0, 1 / 80.0}, Case{"normal", 0, 1, 3},
                           Case{"rademacher", 0, 1, 1}}) {
    const Numbers x = RunRandom(test.kind, DType::kF64, {count}, kKey, 3, 2);
    double mean = 0, variance = 0;
    for (double v : x) mean += v / count;
    for (double v : x) variance += (v - test.mean) * (v - test.mean) / count;
    // Five standard errors.
    CHECK_NEAR(mean, test.mean, 5 * std::sqrt(test.variance / count));
    const double spread = test.fourth - test.variance * test.variance;
    CHECK_NEAR(variance, test.variance, 5 * std::sqrt(spread / count) + 1e-9);
  }
}

TEST(RandomDiffersByKeyAndStream) {
  const Numbers base = RunRandom("normal", DType::kF32, {8}, kKey, 1, 1);
  CHECK(SameNumbers(RunRandom("normal", DType::kF32, {8}, kKey, 1, 1), base));
  CHECK(!SameNumbers(RunRandom("normal", DType::kF32, {8}, kKey, 2, 1), base));
  for (int word = 0; word < 3; ++word) {
    Numbers key = kKey;
    key[word] += 1;
    CHECK(!SameNumbers(RunRandom("normal", DType::kF32, {8}, key, 1, 1), base));
  }
  CHECK(RunRandom("uniform", DType::kF32, {0, 3}, kKey, 1, 2).empty());
}

TEST(RandomRefusesWhatItDoesNotKnow) {
  CHECK_THROWS(RunRandom("cauchy", DType::kF32, {2}, kKey, 1, 1), Code::kProgram);
  CHECK_THROWS(RunRandom("normal", DType::kI32, {2}, kKey, 1, 1), Code::kDType);
  CHECK_THROWS(KernelRun("random")
                   .String("kind", "normal")
                   .Number("stream", {1})
                   .In(DType::kI32, {2}, {1, 2})
                   .Out(DType::kF32, {2})
                   .Make(),
               Code::kShape);
}

}  // namespace
}  // namespace losscape::test
