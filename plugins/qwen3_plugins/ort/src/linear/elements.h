// The bits of small floating-point numbers, for scalar code.
#pragma once

#include <cstdint>
#include <cstring>

#include "weights.h"

namespace qwen3::linear {

inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of_bf16(uint16_t bits) { return float_of_bits(static_cast<uint32_t>(bits) << 16); }

inline uint16_t half_bits(const uint8_t* bytes) {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return bits;
}

inline float float_of_fp16(uint16_t bits) {
  // Exponent and mantissa in place, then the difference of the exponent biases (127 - 15) by an exact product, which
  // also normalizes subnormals.
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fff) << 13;
  float value = float_of_bits(magnitude) * float_of_bits(0x77800000u);  // 2^112
  if ((bits & 0x7c00) == 0x7c00) value = float_of_bits(magnitude | 0x7f800000u);
  return (bits & 0x8000) ? -value : value;
}

// Of row c of a panel, in the bytes that hold a group's scales and zero points (`group_bytes` of them).
inline float group_scale(const uint8_t* scales, int64_t c) { return float_of_fp16(half_bits(scales + 2 * c)); }

inline int zero_point(const uint8_t* scales, int64_t c) {
  const int two = scales[2 * kPanel + c / 2];
  return c % 2 == 0 ? two & 15 : two >> 4;
}

// E4M3 without infinities (exponent bias 7); its two NaNs never occur: packers refuse them.
inline float float_of_fp8(uint8_t bits) {
  const float value = float_of_bits(static_cast<uint32_t>(bits & 0x7f) << 20) * float_of_bits(0x7b800000u);  // 2^120
  return (bits & 0x80) ? -value : value;
}

}  // namespace qwen3::linear
