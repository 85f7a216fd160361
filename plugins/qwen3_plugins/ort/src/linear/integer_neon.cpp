// int4, uint4 and int8 weights times int8 activations with sdot: a lane holds four codes of one row of the matrix. The
// activations of 32 inputs are 2 * rows whole vectors, and sdot takes the four codes that it needs from a lane of one.
#include <arm_neon.h>

#include "kernels_neon.h"
#include "rows.h"

namespace qwen3::linear {

namespace {

// Adds products of `codes` with the four activations of a row that begin at an input, a multiple of 4.
template <int rows, int input, int row>
inline int32x4_t add_products(int32x4_t sum, int8x16_t codes, const int8_t* x) {
  constexpr int word = (input / 8 * rows + row) * 2 + input % 8 / 4;
  return vdotq_laneq_s32(sum, codes, vld1q_s8(x + word / 4 * 16), word % 4);
}

// Adds what a line of 64 bytes contributes. It is line i of those that hold 32 inputs; `x` are their activations.
template <int rows, int vectors>
struct Int4Line {
  static constexpr int kLines = 4;
  template <int i>
  static inline void add(const uint8_t* line, const int8_t* x, int32x4_t (&dot)[vectors][rows]) {
    for (int v = 0; v < vectors; ++v) {
      const uint8x16_t pairs = vld1q_u8(line + 16 * v);
      const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(pairs, vdupq_n_u8(15)));
      const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(pairs, 4));
      unroll<rows>([&](auto r) { dot[v][r] = add_products<rows, 8 * i, decltype(r)::value>(dot[v][r], low, x); });
      unroll<rows>([&](auto r) { dot[v][r] = add_products<rows, 8 * i + 4, decltype(r)::value>(dot[v][r], high, x); });
    }
  }
};

template <int rows, int vectors>
struct Int8Line {
  static constexpr int kLines = 8;
  template <int i>
  static inline void add(const uint8_t* line, const int8_t* x, int32x4_t (&dot)[vectors][rows]) {
    for (int v = 0; v < vectors; ++v) {
      const int8x16_t codes = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(line + 16 * v), vdupq_n_u8(128)));
      unroll<rows>([&](auto r) { dot[v][r] = add_products<rows, 4 * i, decltype(r)::value>(dot[v][r], codes, x); });
    }
  }
};

// What the sums of a group begin with, so that they come to products with codes less their offsets.
template <Format format, int rows, int vectors>
inline void start(const uint8_t* scales, const int32_t* corrections, int first, int32x4_t (&dot)[vectors][rows]) {
  for (int v = 0; v < vectors; ++v) {
    if constexpr (format == Format::uint4) {
      const int32x4_t zeros = zero_points_neon(scales, first + v);
      for (int r = 0; r < rows; ++r) dot[v][r] = vmulq_n_s32(zeros, corrections[r]);
    } else {
      for (int r = 0; r < rows; ++r)  // codes of int8 are multiplied without their offset
        dot[v][r] = vdupq_n_s32(format == Format::int8 ? 0 : corrections[r]);
    }
  }
}

template <Format format, template <int, int> class Line, int rows, int vectors>
inline void run_vectors(const Weights& weights, const Tile& tile, int64_t panel, int first, float* out) {
  using Part = Line<rows, vectors>;
  const int64_t groups = weights.groups();
  const int blocks = static_cast<int>(weights.group) / 32;
  const bool grouped = weights.scaling == Scaling::group_column;
  const uint8_t* line = weights.panel_codes(panel) + 16 * first;
  const uint8_t* scales = grouped ? weights.group_scales(panel) : nullptr;
  const int8_t* x = tile.codes;
  const float* x_scales = tile.scales;
  const int32_t* corrections = tile.corrections;
  float32x4_t sum[vectors][rows];
  for (int v = 0; v < vectors; ++v)
    for (int r = 0; r < rows; ++r) sum[v][r] = vdupq_n_f32(0);
  for (int64_t g = 0; g < groups; ++g) {
    int32x4_t dot[vectors][rows];
    start<format>(scales, corrections, first, dot);
    for (int i = 0; i < blocks; ++i) {
      unroll<Part::kLines>([&](auto j) { Part::template add<decltype(j)::value>(line + 64 * j, x, dot); });
      line += 64 * Part::kLines;
      x += 32 * rows;
    }
    for (int v = 0; v < vectors; ++v) {
      const float32x4_t scale = grouped ? scales_neon(scales, first + v) : vdupq_n_f32(1.0f);
      for (int r = 0; r < rows; ++r)
        sum[v][r] = vfmaq_f32(sum[v][r], vcvtq_f32_s32(dot[v][r]), vmulq_n_f32(scale, x_scales[r]));
    }
    if (grouped) scales += group_bytes(format);
    x_scales += rows;
    corrections += rows;
  }
  for (int v = 0; v < vectors; ++v) {
    const int at = 4 * (first + v);
    const float32x4_t columns = grouped ? vdupq_n_f32(1.0f) : vld1q_f32(weights.column_scales(panel) + at);
    for (int r = 0; r < rows; ++r) vst1q_f32(out + r * kPanel + at, vmulq_f32(sum[v][r], columns));
  }
}

template <Format format, template <int, int> class Line>
struct Integer {
  template <int rows>
  struct Panel {
    static void run(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
      constexpr int vectors = rows <= kWholeRowsNeon ? 4 : 2;
      halves_of_panel<rows>(
          [&](int first) { run_vectors<format, Line, rows, vectors>(weights, tile, panel, first, out); });
    }
  };
};

}  // namespace

template <Format format>
void integer_panel_neon(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  if constexpr (format == Format::int8)
    by_rows<Integer<format, Int8Line>::template Panel, kIntegerRowsNeon>(weights, tile, panel, out);
  else
    by_rows<Integer<format, Int4Line>::template Panel, kIntegerRowsNeon>(weights, tile, panel, out);
}

template void integer_panel_neon<Format::int4>(const Weights&, const Tile&, int64_t, float*);
template void integer_panel_neon<Format::uint4>(const Weights&, const Tile&, int64_t, float*);
template void integer_panel_neon<Format::int8>(const Weights&, const Tile&, int64_t, float*);

}  // namespace qwen3::linear
