// The largest of many logits and the logarithm of the sum of all exponentials, in one pass over memory.
#pragma once

#include <cstdint>

#include "../cpu.h"
#include "../parallel.h"

namespace qwen3::head {

// The first `width` logits of each row [rows, stride] -> values [rows, k] in descending order (equal ones by ascending
// id), ids [rows, k] and log_sum_exp [rows]. Needs 1 <= k <= width <= stride. A row with a NaN gets a NaN for its
// log_sum_exp. Throws Refused for sizes that no memory has, and std::bad_alloc.
void find_top(const float* logits, int64_t rows, int64_t stride, int64_t width, int64_t k, float* values, int32_t* ids,
              float* log_sum_exp, const Parallel& parallel, InstructionSet instructions);

}  // namespace qwen3::head
