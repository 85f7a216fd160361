// A part of a row of logits: what find_top needs of it, for each instruction set.
#pragma once

#include <cstdint>

namespace qwen3::head {

struct Candidate {
  float value;
  int32_t id;
};

constexpr int64_t kStride = 64;  // logits of which only the highest is looked at first

// The best candidates so far: a heap of at most k, of which the weakest is in front once it is full.
struct Best {
  Candidate* heap;
  int64_t k;
  int64_t found;
};

struct Scan {
  // The highest of each stride of logits [count], for which a NaN does not count: maxima [ceil(count / kStride)].
  void (*maxima)(const float* logits, int64_t count, float* maxima);
  // Offers the logits of at least `bound` in those strides; the first logit has the id `first`.
  void (*collect)(const float* logits, int64_t count, const float* maxima, float bound, int32_t first, Best& best);
  // Sum of e^(logit - maximum); maximum is the highest, and finite. NaN if a logit is.
  double (*sum)(const float* logits, int64_t count, float maximum);
};

const Scan& scan_scalar();
#if defined(__x86_64__)
const Scan& scan_avx2();
const Scan& scan_avx512();
#endif

}  // namespace qwen3::head
