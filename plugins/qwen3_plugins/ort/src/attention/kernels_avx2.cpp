// Kernels for AVX2, FMA and F16C: 8 floats a vector, 16 registers.
#include <string.h>

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

  // 16-bit integers, and 32-bit sums of the products of neighbors.
  using Words = __m256i;
  static constexpr int kWords = 16;
  static constexpr int kCodeRows = 2;  // x 4 keys = 8 accumulators

  static Words load(const int16_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static Words widen(const int8_t* from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Words widen_half(const int8_t* from) {  // zeros in the other half
    return _mm256_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  static Words no_products() { return _mm256_setzero_si256(); }
  static Words add_products(Words a, Words b, Words sum) { return _mm256_add_epi32(_mm256_madd_epi16(a, b), sum); }
  static Floats to_floats(Words sums) { return _mm256_cvtepi32_ps(sums); }
  static void store_products(const Words (&sums)[4], float* to) {
    _mm_storeu_ps(to, _mm_cvtepi32_ps(totals4(sums[0], sums[1], sums[2], sums[3])));
  }
  // Rounds to the nearest integers of 16 bits.
  static void store_codes(int16_t* to, Floats values) {
    const __m256i codes = _mm256_cvtps_epi32(values);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1)));
  }
  static Words broadcast_pair(const int16_t* from) {
    int32_t pair;
    memcpy(&pair, from, sizeof pair);
    return _mm256_set1_epi32(pair);
  }
  // Values of two keys side by side; sums of kWords values lie as put_in_order expects them.
  static void pair_up(const int8_t* first, const int8_t* second, Words (&pairs)[2]) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
    pairs[0] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
    pairs[1] = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b));
  }
  static Words pair_up_half(const int8_t* first, const int8_t* second) {
    const __m128i a = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(first));
    const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(second));
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
  }
  static void put_in_order(Words (&)[2]) {}
};

}  // namespace
}  // namespace qwen3::attention

#include "simd_integer.h"

namespace qwen3::attention {
const Kernels kAvx2Kernels = {rotate, store, attend_in_integers};
}  // namespace qwen3::attention
