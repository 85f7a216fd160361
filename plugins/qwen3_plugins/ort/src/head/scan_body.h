// Written with the compiler's vectors of QWEN3_VECTOR_BYTES, which the including file defines as its instruction set's
// width. They are passed by reference, as their calling convention depends on compiler flags.
#pragma once

#include <math.h>

#include <cstdint>

#include "scan.h"

namespace qwen3::head {
namespace {

constexpr int64_t kLanes = QWEN3_VECTOR_BYTES / 4;
typedef float Floats __attribute__((vector_size(QWEN3_VECTOR_BYTES)));
typedef float Loaded __attribute__((vector_size(QWEN3_VECTOR_BYTES), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(QWEN3_VECTOR_BYTES)));

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

void offer(Best& best, float value, int32_t id) {
  if (best.found < best.k) {
    best.heap[best.found++] = {value, id};
    if (best.found == best.k) {
      for (int64_t i = best.k / 2 - 1; i >= 0; --i) sink(best.heap, best.k, i);
    }
  } else if (value > best.heap[0].value) {
    best.heap[0] = {value, id};
    sink(best.heap, best.k, 0);
  }
}

inline void load(const float* values, Floats& to) { to = *reinterpret_cast<const Loaded*>(values); }

float highest(const float* values, int64_t count) {
  float top = -INFINITY;
  int64_t i = 0;
  if (count >= kLanes) {
    Floats lanes = Floats{} - INFINITY, next;
    for (; i + kLanes <= count; i += kLanes) {
      load(values + i, next);
      lanes = next > lanes ? next : lanes;
    }
    for (int64_t l = 0; l < kLanes; ++l) top = lanes[l] > top ? lanes[l] : top;
  }
  for (; i < count; ++i) top = values[i] > top ? values[i] : top;
  return top;
}

// x = e^x for x <= 0: 2^(nearest integer) times a Taylor series of degree 6 (relative error 3e-7); 0 below e^-86.
// NaN stays NaN.
inline void exponentiate(Floats& x) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Floats scaled = x * 1.44269504f;
  const Floats lowest = Floats{} - 125.0f;
  const Floats clamped = scaled < lowest ? lowest : scaled;
  const Floats shifted = clamped + kRounder;
  const Floats rest = clamped - (shifted - kRounder);
  Floats power = rest * 1.5403530e-4f + 1.3333558e-3f;
  power = power * rest + 9.6181291e-3f;
  power = power * rest + 5.5504109e-2f;
  power = power * rest + 2.4022651e-1f;
  power = power * rest + 6.9314718e-1f;
  power = power * rest + 1.0f;
  const Floats result = (Floats)((Bits)power + ((Bits)shifted << 23));
  x = scaled < lowest ? Floats{} : (scaled == scaled ? result : scaled);
}

// The sum over a few thousand values, short enough for float32.
float sum_of_some(const float* values, int64_t count, float maximum) {
  Floats sum = {}, next;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    load(values + i, next);
    next -= maximum;
    exponentiate(next);
    sum += next;
  }
  if (i < count) {
    next = Floats{} - INFINITY;
    for (int64_t l = 0; i + l < count; ++l) next[l] = values[i + l] - maximum;
    exponentiate(next);
    sum += next;
  }
  float total = 0;
  for (int64_t l = 0; l < kLanes; ++l) total += sum[l];
  return total;
}

double sum_of_exponentials(const float* values, int64_t count, float maximum) {
  constexpr int64_t kSome = 4096;
  double total = 0;
  for (int64_t i = 0; i < count; i += kSome) {
    total += static_cast<double>(sum_of_some(values + i, count - i < kSome ? count - i : kSome, maximum));
  }
  return total;
}

void find_maxima(const float* logits, int64_t count, float* maxima) {
  for (int64_t i = 0; i < count; i += kStride) {
    *maxima++ = highest(logits + i, count - i < kStride ? count - i : kStride);
  }
}

void collect(const float* logits, int64_t count, const float* maxima, float bound, int32_t first, Best& best) {
  for (int64_t i = 0; i < count; i += kStride) {
    if (maxima[i / kStride] < bound) continue;
    const int64_t end = count - i < kStride ? count : i + kStride;
    for (int64_t j = i; j < end; ++j) {
      // NaN has no place in an order; log_sum_exp tells of it.
      const float value = logits[j] == logits[j] ? logits[j] : -INFINITY;
      if (value >= bound) offer(best, value, first + static_cast<int32_t>(j));
    }
  }
}

constexpr Scan kScan = {find_maxima, collect, sum_of_exponentials};

}  // namespace
}  // namespace qwen3::head
