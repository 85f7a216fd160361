// A part of a row of logits: what find_top needs of it, for each instruction set.
#pragma once

#include <cstdint>

namespace qwen3::head {

struct Candidate {
  float value;
  int32_t id;
};

struct Part {
  Candidate* best;  // [k], a heap of which the weakest is in front, then unordered beyond `found`
  int64_t found;
  float maximum;
  double sum;  // of e^(logit - maximum)
};

// Scans logits [count], of which the first has the id `first`.
using Scan = void (*)(const float* logits, int64_t count, int32_t first, int64_t k, Part& part);

void scan_scalar(const float* logits, int64_t count, int32_t first, int64_t k, Part& part);
#if defined(__x86_64__)
void scan_avx2(const float* logits, int64_t count, int32_t first, int64_t k, Part& part);
void scan_avx512(const float* logits, int64_t count, int32_t first, int64_t k, Part& part);
#endif

}  // namespace qwen3::head
