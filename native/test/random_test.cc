#include "native/runtime/random.h"

#include <cstring>
#include <vector>

#include "native/test/test.h"

namespace losscape {
namespace {

// FNV-1a over 32-bit words; the expected values also stand in test/random/distributions.test.ts.
class Checksum {
 public:
  void Add(uint32_t word) { hash_ = (hash_ ^ word) * 0x01000193u; }
  void Add(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    Add(static_cast<uint32_t>(bits));
    Add(static_cast<uint32_t>(bits >> 32));
  }
  uint32_t value() const { return hash_; }

 private:
  uint32_t hash_ = 0x811c9dc5u;
};

constexpr uint64_t kSeed = 2026 + (uint64_t{5} << 32);

TEST(philox_known_answers) {
  const uint32_t key[2] = {0xa4093822u, 0x299f31d0u};
  const uint32_t counter[4] = {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u};
  uint32_t out[4];
  PhiloxBlock(key, counter, out);
  CHECK(out[0] == 0xd16cfe09u);
  CHECK(out[1] == 0x94fdccebu);
  CHECK(out[2] == 0x5001e420u);
  CHECK(out[3] == 0x24126ea1u);
  RandomBlock(0, 0, 0, out);
  CHECK(out[0] == 0x6627e8d5u);
  CHECK(out[3] == 0x9b00dbd8u);
  CHECK(RandomWord(0, 0, 2) == 0xbc57ac4cu);
}

TEST(random_normals_equal_javascript) {
  std::vector<double> z(100000);
  FillNormals(kSeed, (uint64_t{7} << 32) | 3, 5, z.size(), z.data());
  Checksum sum;
  for (double value : z) sum.Add(value);
  CHECK(sum.value() == 1371316890u);
}

TEST(random_words_equal_javascript) {
  Checksum words;
  ForEachWord(kSeed, 1, 3, 10001, [&](size_t, uint32_t word) { words.Add(word); });
  CHECK(words.value() == 4021495495u);

  std::vector<int> signs(10001);
  FillRademacher(kSeed, 2, 7, signs.size(), signs.data());
  Checksum rademacher;
  for (int sign : signs) rademacher.Add(static_cast<uint32_t>(sign));
  CHECK(rademacher.value() == 2055608670u);

  Checksum integers;
  ForEachWord(kSeed, 3, 0, 10001,
              [&](size_t, uint32_t word) { integers.Add(MultiplyHigh(word, 1000)); });
  CHECK(integers.value() == 1785462761u);

  std::vector<uint32_t> order(10001);
  FillPermutation(kSeed, 4, 10001, order.data());
  Checksum permutation;
  for (uint32_t i : order) permutation.Add(i);
  CHECK(permutation.value() == 847217481u);
}

TEST(inverse_normal_quantiles) {
  CHECK_NEAR(InverseNormal(0.975), 1.959963984540054, 1e-14);
  CHECK_NEAR(InverseNormal(1e-6), -4.753424308822899, 1e-14);
  CHECK_NEAR(LogUnit(0.5), -0.6931471805599453, 1e-15);
}

}  // namespace
}  // namespace losscape
