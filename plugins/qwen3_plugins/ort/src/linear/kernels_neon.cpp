// What is done with rows of activations and of results, and the tables, for NEON.
#include "kernels_neon.h"

#include <arm_neon.h>

#include <cmath>
#include <initializer_list>

#include "elements.h"

namespace qwen3::linear {

namespace {

void normalize(const float* x, const float* weight, int64_t k, float epsilon, float* out) {
  float32x4_t squares[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
  const int64_t whole = k / 4 * 4;
  for (int64_t i = 0; i < whole; i += 4) {
    const float32x4_t v = vld1q_f32(x + i);
    squares[i / 4 % 4] = vfmaq_f32(squares[i / 4 % 4], v, v);
  }
  float sum = vaddvq_f32(vaddq_f32(vaddq_f32(squares[0], squares[1]), vaddq_f32(squares[2], squares[3])));
  for (int64_t i = whole; i < k; ++i) sum += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(sum / static_cast<float>(k) + epsilon);
  for (int64_t i = 0; i < whole; i += 4)
    vst1q_f32(out + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), factor), vld1q_f32(weight + i)));
  for (int64_t i = whole; i < k; ++i) out[i] = x[i] * factor * weight[i];
}

void quantize(const float* values, int64_t padded_k, int64_t group, int factor, Tile& tile, int r) {
  const uint32x4_t magnitude = vdupq_n_u32(0x7fffffffu);
  for (int64_t g = 0; g < padded_k / group; ++g) {
    const float* x = values + g * group;
    // Compared as integers, NaN is above infinity and stays.
    uint32x4_t bits = vdupq_n_u32(0);
    for (int64_t i = 0; i < group; i += 4)
      bits = vmaxq_u32(bits, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), magnitude));
    const float largest = float_of_bits(vmaxvq_u32(bits));
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    int32x4_t sum = vdupq_n_s32(0);
    int8_t* codes = tile.codes + g * group * tile.rows + r * 8;
    for (int64_t i = 0; i < group; i += 8) {
      const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
      const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
      const int16x8_t words = vcombine_s16(vqmovn_s32(low), vqmovn_s32(high));
      sum = vpadalq_s16(sum, words);
      vst1_s8(codes + i * tile.rows, vqmovn_s16(words));
    }
    tile.scales[g * tile.rows + r] = largest / 127.0f;
    tile.corrections[g * tile.rows + r] =
        static_cast<int32_t>(static_cast<uint32_t>(-factor) * static_cast<uint32_t>(vaddvq_s32(sum)));
  }
}

// e^x for x <= 0 within 2 units in the last place: 2^n times a polynomial in the rest.
inline float32x4_t exp_negative(float32x4_t x) {
  x = vmaxq_f32(x, vdupq_n_f32(-87.0f));
  const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
  float32x4_t rest = vfmsq_f32(x, n, vdupq_n_f32(0.693359375f));
  rest = vfmsq_f32(rest, n, vdupq_n_f32(-2.12194440e-4f));
  float32x4_t p = vdupq_n_f32(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = vfmaq_f32(vdupq_n_f32(c), p, rest);
  const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
  return vmulq_f32(p, vreinterpretq_f32_s32(exponent));
}

inline float32x4_t silu(float32x4_t x) {
  // x / (1 + e^-x) without overflow: with t = e^-|x|, 1 / (1 + t) for x >= 0 and t / (1 + t) below.
  const float32x4_t t = exp_negative(vnegq_f32(vabsq_f32(x)));
  const float32x4_t one = vdupq_n_f32(1.0f);
  return vmulq_f32(x, vdivq_f32(vbslq_f32(vcltzq_f32(x), t, one), vaddq_f32(one, t)));
}

inline void finish(float32x4_t v, const float* residual, int count, float* y) {
  if (count >= 4) {
    vst1q_f32(y, residual != nullptr ? vaddq_f32(v, vld1q_f32(residual)) : v);
    return;
  }
  float last[4];
  vst1q_f32(last, v);
  for (int c = 0; c < count; ++c) y[c] = residual != nullptr ? last[c] + residual[c] : last[c];
}

void store(const float* tile, const float* residual, int count, float* y) {
  for (int at = 0; at < count; at += 4)
    finish(vld1q_f32(tile + at), residual != nullptr ? residual + at : nullptr, count - at, y + at);
}

void swiglu(const float* gate, const float* up, const float* residual, int count, float* y) {
  for (int at = 0; at < count; at += 4)
    finish(vmulq_f32(silu(vld1q_f32(gate + at)), vld1q_f32(up + at)), residual != nullptr ? residual + at : nullptr,
           count - at, y + at);
}

constexpr Kernels with_integers(int rows, PanelKernel int4, PanelKernel uint4, PanelKernel int8) {
  return {
      rows,
      kFloatRowsNeon,
      {int4, uint4, int8},
      {float_panel_neon<Format::int4>, float_panel_neon<Format::uint4>, float_panel_neon<Format::int8>,
       float_panel_neon<Format::fp8>, float_panel_neon<Format::fp16>, float_panel_neon<Format::bf16>,
       float_panel_neon<Format::fp32>},
      normalize,
      quantize,
      store,
      swiglu,
  };
}

}  // namespace

const Kernels kNeonKernels = with_integers(kIntegerRowsNeon, integer_panel_neon<Format::int4>,
                                           integer_panel_neon<Format::uint4>, integer_panel_neon<Format::int8>);
const Kernels kI8mmKernels = with_integers(kIntegerRowsI8mm, integer_panel_i8mm<Format::int4>,
                                           integer_panel_i8mm<Format::uint4>, integer_panel_i8mm<Format::int8>);

}  // namespace qwen3::linear
