// int4, uint4 and int8 weights times int8 activations with smmla, which multiplies two rows of activations by two rows
// of the matrix, eight inputs at a time: twice the products of sdot. One row of activations alone is left to sdot.
#include <arm_neon.h>

#include "kernels_neon.h"
#include "rows.h"

namespace qwen3::linear {

namespace {

// Eight inputs of 4 rows of the matrix, two rows a vector, from vectors that hold the first and the last four of each.
inline void pair_up(int8x16_t first, int8x16_t last, int8x16_t (&pairs)[2]) {
  const int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(last);
  pairs[0] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
  pairs[1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
}

struct Int4 {
  static constexpr int kLines = 1;  // that hold eight inputs
  static inline void load(const uint8_t* line, int8x16_t (&pairs)[2]) {
    const uint8x16_t both = vld1q_u8(line);
    pair_up(vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8(both, 4)), pairs);
  }
};

struct Int8 {
  static constexpr int kLines = 2;
  static inline int8x16_t codes(const uint8_t* line) {
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(line), vdupq_n_u8(128)));
  }
  static inline void load(const uint8_t* line, int8x16_t (&pairs)[2]) { pair_up(codes(line), codes(line + 64), pairs); }
};

// What the sums of a group and two rows of the matrix begin with, so that they come to products with codes less their
// offsets.
template <Format format>
inline int32x2_t start(int32x2_t zeros, int32_t correction) {
  if constexpr (format == Format::int8) return vdup_n_s32(0);  // smmla takes codes without their offset
  if constexpr (format == Format::uint4) return vmul_n_s32(zeros, correction);
  return vdup_n_s32(correction);
}

// Lanes of a sum are [row, column], [row, column + 1], [row + 1, column], [row + 1, column + 1] of the tile. Where the
// last row has no partner, its codes are what follows in memory (scales, at the end), and their sums are not stored.
template <Format format, class Code, int rows, int vectors>
inline void run_vectors(const Weights& weights, const Tile& tile, int64_t panel, int first, float* out) {
  constexpr int pairs = (rows + 1) / 2, columns = 2 * vectors;
  const int64_t groups = weights.groups();
  const int eights = static_cast<int>(weights.group) / 8;
  const bool grouped = weights.scaling == Scaling::group_column;
  const uint8_t* line = weights.panel_codes(panel) + 16 * first;
  const uint8_t* scales = grouped ? weights.group_scales(panel) : nullptr;
  const int8_t* x = tile.codes;
  const float* x_scales = tile.scales;
  const int32_t* corrections = tile.corrections;
  const auto second = [](int p) { return 2 * p + 1 < rows ? 2 * p + 1 : 2 * p; };
  float32x4_t sum[pairs][columns];
  for (int p = 0; p < pairs; ++p)
    for (int c = 0; c < columns; ++c) sum[p][c] = vdupq_n_f32(0);
  for (int64_t g = 0; g < groups; ++g) {
    int32x4_t dot[pairs][columns];
    for (int c = 0; c < columns; ++c) {
      int32x4_t four = vdupq_n_s32(1);
      if constexpr (format == Format::uint4) four = zero_points_neon(scales, first + c / 2);
      const int32x2_t two = c % 2 == 0 ? vget_low_s32(four) : vget_high_s32(four);
      for (int p = 0; p < pairs; ++p)
        dot[p][c] = vcombine_s32(start<format>(two, corrections[2 * p]), start<format>(two, corrections[second(p)]));
    }
    for (int i = 0; i < eights; ++i) {
      int8x16_t activations[pairs];
      for (int p = 0; p < pairs; ++p) activations[p] = vld1q_s8(x + 16 * p);
      for (int v = 0; v < vectors; ++v) {
        int8x16_t codes[2];
        Code::load(line + 16 * v, codes);
        for (int h = 0; h < 2; ++h)
          for (int p = 0; p < pairs; ++p) dot[p][2 * v + h] = vmmlaq_s32(dot[p][2 * v + h], activations[p], codes[h]);
      }
      line += 64 * Code::kLines;
      x += 8 * rows;
    }
    for (int c = 0; c < columns; ++c) {
      const float32x4_t four = grouped ? scales_neon(scales, first + c / 2) : vdupq_n_f32(1.0f);
      const float32x2_t two = c % 2 == 0 ? vget_low_f32(four) : vget_high_f32(four);
      for (int p = 0; p < pairs; ++p) {
        const float32x4_t both = vcombine_f32(vmul_n_f32(two, x_scales[2 * p]), vmul_n_f32(two, x_scales[second(p)]));
        sum[p][c] = vfmaq_f32(sum[p][c], vcvtq_f32_s32(dot[p][c]), both);
      }
    }
    if (grouped) scales += group_bytes(format);
    x_scales += rows;
    corrections += rows;
  }
  for (int c = 0; c < columns; ++c) {
    const int at = 4 * first + 2 * c;
    const float32x2_t scale = grouped ? vdup_n_f32(1.0f) : vld1_f32(weights.column_scales(panel) + at);
    for (int p = 0; p < pairs; ++p) {
      vst1_f32(out + 2 * p * kPanel + at, vmul_f32(vget_low_f32(sum[p][c]), scale));
      if (2 * p + 1 < rows) vst1_f32(out + (2 * p + 1) * kPanel + at, vmul_f32(vget_high_f32(sum[p][c]), scale));
    }
  }
}

template <Format format, class Code>
struct Integer {
  template <int rows>
  struct Panel {
    static void run(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
      if constexpr (rows == 1) {
        integer_panel_neon<format>(weights, tile, panel, out);
      } else {
        constexpr int vectors = rows <= kWholeRowsNeon ? 4 : 2;
        halves_of_panel<rows>(
            [&](int first) { run_vectors<format, Code, rows, vectors>(weights, tile, panel, first, out); });
      }
    }
  };
};

}  // namespace

template <Format format>
void integer_panel_i8mm(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  using Code = std::conditional_t<format == Format::int8, Int8, Int4>;
  by_rows<Integer<format, Code>::template Panel, kIntegerRowsI8mm>(weights, tile, panel, out);
}

template void integer_panel_i8mm<Format::int4>(const Weights&, const Tile&, int64_t, float*);
template void integer_panel_i8mm<Format::uint4>(const Weights&, const Tile&, int64_t, float*);
template void integer_panel_i8mm<Format::int8>(const Weights&, const Tile&, int64_t, float*);

}  // namespace qwen3::linear
