#include "native/cpu/random_words.h"

#include <algorithm>

#include "native/runtime/random.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/random_words.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Words(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, uint32_t* out) {
  size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<uint32_t> d;
  const hn::Repartition<uint64_t, decltype(d)> d64;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  const auto high = [=](V c, V factor) HWY_ATTR -> V {
    const auto even = hn::MulEven(c, factor);
    const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(d64, c))), factor);
    return hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
  };
  const V m0 = hn::Set(d, 0xD2511F53u), m1 = hn::Set(d, 0xCD9E8D57u);
  for (; done + lanes <= blocks; done += lanes) {
    const uint64_t block = first + done;
    const uint32_t low = static_cast<uint32_t>(block);
    // Counters that carry into the high word are left to the loop below.
    if (low > UINT32_MAX - lanes) break;
    V c0 = hn::Iota(d, low);
    V c1 = hn::Set(d, static_cast<uint32_t>(block >> 32));
    V c2 = hn::Set(d, static_cast<uint32_t>(stream));
    V c3 = hn::Set(d, static_cast<uint32_t>(stream >> 32));
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const V high0 = high(c0, m0), high1 = high(c2, m1);
      const V low0 = hn::Mul(c0, m0), low1 = hn::Mul(c2, m1);
      c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, k0));
      c1 = low1;
      c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, k1));
      c3 = low0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, d, out + 4 * done);
  }
#endif
  for (; done < blocks; ++done) RandomBlock(seed, stream, first + done, out + 4 * done);
}

// Exact in double, so that the compiler may order it as it likes; rounded once.
template <typename T>
void Uniforms(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, T* out) {
  constexpr size_t kTogether = 256;
  HWY_ALIGN uint32_t words[4 * kTogether];
  for (size_t done = 0; done < blocks; done += kTogether) {
    const size_t some = std::min(kTogether, blocks - done);
    Words(seed, stream, first + done, some, words);
    T* to = out + 4 * done;
    for (size_t k = 0; k < 4 * some; ++k) {
      to[k] = static_cast<T>((static_cast<double>(words[k]) + 0.5) * 2.3283064365386963e-10);
    }
  }
}

void UniformsF32(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, float* out) {
  Uniforms(seed, stream, first, blocks, out);
}
void UniformsF64(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, double* out) {
  Uniforms(seed, stream, first, blocks, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(Words);
HWY_EXPORT(UniformsF32);
HWY_EXPORT(UniformsF64);

void RandomWords(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, uint32_t* out) {
  HWY_DYNAMIC_DISPATCH(Words)(seed, stream, first, blocks, out);
}
void UniformBlocks(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, float* out) {
  HWY_DYNAMIC_DISPATCH(UniformsF32)(seed, stream, first, blocks, out);
}
void UniformBlocks(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, double* out) {
  HWY_DYNAMIC_DISPATCH(UniformsF64)(seed, stream, first, blocks, out);
}

}  // namespace losscape
#endif  // HWY_ONCE
