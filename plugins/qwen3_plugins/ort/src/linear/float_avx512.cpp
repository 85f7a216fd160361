// Weights of every format, widened to float32, times float32 activations.
#include <immintrin.h>

#include "kernels_avx512.h"
#include "rows.h"

namespace qwen3::linear {

namespace {

// What `widen` leaves to be multiplied in at the end.
template <Format format>
constexpr float kUnit = format == Format::fp8 ? 256.0f : 1.0f;

// What is taken off stored codes: zero points where the format has them, else what is the same for all.
template <Format format>
inline __m512i offset_of() {
  return _mm512_set1_epi32(stored_offset(format));
}
template <Format format>
inline __m512i offset_of(__m512i zeros) {
  return zeros;
}

// Widens eight inputs of 16 rows: w[i] holds input i. `zeros` are the zero points of uint4.
template <Format format, class... Zeros>
inline void widen(const uint8_t* panel, int64_t k, __m512 (&w)[kFloatStep], const Zeros&... zeros) {
  if constexpr (format == Format::int4 || format == Format::uint4) {
    // Byte i of a lane holds input i below and input 4 + i above.
    const __m512i line = _mm512_loadu_si512(panel + k / 8 * 64);
    const __m512i mask = _mm512_set1_epi32(15), offset = offset_of<format>(zeros...);
    for (int i = 0; i < 8; ++i) {
      const __m512i code =
          _mm512_and_si512(_mm512_srli_epi32(line, static_cast<unsigned>(i % 4 * 8 + i / 4 * 4)), mask);
      w[i] = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, offset));
    }
  } else if constexpr (format == Format::int8) {
    const __m512i mask = _mm512_set1_epi32(255), offset = offset_of<format>(zeros...);
    for (int i = 0; i < 8; ++i) {
      const __m512i line = _mm512_loadu_si512(panel + (k / 4 + i / 4) * 64);
      const __m512i code = _mm512_and_si512(_mm512_srli_epi32(line, static_cast<unsigned>(i % 4 * 8)), mask);
      w[i] = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, offset));
    }
  } else if constexpr (format == Format::fp8) {
    // Sign, exponent and mantissa at float16's places; the biases differ by 8 (kUnit). Subnormals come out right.
    for (int i = 0; i < 8; ++i) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(panel + (k + i) * kPanel));
      const __m256i moved = _mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 7);
      w[i] = _mm512_cvtph_ps(_mm256_and_si256(moved, _mm256_set1_epi16(static_cast<short>(0xbf80))));
    }
  } else if constexpr (format == Format::fp16) {
    for (int i = 0; i < 8; ++i)
      w[i] = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + (k + i) * 2 * kPanel)));
  } else if constexpr (format == Format::bf16) {
    for (int i = 0; i < 8; i += 2) {
      const __m512i pair = _mm512_loadu_si512(panel + (k + i) * 2 * kPanel);
      w[i] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
      w[i + 1] = _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    }
  } else {
    for (int i = 0; i < 8; ++i) w[i] = _mm512_loadu_ps(panel + (k + i) * 4 * kPanel);
  }
}

// sum[r] += over inputs [begin, end). A single row runs in four chains, so that additions do not wait for each other.
template <Format format, int rows, class... Zeros>
inline void accumulate(const uint8_t* panel, const float* x, int64_t begin, int64_t end, __m512 (&sum)[rows],
                       const Zeros&... zeros) {
  constexpr int kChains = rows == 1 ? 4 : rows <= 3 ? 2 : 1;
  __m512 part[kChains][rows];
  for (int c = 0; c < kChains; ++c)
    for (int r = 0; r < rows; ++r) part[c][r] = _mm512_setzero_ps();
  for (int64_t k = begin; k < end; k += kFloatStep) {
    __m512 w[kFloatStep];
    widen<format>(panel, k, w, zeros...);
    for (int i = 0; i < kFloatStep; ++i)
      for (int r = 0; r < rows; ++r)
        part[i % kChains][r] = _mm512_fmadd_ps(w[i], _mm512_set1_ps(x[(k + i) * rows + r]), part[i % kChains][r]);
  }
  for (int c = 1; c < kChains; ++c)
    for (int r = 0; r < rows; ++r) part[0][r] = _mm512_add_ps(part[0][r], part[c][r]);
  for (int r = 0; r < rows; ++r) sum[r] = part[0][r];
}

template <Format format, int rows>
void panel_of(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  const uint8_t* codes = weights.panel_codes(panel);
  __m512 sum[rows], part[rows];
  const bool columns = format == Format::uint4 || weights.scaling == Scaling::group_column;
  if (columns || weights.scaling == Scaling::group_panel) {
    for (int r = 0; r < rows; ++r) sum[r] = _mm512_setzero_ps();
    for (int64_t g = 0; g < weights.groups(); ++g) {
      const int64_t begin = g * weights.group, end = (g + 1) * weights.group;
      if constexpr (format == Format::uint4)
        accumulate<format, rows>(codes, tile.values, begin, end, part,
                                 zero_points_avx512(weights.group_scales(panel, g)));
      else
        accumulate<format, rows>(codes, tile.values, begin, end, part);
      const __m512 scale =
          weights.scaling == Scaling::group_panel
              ? _mm512_set1_ps(weights.panel_scales(panel)[g])
              : _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights.group_scales(panel, g))));
      for (int r = 0; r < rows; ++r) sum[r] = _mm512_fmadd_ps(part[r], scale, sum[r]);
    }
  } else if constexpr (format != Format::uint4) {  // which always has groups
    accumulate<format, rows>(codes, tile.values, 0, weights.padded_k(), sum);
  }
  if (weights.scaling == Scaling::column) {
    const __m512 scale = _mm512_loadu_ps(weights.column_scales(panel));
    for (int r = 0; r < rows; ++r) sum[r] = _mm512_mul_ps(sum[r], scale);
  }
  const __m512 unit = _mm512_set1_ps(kUnit<format>);
  for (int r = 0; r < rows; ++r) _mm512_storeu_ps(out + r * kPanel, _mm512_mul_ps(sum[r], unit));
}

template <Format format>
struct Float {
  template <int rows>
  struct Panel {
    static void run(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
      panel_of<format, rows>(weights, tile, panel, out);
    }
  };
};

}  // namespace

template <Format format>
void float_panel_avx512(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  by_rows<Float<format>::template Panel, kFloatRowsAvx512>(weights, tile, panel, out);
}

template void float_panel_avx512<Format::int4>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx512<Format::uint4>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx512<Format::int8>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx512<Format::fp8>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx512<Format::fp16>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx512<Format::bf16>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx512<Format::fp32>(const Weights&, const Tile&, int64_t, float*);

}  // namespace qwen3::linear
