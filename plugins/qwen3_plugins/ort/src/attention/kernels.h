// What an instruction set provides for attention; the orchestration in attention.cpp is common to all.
#pragma once

#include "attention.h"

namespace qwen3::attention {

// Rows up to this many are attended straight from the cache's own type; more rows share converted tiles.
constexpr int64_t kDirectRows = 8;
// Keys of one tile shared by many rows.
constexpr int64_t kTileKeys = 64;

// Length of a row of queries or results in working memory: whole vectors for every instruction set.
static inline int64_t padded_dim(int64_t head_dim) { return (head_dim + 31) / 32 * 32; }

// Query rows of one sequence against keys [begin, end). Rows lie in the order of their kv heads, then of their tokens.
struct Attend {
  const Cache* cache;
  const int32_t* table;    // block ids of the sequence
  int64_t kv_head, heads;  // the first kv head and how many; one where rows > kDirectRows
  int64_t rows, group;     // rows of each kv head, of which row r belongs to token r / group
  int64_t first_position;  // of the first token
  int64_t begin, end;
  const float* queries;    // [heads * rows, padded_dim], multiplied by log2(e) / sqrt(head_dim), zeros beyond head_dim
  float* out;              // [heads * rows, padded_dim], sum of 2^(score - maximum) * value
  float* maximum;          // [heads * rows]
  float* sum;              // [heads * rows], sum of 2^(score - maximum)
  float* work;             // work_floats(), aligned to 64 bytes
};

// Floats of working memory that `attend` needs for up to `rows` rows, of which up to `shared` belong to one kv head:
// queries in 16 bits with a scale each, or tiles with the scores and a correction for each row.
static inline int64_t work_floats(int64_t rows, int64_t shared, int64_t head_dim) {
  const int64_t direct = rows * (padded_dim(head_dim) / 2 + 1);
  const int64_t tiled = shared * (kTileKeys + 1) + 2 * kTileKeys * padded_dim(head_dim);
  return shared <= kDirectRows || direct > tiled ? direct : tiled;
}

struct Kernels {
  // RMSNorm of one head times `norm`, rotated by a row of the tables, times `scale`.
  void (*rotate)(const float* head, const float* norm, const float* cosine, const float* sine, int64_t head_dim,
                 float epsilon, float scale, float* out);
  // Writes one row of head_dim values into the cache, converted to its type.
  void (*store)(const float* values, const Cache& cache, int64_t row);
  void (*attend)(const Attend& attend);
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;    // head_dim a multiple of 8
extern const Kernels kAvx512Kernels;  // head_dim a multiple of 16
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;  // head_dim a multiple of 8
#endif

// The fastest kernels allowed that take this head_dim.
const Kernels& choose_kernels(InstructionSet instructions, int64_t head_dim);

}  // namespace qwen3::attention
