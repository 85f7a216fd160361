// Plain loops over 16 lanes, which the compiler turns into vectors of whatever instruction set the including file has.
#pragma once

#include <math.h>

#include <cstdint>

#include "scan.h"

namespace qwen3::head {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kStride = 8 * kLanes;  // logits that are compared with the weakest candidate at a time

// Whether a is to come after b: the order of a heap with the weakest in front.
inline bool weaker(const Candidate& a, const Candidate& b) {
  return a.value < b.value || (a.value == b.value && a.id > b.id);
}

void sink(Candidate* heap, int64_t size, int64_t at) {
  for (;;) {
    int64_t child = 2 * at + 1;
    if (child >= size) return;
    if (child + 1 < size && weaker(heap[child + 1], heap[child])) ++child;
    if (!weaker(heap[child], heap[at])) return;
    const Candidate moved = heap[at];
    heap[at] = heap[child];
    heap[child] = moved;
    at = child;
  }
}

void offer(Part& part, int64_t k, float value, int32_t id) {
  if (part.found < k) {
    part.best[part.found++] = {value, id};
    if (part.found == k) {
      for (int64_t i = k / 2 - 1; i >= 0; --i) sink(part.best, k, i);
    }
  } else if (value > part.best[0].value) {
    part.best[0] = {value, id};
    sink(part.best, k, 0);
  }
}

float highest(const float* values, int64_t count) {
  float lanes[kLanes];
  for (int64_t l = 0; l < kLanes; ++l) lanes[l] = -INFINITY;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] = values[i + l] > lanes[l] ? values[i + l] : lanes[l];
  }
  for (; i < count; ++i) lanes[0] = values[i] > lanes[0] ? values[i] : lanes[0];
  for (int64_t l = 1; l < kLanes; ++l) lanes[0] = lanes[l] > lanes[0] ? lanes[l] : lanes[0];
  return lanes[0];
}

// e^x for x <= 0: 2^(nearest integer) times a Taylor series of degree 6 (relative error 3e-7); 0 below e^-87.
inline float exponential(float x) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float scaled = x * 1.44269504f;
  const float clamped = scaled < -125.0f ? -125.0f : scaled;
  const float shifted = clamped + kRounder;
  const float rest = clamped - (shifted - kRounder);
  float power = 1.5403530e-4f;
  power = power * rest + 1.3333558e-3f;
  power = power * rest + 9.6181291e-3f;
  power = power * rest + 5.5504109e-2f;
  power = power * rest + 2.4022651e-1f;
  power = power * rest + 6.9314718e-1f;
  power = power * rest + 1.0f;
  const uint32_t exponent = __builtin_bit_cast(uint32_t, shifted) << 23;
  const float result = __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, power) + exponent);
  return scaled < -125.0f ? 0.0f : result;
}

float sum_of_exponentials(const float* values, int64_t count, float maximum) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += exponential(values[i + l] - maximum);
  }
  for (; i < count; ++i) lanes[0] += exponential(values[i] - maximum);
  for (int64_t l = 1; l < kLanes; ++l) lanes[0] += lanes[l];
  return lanes[0];
}

void scan(const float* logits, int64_t count, int32_t first, int64_t k, Part& part) {
  part.found = 0;
  part.maximum = -INFINITY;
  for (int64_t i = 0; i < count; i += kStride) {
    const int64_t some = count - i < kStride ? count - i : kStride;
    const float top = highest(logits + i, some);
    part.maximum = top > part.maximum ? top : part.maximum;
    if (part.found == k && !(top > part.best[0].value)) continue;
    for (int64_t j = i; j < i + some; ++j) {
      // NaN has no place in an order; log_sum_exp tells of it.
      const float value = logits[j] == logits[j] ? logits[j] : -INFINITY;
      offer(part, k, value, first + static_cast<int32_t>(j));
    }
  }
  const float base = part.maximum == -INFINITY ? 0.0f : part.maximum;
  part.sum = sum_of_exponentials(logits, count, base);
}

}  // namespace
}  // namespace qwen3::head
