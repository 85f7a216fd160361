// Kernels for AVX-512 F, BW, DQ, VL and VNNI: 16 floats a vector, 32 registers.
// GCC 12 reports its own intrinsics' deliberately undefined operands (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <string.h>

#include "simd_rows.h"

namespace qwen3::attention {
namespace {

struct V {
  using Floats = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kDirectRows = 4;    // x 4 keys = 16 accumulators
  static constexpr int kPanelRows = 8;     // x 2 vectors = 16 accumulators
  static constexpr int kPanelVectors = 2;

  static Floats zero() { return _mm512_setzero_ps(); }
  static Floats broadcast(float value) { return _mm512_set1_ps(value); }
  static Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static Floats load(const uint16_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Floats load(const int8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static void store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats maximum(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static float highest(Floats values) {
    return highest8(_mm256_max_ps(_mm512_castps512_ps256(values), _mm512_extractf32x8_ps(values, 1)));
  }
  static float total(Floats values) { return total8(fold(values)); }
  static void store_sums(const Floats (&sums)[4], float* to) {
    const Floats ab = _mm512_add_ps(_mm512_unpacklo_ps(sums[0], sums[1]), _mm512_unpackhi_ps(sums[0], sums[1]));
    const Floats cd = _mm512_add_ps(_mm512_unpacklo_ps(sums[2], sums[3]), _mm512_unpackhi_ps(sums[2], sums[3]));
    const __m256 all = fold(_mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee)));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }

  // 2^x for x <= 0: Taylor series of degree 6 around the nearest integer (relative error 2e-7), 0 below -126.
  static Floats exp2(Floats x) {
    const Floats whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Floats rest = _mm512_sub_ps(x, whole);
    Floats power = _mm512_set1_ps(1.5403530e-4f);
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(1.3333558e-3f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(9.6181291e-3f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(5.5504109e-2f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(2.4022651e-1f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(6.9314718e-1f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ), power, whole);
  }

  // 16-bit integers, and 32-bit sums of the products of neighbors.
  using Words = __m512i;
  static constexpr int kWords = 32;
  static constexpr int kCodeRows = 4;  // x 4 keys = 16 accumulators

  static Words load(const int16_t* from) { return _mm512_loadu_si512(from); }
  static Words widen(const int8_t* from) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Words widen_half(const int8_t* from) {  // zeros in the other half
    return _mm512_cvtepi8_epi16(_mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static Words no_products() { return _mm512_setzero_si512(); }
  static Words add_products(Words a, Words b, Words sum) { return _mm512_dpwssd_epi32(sum, a, b); }
  static Floats to_floats(Words sums) { return _mm512_cvtepi32_ps(sums); }
  static void store_products(const Words (&sums)[4], float* to) {
    _mm_storeu_ps(to, _mm_cvtepi32_ps(totals4(fold(sums[0]), fold(sums[1]), fold(sums[2]), fold(sums[3]))));
  }
  // Rounds to the nearest integers of 16 bits.
  static void store_codes(int16_t* to, Floats values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(values)));
  }
  static Words broadcast_pair(const int16_t* from) {
    int32_t pair;
    memcpy(&pair, from, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  // Values of two keys side by side; sums of kWords values lie as put_in_order expects them.
  static void pair_up(const int8_t* first, const int8_t* second, Words (&pairs)[2]) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second));
    pairs[0] = _mm512_cvtepi8_epi16(_mm256_unpacklo_epi8(a, b));  // values 0..7 and 16..23
    pairs[1] = _mm512_cvtepi8_epi16(_mm256_unpackhi_epi8(a, b));
  }
  static Words pair_up_half(const int8_t* first, const int8_t* second) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
    return _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)));
  }
  static void put_in_order(Words (&sums)[2]) {
    const Words low = _mm512_shuffle_i32x4(sums[0], sums[1], 0x44);
    sums[1] = _mm512_shuffle_i32x4(sums[0], sums[1], 0xee);
    sums[0] = low;
  }

 private:
  static __m256i fold(Words sums) {
    return _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
  }
  static __m256 fold(Floats values) {
    return _mm256_add_ps(_mm512_castps512_ps256(values), _mm512_extractf32x8_ps(values, 1));
  }
};

}  // namespace
}  // namespace qwen3::attention

#include "simd_integer.h"

namespace qwen3::attention {
const Kernels kAvx512Kernels = {rotate, store, attend_in_integers};
}  // namespace qwen3::attention
