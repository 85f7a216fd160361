// Rows of a packed matrix, as float32: the embedding table, which may be the language model head's own bytes.
#pragma once

#include <cstdint>

#include "../linear/weights.h"

namespace qwen3::head {

// out [weights.k] = row `row` of the matrix.
void read_row(const linear::Weights& weights, int64_t row, float* out);

}  // namespace qwen3::head
