// What is done with rows of activations and of results, and the table, for AVX-512.
#include "kernels_avx512.h"

#include <immintrin.h>

#include <cmath>
#include <initializer_list>

namespace qwen3::linear {

namespace {

inline __mmask16 first(int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1);
}

void normalize(const float* x, const float* weight, int64_t k, float epsilon, float* out) {
  __m512 squares[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int64_t i = 0; i < k; i += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(first(k - i), x + i);
    squares[i / 16 % 4] = _mm512_fmadd_ps(v, v, squares[i / 16 % 4]);
  }
  const __m512 all = _mm512_add_ps(_mm512_add_ps(squares[0], squares[1]), _mm512_add_ps(squares[2], squares[3]));
  const float mean = _mm512_reduce_add_ps(all) / static_cast<float>(k);
  const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(mean + epsilon));
  for (int64_t i = 0; i < k; i += 16) {
    const __mmask16 mask = first(k - i);
    const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
    _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, weight + i)));
  }
}

// Codes of NaN wrap in the sum, which GCC's _mm512_reduce_add_epi32 leaves undefined.
inline uint32_t total_of(__m512i lanes) {
  const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
}

void quantize(const float* values, int64_t padded_k, int64_t group, int factor, Tile& tile, int r) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int64_t g = 0; g < padded_k / group; ++g) {
    const float* x = values + g * group;
    // Compared as integers, NaN is above infinity and stays.
    __m512i bits = _mm512_setzero_si512();
    for (int64_t i = 0; i < group; i += 16) {
      const __m512i v = _mm512_maskz_loadu_epi32(first(group - i), x + i);
      bits = _mm512_max_epu32(bits, _mm512_and_si512(v, magnitude));
    }
    const float largest =
        _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(_mm512_reduce_max_epu32(bits)))));
    const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    __m512i sum = _mm512_setzero_si512();
    int8_t* codes = tile.codes + g * group * tile.rows + r * 4;
    for (int64_t i = 0; i < group; i += 16) {
      const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(first(group - i), x + i), inverse);
      const __m512i code = _mm512_cvtps_epi32(v);
      sum = _mm512_add_epi32(sum, code);
      alignas(16) int32_t fours[4];
      _mm_store_si128(reinterpret_cast<__m128i*>(fours), _mm512_cvtsepi32_epi8(code));
      for (int64_t j = 0; j < 4 && i + 4 * j < group; ++j)
        *reinterpret_cast<int32_t*>(codes + (i / 4 + j) * 4 * tile.rows) = fours[j];
    }
    tile.scales[g * tile.rows + r] = largest / 127.0f;
    tile.corrections[g * tile.rows + r] = static_cast<int32_t>(static_cast<uint32_t>(-factor) * total_of(sum));
  }
}

// e^x for x <= 0 within 2 units in the last place: 2^n times a polynomial in the rest.
inline __m512 exp_negative(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-87.0f));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
  __m512 rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), rest);
  __m512 p = _mm512_set1_ps(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, n);
}

inline __m512 silu(__m512 x) {
  // x / (1 + e^-x) without overflow: with t = e^-|x|, 1 / (1 + t) for x >= 0 and t / (1 + t) below.
  const __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
  const __m512 t = exp_negative(_mm512_or_ps(x, _mm512_set1_ps(-0.0f)));
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_mul_ps(x, _mm512_div_ps(_mm512_mask_mov_ps(one, negative, t), _mm512_add_ps(one, t)));
}

void store(const float* tile, const float* residual, int count, float* y) {
  const __mmask16 mask = first(count);
  __m512 v = _mm512_loadu_ps(tile);
  if (residual != nullptr) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, residual));
  _mm512_mask_storeu_ps(y, mask, v);
}

void swiglu(const float* gate, const float* up, const float* residual, int count, float* y) {
  const __mmask16 mask = first(count);
  __m512 v = _mm512_mul_ps(silu(_mm512_loadu_ps(gate)), _mm512_loadu_ps(up));
  if (residual != nullptr) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, residual));
  _mm512_mask_storeu_ps(y, mask, v);
}

}  // namespace

const Kernels kAvx512Kernels = {
    kIntegerRowsAvx512,
    kFloatRowsAvx512,
    {integer_panel_avx512<Format::int4>, integer_panel_avx512<Format::uint4>, integer_panel_avx512<Format::int8>},
    {float_panel_avx512<Format::int4>, float_panel_avx512<Format::uint4>, float_panel_avx512<Format::int8>,
     float_panel_avx512<Format::fp8>, float_panel_avx512<Format::fp16>, float_panel_avx512<Format::bf16>,
     float_panel_avx512<Format::fp32>},
    normalize,
    quantize,
    store,
    swiglu,
};

}  // namespace qwen3::linear
