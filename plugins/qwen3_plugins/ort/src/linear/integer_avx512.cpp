// int4, uint4 and int8 weights times int8 activations with vpdpbusd: 16 rows of the matrix are 16 lanes.
#include <immintrin.h>

#include "kernels_avx512.h"
#include "rows.h"

namespace qwen3::linear {

namespace {

// Four consecutive codes of an activation row, in every lane.
inline __m512i four(const int8_t* codes) { return _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(codes)); }

// With few rows the next lines of a panel are asked for early: the processor itself stops at the end of a page.
constexpr int kStreamingRows = 4;  // of activations, at most
constexpr int kAhead = 2048;  // bytes

// Keeps a sum in its register at this place, so that the compiler neither reorders nor spills around it.
inline void hold(__m512i& v) { asm("" : "+v"(v)); }

// Adds what 64 bytes of a panel contribute; `x` are the activations at the first of their inputs.
template <int rows>
struct Int4Line {
  static constexpr int kInputs = 8;
  static inline void add(const uint8_t* line, const int8_t* x, __m512i (&dot)[rows]) {
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i pairs = _mm512_loadu_si512(line);
    const __m512i low = _mm512_and_si512(pairs, mask);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), mask);
    for (int r = 0; r < rows; ++r) hold(dot[r] = _mm512_dpbusd_epi32(dot[r], low, four(x + 4 * r)));
    for (int r = 0; r < rows; ++r) hold(dot[r] = _mm512_dpbusd_epi32(dot[r], high, four(x + 4 * rows + 4 * r)));
  }
};

template <int rows>
struct Int8Line {
  static constexpr int kInputs = 4;
  static inline void add(const uint8_t* line, const int8_t* x, __m512i (&dot)[rows]) {
    const __m512i codes = _mm512_loadu_si512(line);
    for (int r = 0; r < rows; ++r) hold(dot[r] = _mm512_dpbusd_epi32(dot[r], codes, four(x + 4 * r)));
  }
};

// What the sums of a group begin with, so that they come to products with codes less their offsets.
template <Format format, int rows>
inline void start(const uint8_t* scales, const int32_t* corrections, __m512i (&dot)[rows]) {
  if constexpr (format == Format::uint4) {
    // Both factors fit 16 bits: a group's activation codes sum to 128 * 127 at most. A zero point's high half is zero.
    const __m512i zeros = zero_points_avx512(scales);
    for (int r = 0; r < rows; ++r) dot[r] = _mm512_madd_epi16(zeros, _mm512_set1_epi32(corrections[r]));
  } else {
    for (int r = 0; r < rows; ++r) dot[r] = _mm512_set1_epi32(corrections[r]);
  }
}

template <Format format, template <int> class Line, int rows, bool grouped>
inline void panel_of(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  const int64_t groups = weights.groups();
  const int lines = static_cast<int>(weights.group) / Line<rows>::kInputs;
  const uint8_t* line = weights.panel_codes(panel);
  const uint8_t* scales = grouped ? weights.group_scales(panel) : nullptr;
  const int8_t* x = tile.codes;
  const float* x_scales = tile.scales;
  const int32_t* corrections = tile.corrections;
  __m512 sum[rows];
  for (int r = 0; r < rows; ++r) sum[r] = _mm512_setzero_ps();
  for (int64_t g = 0; g < groups; ++g) {
    __m512i dot[rows];
    start<format>(scales, corrections, dot);
    int i = 0;
    do {
      if constexpr (rows <= kStreamingRows) _mm_prefetch(reinterpret_cast<const char*>(line) + kAhead, _MM_HINT_T0);
      Line<rows>::add(line, x, dot);
      line += 64;
      x += Line<rows>::kInputs * rows;
    } while (++i < lines);
    __m512 scale = _mm512_set1_ps(1.0f);
    if constexpr (grouped) {
      scale = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
      scales += group_bytes(format);
    }
    for (int r = 0; r < rows; ++r) {
      const __m512 both = grouped ? _mm512_mul_ps(scale, _mm512_set1_ps(x_scales[r])) : _mm512_set1_ps(x_scales[r]);
      sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r]), both, sum[r]);
    }
    x_scales += rows;
    corrections += rows;
  }
  for (int r = 0; r < rows; ++r) {
    if constexpr (!grouped) sum[r] = _mm512_mul_ps(sum[r], _mm512_loadu_ps(weights.column_scales(panel)));
    _mm512_storeu_ps(out + r * kPanel, sum[r]);
  }
}

template <Format format>
struct Integer {
  template <int rows>
  struct Panel {
    static void run(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
      if constexpr (format != Format::int8)
        panel_of<format, Int4Line, rows, true>(weights, tile, panel, out);
      else if (weights.scaling == Scaling::group_column)
        panel_of<format, Int8Line, rows, true>(weights, tile, panel, out);
      else
        panel_of<format, Int8Line, rows, false>(weights, tile, panel, out);
    }
  };
};

}  // namespace

template <Format format>
void integer_panel_avx512(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  by_rows<Integer<format>::template Panel, kIntegerRowsAvx512>(weights, tile, panel, out);
}

template void integer_panel_avx512<Format::int4>(const Weights&, const Tile&, int64_t, float*);
template void integer_panel_avx512<Format::uint4>(const Weights&, const Tile&, int64_t, float*);
template void integer_panel_avx512<Format::int8>(const Weights&, const Tile&, int64_t, float*);

}  // namespace qwen3::linear
