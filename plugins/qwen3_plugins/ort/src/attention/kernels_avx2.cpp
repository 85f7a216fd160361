// Kernels for AVX2, FMA and F16C: 8 floats a vector, 16 registers.
#include "simd_rows.h"

namespace qwen3::attention {
namespace {

struct V {
  using Floats = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kDirectRows = 3;    // x 4 keys = 12 accumulators
  static constexpr int kPanelRows = 6;     // x 2 vectors = 12 accumulators
  static constexpr int kPanelVectors = 2;

  static Floats zero() { return _mm256_setzero_ps(); }
  static Floats broadcast(float value) { return _mm256_set1_ps(value); }
  static Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static Floats load(const uint16_t* from) { return load8(from); }
  static Floats load(const int8_t* from) { return load8(from); }
  static void store(float* to, Floats values) { _mm256_storeu_ps(to, values); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats maximum(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  static float highest(Floats values) { return highest8(values); }
  static float total(Floats values) { return total8(values); }
  static void store_sums(const Floats (&sums)[4], float* to) {
    _mm_storeu_ps(to, totals4(sums[0], sums[1], sums[2], sums[3]));
  }

  // 2^x for x <= 0: Taylor series of degree 6 around the nearest integer (relative error 2e-7), 0 below -126.
  static Floats exp2(Floats x) {
    const Floats whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Floats rest = _mm256_sub_ps(x, whole);
    Floats power = _mm256_set1_ps(1.5403530e-4f);
    power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(1.3333558e-3f));
    power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(9.6181291e-3f));
    power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(5.5504109e-2f));
    power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(2.4022651e-1f));
    power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(6.9314718e-1f));
    power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(1.0f));
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
    power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), exponent));
    return _mm256_and_ps(power, _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ));
  }
};

}  // namespace
}  // namespace qwen3::attention

#include "simd_attend.h"

namespace qwen3::attention {
const Kernels kAvx2Kernels = {rotate, store, attend};
}  // namespace qwen3::attention
