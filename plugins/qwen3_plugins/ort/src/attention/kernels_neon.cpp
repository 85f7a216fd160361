// Kernels for NEON: pairs of registers as 8 floats a vector, of which there is room for 16.
#include "rows_neon.h"

namespace qwen3::attention {
namespace {

struct V {
  using Floats = Eight;
  static constexpr int kLanes = 8;
  static constexpr int kDirectRows = 3;    // x 4 keys = 12 accumulators
  static constexpr int kPanelRows = 6;     // x 2 vectors = 12 accumulators
  static constexpr int kPanelVectors = 2;

  static Floats zero() { return zero8(); }
  static Floats broadcast(float value) { return {vdupq_n_f32(value), vdupq_n_f32(value)}; }
  template <class Element>
  static Floats load(const Element* from) {
    return load8(from);
  }
  static void store(float* to, Floats values) { store8(to, values); }
  static Floats add(Floats a, Floats b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
  static Floats subtract(Floats a, Floats b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
  static Floats multiply(Floats a, Floats b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
  static Floats multiply_add(Floats a, Floats b, Floats c) {
    return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
  }
  static Floats maximum(Floats a, Floats b) { return {vmaxq_f32(a.low, b.low), vmaxq_f32(a.high, b.high)}; }
  static float highest(Floats values) { return highest8(values); }
  static float total(Floats values) { return total8(values); }
  static void store_sums(const Floats (&sums)[4], float* to) {
    const float32x4_t ab = vpaddq_f32(vaddq_f32(sums[0].low, sums[0].high), vaddq_f32(sums[1].low, sums[1].high));
    const float32x4_t cd = vpaddq_f32(vaddq_f32(sums[2].low, sums[2].high), vaddq_f32(sums[3].low, sums[3].high));
    vst1q_f32(to, vpaddq_f32(ab, cd));
  }
  static Floats exp2(Floats x) { return {exp2(x.low), exp2(x.high)}; }

 private:
  // 2^x for x <= 0: Taylor series of degree 6 around the nearest integer (relative error 2e-7), 0 below -126.
  static float32x4_t exp2(float32x4_t x) {
    const float32x4_t whole = vrndnq_f32(x), rest = vsubq_f32(x, whole);
    float32x4_t power = vdupq_n_f32(1.5403530e-4f);
    power = vfmaq_f32(vdupq_n_f32(1.3333558e-3f), power, rest);
    power = vfmaq_f32(vdupq_n_f32(9.6181291e-3f), power, rest);
    power = vfmaq_f32(vdupq_n_f32(5.5504109e-2f), power, rest);
    power = vfmaq_f32(vdupq_n_f32(2.4022651e-1f), power, rest);
    power = vfmaq_f32(vdupq_n_f32(6.9314718e-1f), power, rest);
    power = vfmaq_f32(vdupq_n_f32(1.0f), power, rest);
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_s32(vcvtq_s32_f32(whole)), 23);
    const uint32x4_t result = vaddq_u32(vreinterpretq_u32_f32(power), exponent);
    // Cleared where x < -126, so that a NaN stays one.
    return vreinterpretq_f32_u32(vbicq_u32(result, vcltq_f32(x, vdupq_n_f32(-126.0f))));
  }
};

}  // namespace
}  // namespace qwen3::attention

#include "simd_attend.h"

namespace qwen3::attention {
const Kernels kNeonKernels = {rotate, store, attend};
}  // namespace qwen3::attention
