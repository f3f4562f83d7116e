// Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), bit for bit
// the streams of lib/random. Element i of stream s is word i mod 4 of the block with counter
// (i div 4 as u64, s as u64) under the key `seed` (u64).
//
// Everything real-valued is made of + - * / and sqrt in a fixed order, and must not be contracted
// into fused multiply-adds: GCC contracts by default where the target has FMA, so each function
// that computes in double carries LOSSCAPE_NO_CONTRACT; Clang contracts only inside one
// expression, which the pragma forbids; device code uses the intrinsics that never contract.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define LOSSCAPE_HD __host__ __device__
#else
#define LOSSCAPE_HD
#endif

#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define LOSSCAPE_NO_CONTRACT __attribute__((optimize("fp-contract=off")))
#define LOSSCAPE_INLINE_NO_CONTRACT LOSSCAPE_NO_CONTRACT __attribute__((always_inline)) inline
#else
#define LOSSCAPE_NO_CONTRACT
#define LOSSCAPE_INLINE_NO_CONTRACT LOSSCAPE_HD inline
#endif

namespace losscape {

// High 32 bits of a 64-bit product; also maps a word to [0, bound) by floor(word * bound / 2^32).
LOSSCAPE_HD inline uint32_t MultiplyHigh(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
}

// One block: counter (4 words), key (2 words) -> out (4 words). `out` may be `counter`.
LOSSCAPE_HD inline void PhiloxBlock(const uint32_t key[2], const uint32_t counter[4],
                                    uint32_t out[4]) {
  uint32_t k0 = key[0], k1 = key[1];
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = MultiplyHigh(0xD2511F53u, c0);
    const uint32_t high1 = MultiplyHigh(0xCD9E8D57u, c2);
    const uint32_t low0 = 0xD2511F53u * c0;
    const uint32_t low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// Words 4 * block ... 4 * block + 3 of a stream.
LOSSCAPE_HD inline void RandomBlock(uint64_t seed, uint64_t stream, uint64_t block,
                                    uint32_t out[4]) {
  const uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const uint32_t counter[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                               static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  PhiloxBlock(key, counter, out);
}

// Word i of a stream. Runs a whole block: loops should use the Fill functions.
LOSSCAPE_HD inline uint32_t RandomWord(uint64_t seed, uint64_t stream, uint64_t i) {
  uint32_t block[4];
  RandomBlock(seed, stream, i / 4, block);
  return block[i % 4];
}

namespace random_internal {

#if defined(__CUDA_ARCH__)
__device__ inline double Mul(double a, double b) { return __dmul_rn(a, b); }
__device__ inline double MulAdd(double a, double b, double c) {
  return __dadd_rn(__dmul_rn(a, b), c);
}
#elif defined(__clang__)
inline double Mul(double a, double b) {
#pragma clang fp contract(off)
  return a * b;
}
inline double MulAdd(double a, double b, double c) {
#pragma clang fp contract(off)
  const double product = a * b;
  return product + c;
}
#else
LOSSCAPE_INLINE_NO_CONTRACT double Mul(double a, double b) { return a * b; }
LOSSCAPE_INLINE_NO_CONTRACT double MulAdd(double a, double b, double c) {
  const double product = a * b;
  return product + c;
}
#endif

}  // namespace random_internal

// (word + 1/2) 2^-32, in (0, 1); exact in double.
LOSSCAPE_HD inline double UniformFromWord(uint32_t word) {
  return (static_cast<double>(word) + 0.5) * 2.3283064365386963e-10;
}

// Natural logarithm for x in [2^-60, 1], within 2 ulp. The twin of logUnit in lib/random.
LOSSCAPE_NO_CONTRACT LOSSCAPE_HD inline double LogUnit(double x) {
  using random_internal::Mul;
  using random_internal::MulAdd;
  const double scales[6] = {4294967296.0, 65536.0, 256.0, 16.0, 4.0, 2.0};
  double m = x;
  double e = 0;
  int shift = 32;
  for (int k = 0; k < 6; ++k, shift >>= 1) {
    if (m * scales[k] < 0.7071067811865476 * 2) {
      m = m * scales[k];
      e = e - shift;
    }
  }
  const double s = (m - 1) / (m + 1);
  const double z = Mul(s, s);
  double p = 1.0 / 23;
  for (int odd = 21; odd >= 3; odd -= 2) p = MulAdd(p, z, 1.0 / odd);
  const double tail = Mul(2 * s, Mul(z, p));
  const double low = MulAdd(e, 1.9082149292705877e-10, tail);
  return MulAdd(e, 0.6931471803691238, 2 * s + low);
}

// The standard normal quantile of u in [2^-33, 1 - 2^-33] (Wichura, AS 241, PPND16).
LOSSCAPE_NO_CONTRACT LOSSCAPE_HD inline double InverseNormal(double u) {
  using random_internal::Mul;
  using random_internal::MulAdd;
  const double q = u - 0.5;
  if (q >= -0.425 && q <= 0.425) {
    const double r = 0.180625 - Mul(q, q);
    double a = 2509.0809287301226727;
    a = MulAdd(a, r, 33430.575583588128105);
    a = MulAdd(a, r, 67265.770927008700853);
    a = MulAdd(a, r, 45921.953931549871457);
    a = MulAdd(a, r, 13731.693765509461125);
    a = MulAdd(a, r, 1971.5909503065514427);
    a = MulAdd(a, r, 133.14166789178437745);
    a = MulAdd(a, r, 3.387132872796366608);
    double b = 5226.495278852854561;
    b = MulAdd(b, r, 28729.085735721942674);
    b = MulAdd(b, r, 39307.89580009271061);
    b = MulAdd(b, r, 21213.794301586595867);
    b = MulAdd(b, r, 5394.1960214247511077);
    b = MulAdd(b, r, 687.1870074920579083);
    b = MulAdd(b, r, 42.313330701600911252);
    b = MulAdd(b, r, 1.0);
    return Mul(q, a) / b;
  }
  const double tail = q < 0 ? u : 1 - u;
  const double r = std::sqrt(-LogUnit(tail)) - 1.6;
  double c = 7.7454501427834140764e-4;
  c = MulAdd(c, r, 0.0227238449892691845833);
  c = MulAdd(c, r, 0.24178072517745061177);
  c = MulAdd(c, r, 1.27045825245236838258);
  c = MulAdd(c, r, 3.64784832476320460504);
  c = MulAdd(c, r, 5.7694972214606914055);
  c = MulAdd(c, r, 4.6303378461565452959);
  c = MulAdd(c, r, 1.42343711074968357734);
  double d = 1.05075007164441684324e-9;
  d = MulAdd(d, r, 5.475938084995344946e-4);
  d = MulAdd(d, r, 0.0151986665636164571966);
  d = MulAdd(d, r, 0.14810397642748007459);
  d = MulAdd(d, r, 0.68976733498510000455);
  d = MulAdd(d, r, 1.6763848301838038494);
  d = MulAdd(d, r, 2.05319162663775882187);
  d = MulAdd(d, r, 1.0);
  const double z = c / d;
  return q < 0 ? -z : z;
}

// +1 or -1 for element i of a Rademacher stream, given word i div 32.
LOSSCAPE_HD inline int SignFromWord(uint32_t word, uint64_t i) {
  return ((word >> (i & 31)) & 1u) ? 1 : -1;
}

// Calls visit(k, word) for words start + k, k = 0 ... count - 1, running each block once.
template <typename Visit>
inline void ForEachWord(uint64_t seed, uint64_t stream, uint64_t start, size_t count, Visit visit) {
  uint32_t block[4];
  for (size_t k = 0; k < count;) {
    const uint64_t i = start + k;
    RandomBlock(seed, stream, i / 4, block);
    for (uint32_t lane = static_cast<uint32_t>(i % 4); lane < 4 && k < count; ++lane, ++k) {
      visit(k, block[lane]);
    }
  }
}

// out[k] = uniform start + k, in (0, 1). In float the largest round to 1.
template <typename T>
inline void FillUniforms(uint64_t seed, uint64_t stream, uint64_t start, size_t count, T* out) {
  ForEachWord(seed, stream, start, count,
              [out](size_t k, uint32_t word) { out[k] = static_cast<T>(UniformFromWord(word)); });
}

// out[k] = standard normal start + k, rounded from double.
template <typename T>
inline void FillNormals(uint64_t seed, uint64_t stream, uint64_t start, size_t count, T* out) {
  ForEachWord(seed, stream, start, count, [out](size_t k, uint32_t word) {
    out[k] = static_cast<T>(InverseNormal(UniformFromWord(word)));
  });
}

// out[k] = +1 or -1: bit i mod 32 of word i div 32 with i = start + k.
template <typename T>
inline void FillRademacher(uint64_t seed, uint64_t stream, uint64_t start, size_t count, T* out) {
  if (count == 0) return;
  const uint64_t first = start / 32;
  const uint64_t last = (start + count - 1) / 32;
  ForEachWord(seed, stream, first, static_cast<size_t>(last - first + 1),
              [=](size_t w, uint32_t word) {
                const uint64_t begin = (first + w) * 32;
                const uint64_t from = begin > start ? begin : start;
                const uint64_t end = start + count;
                const uint64_t to = begin + 32 < end ? begin + 32 : end;
                for (uint64_t i = from; i < to; ++i) {
                  out[i - start] = static_cast<T>(SignFromWord(word, i));
                }
              });
}

// A random order of 0 ... n - 1 (Fisher-Yates from the end). n < 2^32.
template <typename Index>
inline void FillPermutation(uint64_t seed, uint64_t stream, uint32_t n, Index* order) {
  for (uint32_t i = 0; i < n; ++i) order[i] = static_cast<Index>(i);
  uint32_t block[4];
  for (uint32_t i = n; i-- > 1;) {
    if (i + 1 == n || i % 4 == 3) RandomBlock(seed, stream, i / 4, block);
    const uint32_t j = MultiplyHigh(block[i % 4], i + 1);
    const Index held = order[i];
    order[i] = order[j];
    order[j] = held;
  }
}

}  // namespace losscape
