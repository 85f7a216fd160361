// Single rows of a head: what both vector kernels of x86 do eight values at a time.
#pragma once

#include <immintrin.h>
#include <math.h>

#include <cstdint>

#include "kernels.h"
#include "rotary.h"

namespace qwen3::attention {
namespace {

using Eight = __m256;

inline __m256 zero8() { return _mm256_setzero_ps(); }
inline __m256 scale8(__m256 values, float by) { return _mm256_mul_ps(values, _mm256_set1_ps(by)); }
inline void store8(float* to, __m256 values) { _mm256_storeu_ps(to, values); }

inline __m256 load8(const uint16_t* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}

inline __m256 load8(const int8_t* codes) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes))));
}

inline float total8(__m256 values) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

inline float highest8(__m256 values) {
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}

// The sums of four vectors, side by side.
inline __m128 totals4(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  const __m256 all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

inline __m128i totals4(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

inline void transpose8(__m256 (&rows)[8]) {
  __m256 pairs[8], quads[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

void rotate(const float* head, const float* norm, const float* cosine, const float* sine, int64_t head_dim,
            float epsilon, float scale, float* __restrict out) {
  __m256 squares = _mm256_setzero_ps();
  for (int64_t i = 0; i < head_dim; i += 8) {
    const __m256 values = _mm256_loadu_ps(head + i);
    squares = _mm256_fmadd_ps(values, values, squares);
  }
  const float inverse = scale / sqrtf(total8(squares) / static_cast<float>(head_dim) + epsilon);
  rotate_halves(head, norm, cosine, sine, head_dim, inverse, out);
}

void store_int8(const float* values, const Cache& cache, int64_t row) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 top = _mm256_setzero_ps(), poison = _mm256_setzero_ps();
  for (int64_t i = 0; i < cache.head_dim; i += 8) {
    const __m256 value = _mm256_loadu_ps(values + i);
    top = _mm256_max_ps(_mm256_and_ps(value, magnitude), top);
    poison = _mm256_fmadd_ps(value, _mm256_setzero_ps(), poison);
  }
  const float largest = highest8(top);
  const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
  int8_t* to = static_cast<int8_t*>(cache.data) + row * cache.head_dim;
  for (int64_t i = 0; i < cache.head_dim; i += 8) {
    const __m256i codes = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(values + i), inverse));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + i), _mm_packs_epi16(words, words));
  }
  cache.scales[row] = largest / 127.0f + total8(poison);  // codes cannot tell that a value was NaN
}

void store(const float* values, const Cache& cache, int64_t row) {
  if (cache.type == CacheType::kInt8) return store_int8(values, cache, row);
  uint16_t* to = static_cast<uint16_t*>(cache.data) + row * cache.head_dim;
  for (int64_t i = 0; i < cache.head_dim; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
  }
}

}  // namespace
}  // namespace qwen3::attention
