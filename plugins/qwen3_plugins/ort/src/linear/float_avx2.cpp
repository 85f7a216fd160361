// Weights of every format, widened to float32, times float32 activations. Works on half a panel, 8 rows of the matrix.
#include <immintrin.h>

#include "kernels_avx2.h"
#include "rows.h"

namespace qwen3::linear {

namespace {

constexpr int kStep = 4;  // inputs widened at a time: half of kFloatStep, as there are half as many registers

// What `widen` leaves to be multiplied in at the end.
template <Format format>
constexpr float kUnit = format == Format::fp8 ? 256.0f : 1.0f;

inline __m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m128i load_half(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

// What is taken off stored codes: zero points where the format has them, else what is the same for all.
template <Format format>
inline __m256i offset_of(int) {
  return _mm256_set1_epi32(stored_offset(format));
}
template <Format format>
inline __m256i offset_of(int half, const ZeroPoints& zeros) {
  return zeros.halves[half];
}

// Widens four inputs of 8 rows: w[i] holds input k + i of the rows from 8 * half. `zeros` are the zero points of uint4.
template <Format format, class... Zeros>
inline void widen(const uint8_t* panel, int64_t k, int half, __m256 (&w)[kStep], const Zeros&... zeros) {
  if constexpr (format == Format::int4 || format == Format::uint4) {
    // Byte i of a lane holds input i of 8 below and input 4 + i above.
    const __m256i line = load(panel + k / 8 * 64 + 32 * half);
    const __m256i nibbles = k % 8 < 4 ? line : _mm256_srli_epi32(line, 4);
    for (int i = 0; i < kStep; ++i) {
      const __m256i code = _mm256_and_si256(_mm256_srli_epi32(nibbles, 8 * i), _mm256_set1_epi32(15));
      w[i] = _mm256_cvtepi32_ps(_mm256_sub_epi32(code, offset_of<format>(half, zeros...)));
    }
  } else if constexpr (format == Format::int8) {
    const __m256i line = load(panel + k / 4 * 64 + 32 * half);
    for (int i = 0; i < kStep; ++i) {
      const __m256i code = _mm256_and_si256(_mm256_srli_epi32(line, 8 * i), _mm256_set1_epi32(255));
      w[i] = _mm256_cvtepi32_ps(_mm256_sub_epi32(code, offset_of<format>(half, zeros...)));
    }
  } else if constexpr (format == Format::fp8) {
    // Sign, exponent and mantissa at float16's places; the biases differ by 8 (kUnit). Subnormals come out right.
    for (int i = 0; i < kStep; ++i) {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(panel + (k + i) * kPanel + 8 * half));
      const __m128i high = _mm_unpacklo_epi8(_mm_setzero_si128(), bytes);
      const __m128i bits = _mm_and_si128(_mm_srai_epi16(high, 1), _mm_set1_epi16(static_cast<short>(0xbf80)));
      w[i] = _mm256_cvtph_ps(bits);
    }
  } else if constexpr (format == Format::fp16) {
    for (int i = 0; i < kStep; ++i) w[i] = _mm256_cvtph_ps(load_half(panel + (k + i) * 2 * kPanel + 16 * half));
  } else if constexpr (format == Format::bf16) {
    for (int i = 0; i < kStep; i += 2) {
      const __m256i pair = load(panel + (k + i) * 2 * kPanel + 32 * half);
      w[i] = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
      w[i + 1] = _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    }
  } else {
    for (int i = 0; i < kStep; ++i) w[i] = _mm256_castsi256_ps(load(panel + (k + i) * 4 * kPanel + 32 * half));
  }
}

// The same of fp8 for all 16 rows, which share all but the last step.
inline void widen_both(const uint8_t* panel, int64_t k, __m256 (&w)[2][kStep]) {
  for (int i = 0; i < kStep; ++i) {
    const __m256i moved = _mm256_slli_epi16(_mm256_cvtepi8_epi16(load_half(panel + (k + i) * kPanel)), 7);
    const __m256i bits = _mm256_and_si256(moved, _mm256_set1_epi16(static_cast<short>(0xbf80)));
    w[0][i] = _mm256_cvtph_ps(_mm256_castsi256_si128(bits));
    w[1][i] = _mm256_cvtph_ps(_mm256_extracti128_si256(bits, 1));
  }
}

// sum[h][r] = over inputs [begin, end). One row runs in four chains, so that additions do not wait for each other.
template <Format format, int rows, int halves, class... Zeros>
inline void accumulate(const uint8_t* panel, const float* x, int64_t begin, int64_t end, int first,
                       __m256 (&sum)[halves][rows], const Zeros&... zeros) {
  constexpr int kChains = rows == 1 ? 4 : rows == 2 ? 2 : 1;
  __m256 part[kChains][halves][rows];
  for (int c = 0; c < kChains; ++c)
    for (int h = 0; h < halves; ++h)
      for (int r = 0; r < rows; ++r) part[c][h][r] = _mm256_setzero_ps();
  for (int64_t k = begin; k < end; k += kStep) {
    __m256 wide[halves][kStep];
    if constexpr (format == Format::fp8 && halves == 2) {
      widen_both(panel, k, wide);
    } else {
      for (int h = 0; h < halves; ++h) widen<format>(panel, k, first + h, wide[h], zeros...);
    }
    for (int h = 0; h < halves; ++h) {
      const __m256(&w)[kStep] = wide[h];
      for (int i = 0; i < kStep; ++i)
        for (int r = 0; r < rows; ++r)
          part[i % kChains][h][r] =
              _mm256_fmadd_ps(w[i], _mm256_set1_ps(x[(k + i) * rows + r]), part[i % kChains][h][r]);
    }
  }
  for (int h = 0; h < halves; ++h) {
    for (int r = 0; r < rows; ++r) {
      sum[h][r] = part[0][h][r];
      for (int c = 1; c < kChains; ++c) sum[h][r] = _mm256_add_ps(sum[h][r], part[c][h][r]);
    }
  }
}

template <Format format, int rows, int halves>
void run_halves(const Weights& weights, const Tile& tile, int64_t panel, int first, float* out) {
  const uint8_t* codes = weights.panel_codes(panel);
  __m256 sum[halves][rows], part[halves][rows];
  const bool columns = format == Format::uint4 || weights.scaling == Scaling::group_column;
  if (columns || weights.scaling == Scaling::group_panel) {
    for (int h = 0; h < halves; ++h)
      for (int r = 0; r < rows; ++r) sum[h][r] = _mm256_setzero_ps();
    for (int64_t g = 0; g < weights.groups(); ++g) {
      const int64_t begin = g * weights.group, end = (g + 1) * weights.group;
      if constexpr (format == Format::uint4)
        accumulate<format, rows, halves>(codes, tile.values, begin, end, first, part,
                                         ZeroPoints(weights.group_scales(panel, g)));
      else
        accumulate<format, rows, halves>(codes, tile.values, begin, end, first, part);
      for (int h = 0; h < halves; ++h) {
        const __m256 scale = weights.scaling == Scaling::group_panel
                                 ? _mm256_set1_ps(weights.panel_scales(panel)[g])
                                 : _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(
                                       weights.group_scales(panel, g) + 16 * (first + h))));
        for (int r = 0; r < rows; ++r) sum[h][r] = _mm256_fmadd_ps(part[h][r], scale, sum[h][r]);
      }
    }
  } else if constexpr (format != Format::uint4) {  // which always has groups
    accumulate<format, rows, halves>(codes, tile.values, 0, weights.padded_k(), first, sum);
  }
  for (int h = 0; h < halves; ++h) {
    const int at = 8 * (first + h);
    __m256 scale = _mm256_set1_ps(kUnit<format>);
    if (weights.scaling == Scaling::column)
      scale = _mm256_mul_ps(scale, _mm256_loadu_ps(weights.column_scales(panel) + at));
    for (int r = 0; r < rows; ++r) _mm256_storeu_ps(out + r * kPanel + at, _mm256_mul_ps(sum[h][r], scale));
  }
}

template <Format format>
struct Float {
  template <int rows>
  struct Panel {
    static void run(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
      if constexpr (rows <= 4) {
        run_halves<format, rows, 2>(weights, tile, panel, 0, out);
      } else {
        run_halves<format, rows, 1>(weights, tile, panel, 0, out);
        run_halves<format, rows, 1>(weights, tile, panel, 1, out);
      }
    }
  };
};

}  // namespace

template <Format format>
void float_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  by_rows<Float<format>::template Panel, kFloatRowsAvx2>(weights, tile, panel, out);
}

template void float_panel_avx2<Format::int4>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx2<Format::uint4>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx2<Format::int8>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx2<Format::fp8>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx2<Format::fp16>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx2<Format::bf16>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_avx2<Format::fp32>(const Weights&, const Tile&, int64_t, float*);

}  // namespace qwen3::linear
