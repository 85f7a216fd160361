// Weights of every format, widened to float32, times float32 activations.
#include <arm_neon.h>

#include "kernels_neon.h"
#include "rows.h"

namespace qwen3::linear {

namespace {

constexpr int kStep = 4;  // inputs widened at a time, whose activations are `rows` whole vectors

// What `widen` leaves to be multiplied in at the end.
template <Format format>
constexpr float kUnit = format == Format::fp8 ? 256.0f : 1.0f;

inline float32x4_t float_of_half(uint16x4_t bits) { return vcvt_f32_f16(vreinterpret_f16_u16(bits)); }

inline float32x4_t float_of_code(uint32x4_t code, int32x4_t offsets) {
  return vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(code), offsets));
}

// What is taken off stored codes: zero points where the format has them, else what is the same for all.
template <Format format>
inline int32x4_t offset_of(int) {
  return vdupq_n_s32(stored_offset(format));
}
template <Format format>
inline int32x4_t offset_of(int vector, const uint8_t* scales) {
  return zero_points_neon(scales, vector);
}

// Widens four inputs of 4 rows: w[i] holds input k + i of the rows from 4 * vector. `scales` are those of uint4, with
// zero points.
template <Format format, class... Scales>
inline void widen(const uint8_t* panel, int64_t k, int vector, float32x4_t (&w)[kStep], Scales... scales) {
  if constexpr (format == Format::int4 || format == Format::uint4) {
    // Byte i of a lane holds input i of 8 below and input 4 + i above.
    const uint32x4_t line = vreinterpretq_u32_u8(vld1q_u8(panel + k / 8 * 64 + 16 * vector));
    const uint32x4_t nibbles = k % 8 < 4 ? line : vshrq_n_u32(line, 4);
    for (int i = 0; i < kStep; ++i)
      w[i] = float_of_code(vandq_u32(vshlq_u32(nibbles, vdupq_n_s32(-8 * i)), vdupq_n_u32(15)),
                           offset_of<format>(vector, scales...));
  } else if constexpr (format == Format::int8) {
    const uint32x4_t line = vreinterpretq_u32_u8(vld1q_u8(panel + k / 4 * 64 + 16 * vector));
    for (int i = 0; i < kStep; ++i)
      w[i] = float_of_code(vandq_u32(vshlq_u32(line, vdupq_n_s32(-8 * i)), vdupq_n_u32(255)),
                           offset_of<format>(vector, scales...));
  } else if constexpr (format == Format::fp8) {
    // Sign, exponent and mantissa at float16's places; the biases differ by 8 (kUnit). Subnormals come out right.
    for (int i = 0; i < kStep; ++i) {
      const auto* four = reinterpret_cast<const uint32_t*>(panel + (k + i) * kPanel + 4 * vector);
      const int16x8_t moved = vshll_n_s8(vreinterpret_s8_u32(vld1_dup_u32(four)), 7);
      w[i] = float_of_half(vand_u16(vreinterpret_u16_s16(vget_low_s16(moved)), vdup_n_u16(0xbf80)));
    }
  } else if constexpr (format == Format::fp16) {
    const auto* halves = reinterpret_cast<const uint16_t*>(panel) + k * kPanel + 4 * vector;
    for (int i = 0; i < kStep; ++i) w[i] = float_of_half(vld1_u16(halves + i * kPanel));
  } else if constexpr (format == Format::bf16) {
    for (int i = 0; i < kStep; i += 2) {
      const uint32x4_t pair = vreinterpretq_u32_u8(vld1q_u8(panel + (k + i) * 2 * kPanel + 16 * vector));
      w[i] = vreinterpretq_f32_u32(vshlq_n_u32(pair, 16));
      w[i + 1] = vreinterpretq_f32_u32(vandq_u32(pair, vdupq_n_u32(0xffff0000u)));
    }
  } else {
    const auto* values = reinterpret_cast<const float*>(panel) + k * kPanel + 4 * vector;
    for (int i = 0; i < kStep; ++i) w[i] = vld1q_f32(values + i * kPanel);
  }
}

// sum[v][r] = over inputs [begin, end). Few rows run in several chains, so that additions do not wait for each other.
template <Format format, int rows, int vectors, class... Scales>
inline void accumulate(const uint8_t* panel, const float* x, int64_t begin, int64_t end, int first,
                       float32x4_t (&sum)[vectors][rows], Scales... scales) {
  constexpr int kChains = rows == 1 ? 4 : rows == 2 ? 2 : 1;
  float32x4_t part[kChains][vectors][rows];
  for (int c = 0; c < kChains; ++c)
    for (int v = 0; v < vectors; ++v)
      for (int r = 0; r < rows; ++r) part[c][v][r] = vdupq_n_f32(0);
  for (int64_t k = begin; k < end; k += kStep) {
    for (int v = 0; v < vectors; ++v) {
      float32x4_t w[kStep];
      widen<format>(panel, k, first + v, w, scales...);
      unroll<kStep * rows>([&](auto index) {
        constexpr int word = decltype(index)::value, i = word / rows, r = word % rows;
        float32x4_t& to = part[i % kChains][v][r];
        to = vfmaq_laneq_f32(to, w[i], vld1q_f32(x + k * rows + word / 4 * 4), word % 4);
      });
    }
  }
  for (int v = 0; v < vectors; ++v) {
    for (int r = 0; r < rows; ++r) {
      sum[v][r] = part[0][v][r];
      for (int c = 1; c < kChains; ++c) sum[v][r] = vaddq_f32(sum[v][r], part[c][v][r]);
    }
  }
}

template <Format format, int rows, int vectors>
void run_vectors(const Weights& weights, const Tile& tile, int64_t panel, int first, float* out) {
  const uint8_t* codes = weights.panel_codes(panel);
  float32x4_t sum[vectors][rows], part[vectors][rows];
  const bool columns = format == Format::uint4 || weights.scaling == Scaling::group_column;
  if (columns || weights.scaling == Scaling::group_panel) {
    for (int v = 0; v < vectors; ++v)
      for (int r = 0; r < rows; ++r) sum[v][r] = vdupq_n_f32(0);
    for (int64_t g = 0; g < weights.groups(); ++g) {
      const int64_t begin = g * weights.group, end = (g + 1) * weights.group;
      if constexpr (format == Format::uint4)
        accumulate<format, rows, vectors>(codes, tile.values, begin, end, first, part, weights.group_scales(panel, g));
      else
        accumulate<format, rows, vectors>(codes, tile.values, begin, end, first, part);
      for (int v = 0; v < vectors; ++v) {
        const float32x4_t scale = weights.scaling == Scaling::group_panel
                                      ? vdupq_n_f32(weights.panel_scales(panel)[g])
                                      : scales_neon(weights.group_scales(panel, g), first + v);
        for (int r = 0; r < rows; ++r) sum[v][r] = vfmaq_f32(sum[v][r], part[v][r], scale);
      }
    }
  } else if constexpr (format != Format::uint4) {  // which always has groups
    accumulate<format, rows, vectors>(codes, tile.values, 0, weights.padded_k(), first, sum);
  }
  for (int v = 0; v < vectors; ++v) {
    const int at = 4 * (first + v);
    float32x4_t scale = vdupq_n_f32(kUnit<format>);
    if (weights.scaling == Scaling::column) scale = vmulq_f32(scale, vld1q_f32(weights.column_scales(panel) + at));
    for (int r = 0; r < rows; ++r) vst1q_f32(out + r * kPanel + at, vmulq_f32(sum[v][r], scale));
  }
}

template <Format format>
struct Float {
  template <int rows>
  struct Panel {
    static void run(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
      constexpr int vectors = rows <= kWholeRowsNeon ? 4 : 2;
      halves_of_panel<rows>([&](int first) { run_vectors<format, rows, vectors>(weights, tile, panel, first, out); });
    }
  };
};

}  // namespace

template <Format format>
void float_panel_neon(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  by_rows<Float<format>::template Panel, kFloatRowsNeon>(weights, tile, panel, out);
}

template void float_panel_neon<Format::int4>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_neon<Format::uint4>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_neon<Format::int8>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_neon<Format::fp8>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_neon<Format::fp16>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_neon<Format::bf16>(const Weights&, const Tile&, int64_t, float*);
template void float_panel_neon<Format::fp32>(const Weights&, const Tile&, int64_t, float*);

}  // namespace qwen3::linear
