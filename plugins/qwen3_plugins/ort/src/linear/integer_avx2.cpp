// int4, uint4 and int8 weights times int8 activations with vpmaddubsw. A panel is two vectors wide: half a line is 8
// rows of the matrix. One or two rows of activations take both halves of a line together, so that memory is read once
// and in order; more take one half after the other, which leaves registers for six.
#include <immintrin.h>

#include "kernels_avx2.h"
#include "rows.h"

namespace qwen3::linear {

namespace {

inline __m256i four(const int8_t* codes) { return _mm256_set1_epi32(*reinterpret_cast<const int32_t*>(codes)); }

inline __m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// With few rows the next lines of a panel are asked for early: the processor itself stops at the end of a page.
constexpr int kAhead = 2048;  // bytes

// Keeps a sum in its register at this place: left alone, GCC forms all the products first and spills them.
inline void hold(__m256i& v) { asm("" : "+x"(v)); }

// Adds what 32 inputs contribute to dot (int32) and leaves `line` and `x` behind them. `first` is the half to begin
// with.
template <int rows, int halves>
struct Int4Block {
  static constexpr int kLines = 4;
  static inline void add(const uint8_t* line, const int8_t* x, __m256i (&dot)[halves][rows]) {
    const __m256i mask = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    // A product pair is at most 2 * 15 * 127 = 3,810: eight fit 16 bits.
    __m256i sum[halves][rows];
    for (int i = 0; i < kLines; ++i) {
      for (int h = 0; h < halves; ++h) {
        const __m256i pairs = load(line + 64 * i + 32 * h);
        const __m256i low = _mm256_and_si256(pairs, mask);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), mask);
        for (int r = 0; r < rows; ++r) {
          const __m256i a = _mm256_maddubs_epi16(low, four(x + 8 * rows * i + 4 * r));
          sum[h][r] = i == 0 ? a : _mm256_add_epi16(sum[h][r], a);
          hold(sum[h][r]);
        }
        for (int r = 0; r < rows; ++r) {
          const __m256i a = _mm256_maddubs_epi16(high, four(x + 8 * rows * i + 4 * rows + 4 * r));
          sum[h][r] = _mm256_add_epi16(sum[h][r], a);
          hold(sum[h][r]);
        }
      }
    }
    for (int h = 0; h < halves; ++h)
      for (int r = 0; r < rows; ++r) dot[h][r] = _mm256_add_epi32(dot[h][r], _mm256_madd_epi16(sum[h][r], ones));
  }
};

template <int rows, int halves>
struct Int8Block {
  static constexpr int kLines = 8;
  static inline void add(const uint8_t* line, const int8_t* x, __m256i (&dot)[halves][rows]) {
    const __m256i bias = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
    for (int i = 0; i < kLines; ++i) {
      for (int h = 0; h < halves; ++h) {
        // |w| * (x with the sign of w): at most 2 * 128 * 127 a pair, which 16 bits hold.
        const __m256i codes = _mm256_xor_si256(load(line + 64 * i + 32 * h), bias);
        const __m256i magnitude = _mm256_abs_epi8(codes);
        for (int r = 0; r < rows; ++r) {
          const __m256i signed_x = _mm256_sign_epi8(four(x + 4 * rows * i + 4 * r), codes);
          const __m256i pairs = _mm256_maddubs_epi16(magnitude, signed_x);
          dot[h][r] = _mm256_add_epi32(dot[h][r], _mm256_madd_epi16(pairs, ones));
          hold(dot[h][r]);
        }
      }
    }
  }
};

// What the sums of a group begin with, so that they come to products with codes less their offsets.
template <Format format, int rows, int halves>
inline void start(const uint8_t* scales, const int32_t* corrections, int first, __m256i (&dot)[halves][rows]) {
  if constexpr (format == Format::uint4) {
    // Both factors fit 16 bits: a group's activation codes sum to 128 * 127 at most. A zero point's high half is zero.
    const ZeroPoints zeros(scales);
    for (int h = 0; h < halves; ++h)
      for (int r = 0; r < rows; ++r)
        dot[h][r] = _mm256_madd_epi16(zeros.halves[first + h], _mm256_set1_epi32(corrections[r]));
  } else {
    for (int h = 0; h < halves; ++h)
      for (int r = 0; r < rows; ++r)  // codes of int8 are multiplied without their offset
        dot[h][r] = format == Format::int8 ? _mm256_setzero_si256() : _mm256_set1_epi32(corrections[r]);
  }
}

template <Format format, template <int, int> class Block, int rows, int halves>
inline void run_halves(const Weights& weights, const Tile& tile, int64_t panel, int first, float* out) {
  using Part = Block<rows, halves>;
  const int64_t groups = weights.groups();
  const int blocks = static_cast<int>(weights.group) / 32;
  const bool grouped = weights.scaling == Scaling::group_column;
  const uint8_t* line = weights.panel_codes(panel) + 32 * first;
  const uint8_t* scales = grouped ? weights.group_scales(panel) : nullptr;
  const int8_t* x = tile.codes;
  const float* x_scales = tile.scales;
  const int32_t* corrections = tile.corrections;
  __m256 sum[halves][rows];
  for (int h = 0; h < halves; ++h)
    for (int r = 0; r < rows; ++r) sum[h][r] = _mm256_setzero_ps();
  for (int64_t g = 0; g < groups; ++g) {
    __m256i dot[halves][rows];
    start<format>(scales, corrections, first, dot);
    for (int i = 0; i < blocks; ++i) {
      if constexpr (halves == 2)
        for (int j = 0; j < Part::kLines; ++j)
          _mm_prefetch(reinterpret_cast<const char*>(line) + kAhead + 64 * j, _MM_HINT_T0);
      Part::add(line, x, dot);
      line += 64 * Part::kLines;
      x += 32 * rows;
    }
    for (int h = 0; h < halves; ++h) {
      const auto* halfs = reinterpret_cast<const __m128i*>(scales) + first + h;
      const __m256 scale = grouped ? _mm256_cvtph_ps(_mm_loadu_si128(halfs)) : _mm256_set1_ps(1.0f);
      for (int r = 0; r < rows; ++r) {
        const __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(x_scales[r]));
        sum[h][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[h][r]), both, sum[h][r]);
      }
    }
    if (grouped) scales += group_bytes(format);
    x_scales += rows;
    corrections += rows;
  }
  for (int h = 0; h < halves; ++h) {
    const int at = 8 * (first + h);
    const __m256 columns = grouped ? _mm256_set1_ps(1.0f) : _mm256_loadu_ps(weights.column_scales(panel) + at);
    for (int r = 0; r < rows; ++r) _mm256_storeu_ps(out + r * kPanel + at, _mm256_mul_ps(sum[h][r], columns));
  }
}

template <Format format, template <int, int> class Block>
struct Both {
  template <int rows>
  struct Panel {
    static void run(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
      if constexpr (rows <= 2) {
        run_halves<format, Block, rows, 2>(weights, tile, panel, 0, out);
      } else {
        run_halves<format, Block, rows, 1>(weights, tile, panel, 0, out);
        run_halves<format, Block, rows, 1>(weights, tile, panel, 1, out);
      }
    }
  };
};

}  // namespace

template <Format format>
void integer_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  if constexpr (format == Format::int8)
    by_rows<Both<format, Int8Block>::template Panel, kIntegerRowsAvx2>(weights, tile, panel, out);
  else
    by_rows<Both<format, Int4Block>::template Panel, kIntegerRowsAvx2>(weights, tile, panel, out);
}

template void integer_panel_avx2<Format::int4>(const Weights&, const Tile&, int64_t, float*);
template void integer_panel_avx2<Format::uint4>(const Weights&, const Tile&, int64_t, float*);
template void integer_panel_avx2<Format::int8>(const Weights&, const Tile&, int64_t, float*);

}  // namespace qwen3::linear
