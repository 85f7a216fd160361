// Single rows of a head, eight values at a time: simd_rows.h for NEON, where two registers make a vector of eight.
#pragma once

#include <arm_neon.h>
#include <math.h>

#include <cstdint>

#include "kernels.h"
#include "rotary.h"

namespace qwen3::attention {
namespace {

struct Eight {
  float32x4_t low, high;
};

inline Eight zero8() { return {vdupq_n_f32(0), vdupq_n_f32(0)}; }
inline Eight scale8(Eight values, float by) { return {vmulq_n_f32(values.low, by), vmulq_n_f32(values.high, by)}; }

inline Eight load8(const float* from) { return {vld1q_f32(from), vld1q_f32(from + 4)}; }

inline Eight load8(const uint16_t* halves) {
  const float16x8_t values = vreinterpretq_f16_u16(vld1q_u16(halves));
  return {vcvt_f32_f16(vget_low_f16(values)), vcvt_high_f32_f16(values)};
}

inline Eight load8(const int8_t* codes) {
  const int16x8_t values = vmovl_s8(vld1_s8(codes));
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(values))), vcvtq_f32_s32(vmovl_high_s16(values))};
}

inline void store8(float* to, Eight values) {
  vst1q_f32(to, values.low);
  vst1q_f32(to + 4, values.high);
}

inline float total8(Eight values) { return vaddvq_f32(vaddq_f32(values.low, values.high)); }
inline float highest8(Eight values) { return vmaxvq_f32(vmaxq_f32(values.low, values.high)); }

inline void transpose4(float32x4_t& a, float32x4_t& b, float32x4_t& c, float32x4_t& d) {
  const float64x2_t ab_even = vreinterpretq_f64_f32(vtrn1q_f32(a, b)), ab_odd = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
  const float64x2_t cd_even = vreinterpretq_f64_f32(vtrn1q_f32(c, d)), cd_odd = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
  a = vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even));
  b = vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd));
  c = vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even));
  d = vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd));
}

inline void transpose8(Eight (&rows)[8]) {
  transpose4(rows[0].low, rows[1].low, rows[2].low, rows[3].low);
  transpose4(rows[0].high, rows[1].high, rows[2].high, rows[3].high);
  transpose4(rows[4].low, rows[5].low, rows[6].low, rows[7].low);
  transpose4(rows[4].high, rows[5].high, rows[6].high, rows[7].high);
  for (int i = 0; i < 4; ++i) {
    const float32x4_t moved = rows[i].high;
    rows[i].high = rows[i + 4].low;
    rows[i + 4].low = moved;
  }
}

void rotate(const float* head, const float* norm, const float* cosine, const float* sine, int64_t head_dim,
            float epsilon, float scale, float* __restrict out) {
  Eight squares = zero8();
  for (int64_t i = 0; i < head_dim; i += 8) {
    const Eight values = load8(head + i);
    squares.low = vfmaq_f32(squares.low, values.low, values.low);
    squares.high = vfmaq_f32(squares.high, values.high, values.high);
  }
  const float inverse = scale / sqrtf(total8(squares) / static_cast<float>(head_dim) + epsilon);
  rotate_halves(head, norm, cosine, sine, head_dim, inverse, out);
}

void store_int8(const float* values, const Cache& cache, int64_t row) {
  float32x4_t top = vdupq_n_f32(0), poison = vdupq_n_f32(0);
  for (int64_t i = 0; i < cache.head_dim; i += 4) {
    const float32x4_t value = vld1q_f32(values + i);
    top = vmaxnmq_f32(top, vabsq_f32(value));
    poison = vfmaq_n_f32(poison, value, 0.0f);
  }
  const float largest = vmaxvq_f32(top);
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  int8_t* to = static_cast<int8_t*>(cache.data) + row * cache.head_dim;
  for (int64_t i = 0; i < cache.head_dim; i += 8) {
    const Eight scaled = scale8(load8(values + i), inverse);
    const int16x4_t low = vqmovn_s32(vcvtnq_s32_f32(scaled.low)), high = vqmovn_s32(vcvtnq_s32_f32(scaled.high));
    vst1_s8(to + i, vqmovn_s16(vcombine_s16(low, high)));
  }
  cache.scales[row] = largest / 127.0f + vaddvq_f32(poison);  // codes cannot tell that a value was NaN
}

void store(const float* values, const Cache& cache, int64_t row) {
  if (cache.type == CacheType::kInt8) return store_int8(values, cache, row);
  uint16_t* to = static_cast<uint16_t*>(cache.data) + row * cache.head_dim;
  for (int64_t i = 0; i < cache.head_dim; i += 8) {
    const Eight eight = load8(values + i);
    vst1q_u16(to + i, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(eight.low), eight.high)));
  }
}

}  // namespace
}  // namespace qwen3::attention
