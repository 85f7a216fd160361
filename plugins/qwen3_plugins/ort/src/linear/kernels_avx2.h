// The parts of the AVX2 table, each in its own file.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels.h"

namespace qwen3::linear {

constexpr int kIntegerRowsAvx2 = 6;
constexpr int kFloatRowsAvx2 = 6;

// Zero points of 8 rows each, from what `Weights::group_scales` points to.
struct ZeroPoints {
  explicit ZeroPoints(const uint8_t* scales) {
    int32_t eights[2];
    std::memcpy(eights, scales + 2 * kPanel, sizeof eights);
    const __m256i places = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    for (int h = 0; h < 2; ++h)
      halves[h] = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(eights[h]), places), _mm256_set1_epi32(15));
  }
  __m256i halves[2];
};

template <Format format>
void integer_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out);
template <Format format>
void float_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out);

}  // namespace qwen3::linear
