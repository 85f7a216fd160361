// The portable kernels: each operation as its definition reads.
#include <cmath>

#include "half.h"
#include "kernels.h"
#include "rotary.h"

namespace qwen3::attention {
namespace {

void rotate(const float* head, const float* norm, const float* cosine, const float* sine, int64_t head_dim,
            float epsilon, float scale, float* out) {
  float squares = 0;
  for (int64_t i = 0; i < head_dim; ++i) squares += head[i] * head[i];
  const float inverse = scale / std::sqrt(squares / static_cast<float>(head_dim) + epsilon);
  rotate_halves(head, norm, cosine, sine, head_dim, inverse, out);
}

void store(const float* values, const Cache& cache, int64_t row) {
  const int64_t dim = cache.head_dim;
  if (cache.type == CacheType::kHalf) {
    uint16_t* to = static_cast<uint16_t*>(cache.data) + row * dim;
    for (int64_t i = 0; i < dim; ++i) to[i] = float_to_half(values[i]);
    return;
  }
  float largest = 0, poison = 0;
  for (int64_t i = 0; i < dim; ++i) {
    largest = std::fmax(largest, std::fabs(values[i]));
    poison += values[i] * 0.0f;
  }
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  int8_t* to = static_cast<int8_t*>(cache.data) + row * dim;
  for (int64_t i = 0; i < dim; ++i) {
    // fmax and fmin also turn NaN into a number, so that the conversion is defined.
    to[i] = static_cast<int8_t>(std::nearbyint(std::fmin(std::fmax(values[i] * inverse, -127.0f), 127.0f)));
  }
  cache.scales[row] = largest / 127.0f + poison;  // codes cannot tell that a value was NaN
}

float value_at(const Cache& cache, int64_t row, int64_t i) {
  const int64_t at = row * cache.head_dim + i;
  if (cache.type == CacheType::kHalf) return linear::float_of_fp16(static_cast<const uint16_t*>(cache.data)[at]);
  return static_cast<float>(static_cast<const int8_t*>(cache.data)[at]) * cache.scales[row];
}

void attend_row(const Attend& attend, int64_t row) {
  const int64_t kv_head = attend.kv_head + row / attend.rows;
  const Cache& cache = *attend.cache;
  const int64_t stride = padded_dim(cache.head_dim);
  const int64_t position = attend.first_position + row % attend.rows / attend.group;
  const float* query = attend.queries + row * stride;
  float* out = attend.out + row * stride;
  float maximum = -INFINITY, sum = 0;
  for (int64_t i = 0; i < stride; ++i) out[i] = 0;
  for (int64_t key = attend.begin; key < attend.end && key <= position; ++key) {
    const int64_t key_row = cache.key_row(attend.table[key / cache.block], kv_head, key % cache.block);
    float score = 0;
    for (int64_t i = 0; i < cache.head_dim; ++i) score += query[i] * value_at(cache, key_row, i);
    if (score > maximum) {
      const float correction = std::exp2(maximum - score);
      for (int64_t i = 0; i < cache.head_dim; ++i) out[i] *= correction;
      sum *= correction;
      maximum = score;
    }
    const float weight = std::exp2(score - maximum);
    for (int64_t i = 0; i < cache.head_dim; ++i) out[i] += weight * value_at(cache, key_row + cache.value_offset(), i);
    sum += weight;
  }
  attend.maximum[row] = maximum;
  attend.sum[row] = sum;
}

void attend(const Attend& attend) {
  for (int64_t row = 0; row < attend.heads * attend.rows; ++row) attend_row(attend, row);
}

}  // namespace

const Kernels kScalarKernels = {rotate, store, attend};

}  // namespace qwen3::attention
