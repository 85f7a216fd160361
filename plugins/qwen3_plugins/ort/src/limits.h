// The most that operators take, in one table: every attribute is read against its row, and so is every size of an input
// that attributes leave open. All are far beyond any model, and so low that kernels can multiply them without a check:
// what cannot be is a product with a size of `sizes.h`.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "refused.h"

namespace qwen3 {

struct Limit {
  const char* name;
  int64_t lowest, highest;
};

struct RealLimit {
  const char* name;
  float lowest, highest;
};

namespace limits {

// Attributes.
constexpr Limit kN{"n", 1, 1 << 24};                         // outputs of a matrix, tokens of a vocabulary
constexpr Limit kK{"k", 1, 1 << 20};                         // inputs of a matrix
constexpr Limit kGroupSize{"group_size", 0, 128};            // the format says which
constexpr Limit kHidden{"hidden", 1, 1 << 20};               // n of one matrix, k of another
constexpr Limit kIntermediate{"intermediate", 1, 1 << 20};   // so is this
constexpr Limit kExperts{"experts", 1, 4096};
constexpr Limit kTopK{"top_k", 1, 4096};                     // and no more than experts
constexpr Limit kHeads{"num_heads", 1, 4096};
constexpr Limit kKvHeads{"kv_num_heads", 1, 4096};
constexpr Limit kHeadDim{"head_dim", 2, 1024};               // and even
constexpr Limit kPrecise{"precise", 0, 1};                   // 1: weight-only, 0: quantized activations
constexpr Limit kNormalize{"normalize", 0, 1};
constexpr RealLimit kEpsilon{"epsilon", 0.0f, 1.0f};

// Sizes of inputs.
constexpr Limit kRows{"the number of rows", 0, 1 << 20};  // tokens of one step
constexpr Limit kSequences{"the number of sequences", 0, 1 << 20};
constexpr Limit kTableWidth{"the width of block_table", 0, 1 << 24};
constexpr Limit kPositions{"the number of positions in cos and sin", 0, 1 << 24};
constexpr Limit kBlocks{"the number of cache blocks", 0, INT32_MAX};
constexpr Limit kBlockTokens{"the number of tokens in a cache block", 1, 1 << 20};

static_assert(kN.highest >= 2 * kIntermediate.highest && kN.highest >= kExperts.highest, "gate and up, and the router");
static_assert(kK.highest >= kHidden.highest && kK.highest >= kIntermediate.highest, "experts are matrices");
// A matrix in float32 with k padded, the largest output, and one layer's positions in keys and values.
static_assert(kN.highest <= INT64_MAX / ((kK.highest + 128) * 4), "bytes of a matrix");
static_assert(kRows.highest <= INT64_MAX / (kN.highest * 4), "bytes of an output");
static_assert(kTableWidth.highest <= INT64_MAX / kBlockTokens.highest, "tokens that a sequence has room for");
static_assert(kSequences.highest * kPositions.highest <= INT64_MAX / kKvHeads.highest, "work of a step");
static_assert(kRows.highest <= INT64_MAX / (3 * kHeads.highest * kHeadDim.highest * 4), "bytes of queries and keys");

}  // namespace limits

// `value`, or Refused("<name> is <value>, expected <lowest> to <highest>").
inline int64_t within(const Limit& limit, int64_t value) {
  if (value < limit.lowest || value > limit.highest)
    throw Refused(std::string(limit.name) + " is " + std::to_string(value) + ", expected " +
                  std::to_string(limit.lowest) + " to " + std::to_string(limit.highest));
  return value;
}

// The same; NaN is within nothing.
inline float within(const RealLimit& limit, float value) {
  if (value >= limit.lowest && value <= limit.highest) return value;
  char text[128];
  std::snprintf(text, sizeof text, "%s is %g, expected %g to %g", limit.name, static_cast<double>(value),
                static_cast<double>(limit.lowest), static_cast<double>(limit.highest));
  throw Refused(text);
}

}  // namespace qwen3
