#include "native/runtime/number.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace losscape {

namespace {

uint32_t Bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

uint16_t ToBF16(float value) {
  const uint32_t bits = Bits(value);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

uint16_t ToF16(float value) {
  const uint16_t sign = static_cast<uint16_t>((Bits(value) >> 16) & 0x8000);
  if (std::isnan(value)) return sign | 0x7E00;
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0f) return sign | 0x7C00;
  // 2^-14 is the smallest normal number, 2^-24 the smallest subnormal one.
  if (magnitude < 6.103515625e-05f) {
    return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 16777216.0f));
  }
  const uint32_t bits = Bits(magnitude);
  const uint32_t rounded = bits + 0xFFF + ((bits >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded >> 13) - (112u << 10));
}

template <class T>
T Saturate(double value) {
  if (std::isnan(value)) return 0;
  constexpr double low = static_cast<double>(std::numeric_limits<T>::min());
  constexpr double high = static_cast<double>(std::numeric_limits<T>::max());
  return static_cast<T>(value <= low ? low : value >= high ? high : value);
}

template <class T>
bool AnyNaN(const T* data, size_t count) {
  // Without a branch per element, so that it vectorises.
  constexpr size_t kBlock = 4096;
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t end = count - begin < kBlock ? count : begin + kBlock;
    int found = 0;
    for (size_t i = begin; i < end; ++i) found |= data[i] != data[i];
    if (found) return true;
  }
  return false;
}

bool AnyHalfNaN(const uint16_t* data, size_t count, uint16_t infinity) {
  for (size_t i = 0; i < count; ++i) {
    if ((data[i] & 0x7FFF) > infinity) return true;
  }
  return false;
}

}  // namespace

void StoreNumber(DType dtype, void* data, size_t index, double value) {
  switch (dtype) {
    case DType::kF32:
      static_cast<float*>(data)[index] = static_cast<float>(value);
      break;
    case DType::kF64:
      static_cast<double*>(data)[index] = value;
      break;
    case DType::kBF16:
      static_cast<uint16_t*>(data)[index] = ToBF16(static_cast<float>(value));
      break;
    case DType::kF16:
      static_cast<uint16_t*>(data)[index] = ToF16(static_cast<float>(value));
      break;
    case DType::kI32:
      static_cast<int32_t*>(data)[index] = Saturate<int32_t>(value);
      break;
    case DType::kU8:
      static_cast<uint8_t*>(data)[index] = Saturate<uint8_t>(value);
      break;
  }
}

bool HasNaN(DType dtype, const void* data, size_t count) {
  switch (dtype) {
    case DType::kF32:
      return AnyNaN(static_cast<const float*>(data), count);
    case DType::kF64:
      return AnyNaN(static_cast<const double*>(data), count);
    case DType::kBF16:
      return AnyHalfNaN(static_cast<const uint16_t*>(data), count, 0x7F80);
    case DType::kF16:
      return AnyHalfNaN(static_cast<const uint16_t*>(data), count, 0x7C00);
    case DType::kI32:
    case DType::kU8:
      return false;
  }
  return false;
}

}  // namespace losscape
