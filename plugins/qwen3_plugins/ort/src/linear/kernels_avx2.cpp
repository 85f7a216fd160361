// What is done with rows of activations and of results, and the table, for AVX2.
#include "kernels_avx2.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>

namespace qwen3::linear {

namespace {

inline __m256i first(int64_t count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(std::min<int64_t>(count, 8))), lanes);
}

inline float sum_of(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

void normalize(const float* x, const float* weight, int64_t k, float epsilon, float* out) {
  __m256 squares[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int64_t i = 0; i < k; i += 8) {
    const __m256 v = _mm256_maskload_ps(x + i, first(k - i));
    squares[i / 8 % 4] = _mm256_fmadd_ps(v, v, squares[i / 8 % 4]);
  }
  const __m256 all = _mm256_add_ps(_mm256_add_ps(squares[0], squares[1]), _mm256_add_ps(squares[2], squares[3]));
  const __m256 factor = _mm256_set1_ps(1.0f / std::sqrt(sum_of(all) / static_cast<float>(k) + epsilon));
  for (int64_t i = 0; i < k; i += 8) {
    const __m256i mask = first(k - i);
    const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), factor);
    _mm256_maskstore_ps(out + i, mask, _mm256_mul_ps(v, _mm256_maskload_ps(weight + i, mask)));
  }
}

void quantize(const float* values, int64_t padded_k, int64_t group, int factor, Tile& tile, int r) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  for (int64_t g = 0; g < padded_k / group; ++g) {
    const float* x = values + g * group;
    // Compared as integers, NaN is above infinity and stays.
    __m256i bits = _mm256_setzero_si256();
    for (int64_t i = 0; i < group; i += 8)
      bits = _mm256_max_epu32(bits, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
    __m128i most = _mm_max_epu32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4e));
    most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0xb1));
    const float largest = _mm_cvtss_f32(_mm_castsi128_ps(most));
    const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    __m256i sum = _mm256_setzero_si256();
    int8_t* codes = tile.codes + g * group * tile.rows + r * 4;
    for (int64_t i = 0; i < group; i += 8) {
      const __m256i code = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse));
      sum = _mm256_add_epi32(sum, code);
      const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
      const __m128i bytes = _mm_packs_epi16(words, words);
      *reinterpret_cast<int32_t*>(codes + i / 4 * 4 * tile.rows) = _mm_cvtsi128_si32(bytes);
      *reinterpret_cast<int32_t*>(codes + (i / 4 + 1) * 4 * tile.rows) = _mm_extract_epi32(bytes, 1);
    }
    __m128i total = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0x4e));
    total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0xb1));
    tile.scales[g * tile.rows + r] = largest / 127.0f;
    tile.corrections[g * tile.rows + r] =
        static_cast<int32_t>(static_cast<uint32_t>(-factor) * static_cast<uint32_t>(_mm_cvtsi128_si32(total)));
  }
}

// e^x for x <= 0 within 2 units in the last place: 2^n times a polynomial in the rest.
inline __m256 exp_negative(__m256 x) {
  x = _mm256_max_ps(x, _mm256_set1_ps(-87.0f));
  const __m256 n =
      _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 rest = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  rest = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), rest);
  __m256 p = _mm256_set1_ps(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = _mm256_fmadd_ps(p, rest, _mm256_set1_ps(c));
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(exponent));
}

inline __m256 silu(__m256 x) {
  // x / (1 + e^-x) without overflow: with t = e^-|x|, 1 / (1 + t) for x >= 0 and t / (1 + t) below.
  const __m256 t = exp_negative(_mm256_or_ps(x, _mm256_set1_ps(-0.0f)));
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_mul_ps(x, _mm256_div_ps(_mm256_blendv_ps(one, t, x), _mm256_add_ps(one, t)));
}

inline void finish(__m256 v, const float* residual, int at, int count, float* y) {
  const __m256i mask = first(count - at);
  if (residual != nullptr) v = _mm256_add_ps(v, _mm256_maskload_ps(residual + at, mask));
  _mm256_maskstore_ps(y + at, mask, v);
}

void store(const float* tile, const float* residual, int count, float* y) {
  for (int at = 0; at < count; at += 8) finish(_mm256_loadu_ps(tile + at), residual, at, count, y);
}

void swiglu(const float* gate, const float* up, const float* residual, int count, float* y) {
  for (int at = 0; at < count; at += 8)
    finish(_mm256_mul_ps(silu(_mm256_loadu_ps(gate + at)), _mm256_loadu_ps(up + at)), residual, at, count, y);
}

}  // namespace

const Kernels kAvx2Kernels = {
    kIntegerRowsAvx2,
    kFloatRowsAvx2,
    {integer_panel_avx2<Format::int4>, integer_panel_avx2<Format::uint4>, integer_panel_avx2<Format::int8>},
    {float_panel_avx2<Format::int4>, float_panel_avx2<Format::uint4>, float_panel_avx2<Format::int8>,
     float_panel_avx2<Format::fp8>, float_panel_avx2<Format::fp16>, float_panel_avx2<Format::bf16>,
     float_panel_avx2<Format::fp32>},
    normalize,
    quantize,
    store,
    swiglu,
};

}  // namespace qwen3::linear
