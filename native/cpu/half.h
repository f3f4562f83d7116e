// bf16 and f16 to f32 and back (round to nearest, ties to even; NaN stays NaN).
#pragma once

#include <cstdint>
#include <cstring>

namespace losscape {

inline float FloatOfBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t BitsOfFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float FloatFromBf16(uint16_t half) { return FloatOfBits(uint32_t{half} << 16); }

inline uint16_t Bf16FromFloat(float value) {
  const uint32_t bits = BitsOfFloat(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float FloatFromF16(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t rest = half & 0x7fffu;
  if (rest >= 0x7c00u) return FloatOfBits(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
  // Subnormals come out normalised by the multiplication; it is exact.
  const float scaled = FloatOfBits(rest << 13) * FloatOfBits(0x77800000u);  // 2^112
  return FloatOfBits(sign | BitsOfFloat(scaled));
}

inline uint16_t F16FromFloat(float value) {
  const uint32_t bits = BitsOfFloat(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (rest >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds past 65504
  if (rest < 0x38800000u) {
    // Below 2^-14: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits.
    const float sum = FloatOfBits(rest) + 0.5f;
    return static_cast<uint16_t>(sign | (BitsOfFloat(sum) - 0x3f000000u));
  }
  const uint32_t rounded = rest + 0xfffu + ((rest >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace losscape
