// The parts of the NEON tables, each in its own file.
#pragma once

#include <arm_neon.h>

#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels.h"

namespace qwen3::linear {

constexpr int kIntegerRowsNeon = 8;
constexpr int kIntegerRowsI8mm = 10;
constexpr int kFloatRowsNeon = 8;
// Up to so many rows of activations a panel is read in one go, four vectors wide. More take one half after the other:
// either way there are at most 16 sums (20 of i8mm), which leaves registers for the rest.
constexpr int kWholeRowsNeon = 4;

// Zero points of the 4 rows from 4 * vector, from what `Weights::group_scales` points to.
inline int32x4_t zero_points_neon(const uint8_t* scales, int vector) {
  uint16_t four;
  std::memcpy(&four, scales + 2 * kPanel + 2 * vector, sizeof four);
  const int32_t places[] = {0, -4, -8, -12};
  return vreinterpretq_s32_u32(vandq_u32(vshlq_u32(vdupq_n_u32(four), vld1q_s32(places)), vdupq_n_u32(15)));
}

// Scales of the 4 rows from 4 * vector, from there too.
inline float32x4_t scales_neon(const uint8_t* scales, int vector) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(scales + 8 * vector)));
}

template <Format format>
void integer_panel_neon(const Weights& weights, const Tile& tile, int64_t panel, float* out);
template <Format format>
void integer_panel_i8mm(const Weights& weights, const Tile& tile, int64_t panel, float* out);
template <Format format>
void float_panel_neon(const Weights& weights, const Tile& tile, int64_t panel, float* out);

template <class Body, int... index>
[[gnu::always_inline]] inline void unroll(std::integer_sequence<int, index...>, const Body& body) {
  (body(std::integral_constant<int, index>{}), ...);
}

// body(0), body(1), ... as types, since an instruction that takes a lane of a vector has its number inside.
template <int count, class Body>
[[gnu::always_inline]] inline void unroll(const Body& body) {
  unroll(std::make_integer_sequence<int, count>{}, body);
}

// run(first), where `first` is the first of the `vectors` of a panel that a kernel takes at a time.
template <int rows, class Run>
inline void halves_of_panel(const Run& run) {
  run(0);
  if constexpr (rows > kWholeRowsNeon) run(2);
}

}  // namespace qwen3::linear
