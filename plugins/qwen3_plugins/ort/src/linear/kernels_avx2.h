// The parts of the AVX2 table, each in its own file.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels.h"

namespace qwen3::linear {

constexpr int kIntegerRowsAvx2 = 6;
constexpr int kFloatRowsAvx2 = 6;

// What is taken off the stored codes of a group, for each of the 8 rows from 8 * half: zero points, or what is the same
// for all.
template <Format format>
inline __m256i offsets_avx2(const uint8_t* scales, int half) {
  if constexpr (format != Format::uint4) return _mm256_set1_epi32(stored_offset(format));
  int32_t eight;
  std::memcpy(&eight, scales + 2 * kPanel + 4 * half, sizeof eight);
  const __m256i places = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  return _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(eight), places), _mm256_set1_epi32(15));
}

template <Format format>
void integer_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out);
template <Format format>
void float_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out);

}  // namespace qwen3::linear
