// The parts of the AVX-512 table, each in its own file.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels.h"

namespace qwen3::linear {

constexpr int kIntegerRowsAvx512 = 12;
constexpr int kFloatRowsAvx512 = 8;

// Zero points of 16 rows, from what `Weights::group_scales` points to.
inline __m512i zero_points_avx512(const uint8_t* scales) {
  int32_t eights[2];
  std::memcpy(eights, scales + 2 * kPanel, sizeof eights);
  const __m512i all = _mm512_mask_set1_epi32(_mm512_set1_epi32(eights[0]), 0xff00, eights[1]);
  const __m512i places = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
  return _mm512_and_si512(_mm512_srlv_epi32(all, places), _mm512_set1_epi32(15));
}

template <Format format>
void integer_panel_avx512(const Weights& weights, const Tile& tile, int64_t panel, float* out);
template <Format format>
void float_panel_avx512(const Weights& weights, const Tile& tile, int64_t panel, float* out);

}  // namespace qwen3::linear
