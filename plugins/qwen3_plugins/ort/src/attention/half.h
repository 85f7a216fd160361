// Rounding to IEEE half precision in plain C++, for the scalar kernels and machines without F16C.
#pragma once

#include "../linear/elements.h"

namespace qwen3::attention {

// Rounds to nearest, ties to even; beyond the largest finite half gives infinity.
inline uint16_t float_to_half(float value) {
  const uint32_t bits = linear::bits_of_float(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    // Adding 0.5 leaves the subnormal half, rounded, in the low bits of the sum.
    return static_cast<uint16_t>(sign | (linear::bits_of_float(linear::float_of_bits(magnitude) + 0.5f) - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000;
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

}  // namespace qwen3::attention
