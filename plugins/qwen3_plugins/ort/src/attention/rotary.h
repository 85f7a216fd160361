// The rotation of a normalized head, which compilers turn into vectors by themselves: one text for all kernels, compiled
// with each one's instructions.
#pragma once

#include <cstdint>

namespace qwen3::attention {
namespace {

// out[head_dim] = head * norm * inverse with its halves rotated: cosine and sine have head_dim / 2 values.
inline void rotate_halves(const float* head, const float* norm, const float* cosine, const float* sine,
                          int64_t head_dim, float inverse, float* __restrict out) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float first = head[i] * norm[i] * inverse;
    const float second = head[i + half] * norm[i + half] * inverse;
    out[i] = first * cosine[i] - second * sine[i];
    out[i + half] = second * cosine[i] + first * sine[i];
  }
}

}  // namespace
}  // namespace qwen3::attention
