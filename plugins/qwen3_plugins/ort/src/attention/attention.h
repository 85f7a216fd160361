// Causal grouped-query attention over a paged cache that is written in place.
#pragma once

#include <cstdint>

#include "../cpu.h"
#include "../parallel.h"

namespace qwen3::attention {

enum class CacheType { kHalf, kInt8 };

// The cache of one layer: [blocks, 2, kv_heads, block, head_dim], keys before values.
// An int8 cache has one float32 scale for each row of head_dim: [blocks, 2, kv_heads, block].
struct Cache {
  void* data;
  float* scales;  // null for kHalf
  CacheType type;
  int64_t blocks, kv_heads, block, head_dim;

  // Row (of head_dim values) that holds a token's key; its value is value_offset() rows further.
  int64_t key_row(int64_t block_id, int64_t kv_head, int64_t slot) const {
    return (block_id * 2 * kv_heads + kv_head) * block + slot;
  }
  int64_t value_offset() const { return kv_heads * block; }
};

// One step: the new tokens of all sequences, packed along one axis.
struct Step {
  const float* qkv;            // [tokens, (heads + 2 * kv_heads) * head_dim]
  const float* q_norm;         // [head_dim]
  const float* k_norm;         // [head_dim]
  const float* cosine;         // [positions, head_dim / 2]
  const float* sine;           // [positions, head_dim / 2]
  const int32_t* query_start;  // [sequences + 1]
  const int32_t* context_len;  // [sequences]
  const int32_t* block_table;  // [sequences, table_width]
  int64_t tokens, sequences, table_width, positions;
  int64_t heads;
  float epsilon;
  Cache cache;
  float* out;  // [tokens, heads * head_dim]
};

// Throws Refused unless an attention can have these attributes.
void check_heads(int64_t heads, int64_t kv_heads, int64_t head_dim);

// Throws Refused unless `run` can take a step's numbers. The shapes are the caller's promise.
void check(const Step& step);

// Runs a step that `check` has passed. Appends the new keys and values to the cache. Throws std::bad_alloc, and then
// has written nothing.
void run(const Step& step, const Parallel& parallel, InstructionSet instructions);

}  // namespace qwen3::attention
