// Mixture of experts: y = residual + sum over a token's chosen experts of weight * down(silu(gate(x)) * up(x)).
#pragma once

#include <cstdint>

#include "../cpu.h"
#include "../linear/linear.h"
#include "../parallel.h"

namespace qwen3::moe {

struct Experts {
  int64_t count = 0;
  int64_t top_k = 0;
  bool normalize = true;              // chosen weights are divided by their sum
  bool quantized_activations = true;  // as of `linear::Call`
  linear::Weights router;             // [count, hidden], a floating-point format
  linear::Weights gate_up;            // of the first expert; the others follow
  linear::Weights down;
  int64_t hidden() const { return down.n; }
  int64_t intermediate() const { return down.k; }
};

// Softmax over all experts in float32 and the top_k of them; equal ones in the order of their numbers.
// logits are [rows, count]; picks and weights get [rows, top_k].
void choose(const float* logits, int64_t rows, int64_t count, int64_t top_k, bool normalize, int32_t* picks,
            float* weights);

struct Call {
  const Experts* experts = nullptr;
  const float* x = nullptr;  // [rows, hidden]
  int64_t rows = 0;
  const float* norm_weight = nullptr;  // [hidden], or null
  float epsilon = 1e-6f;
  const float* residual = nullptr;  // [rows, hidden], or null
  float* y = nullptr;               // [rows, hidden]
  // Called once for each expert that is about to be read; may throw.
  void (*before_reading)(void* user, int64_t expert) = nullptr;
  void* user = nullptr;
};

// Throws Refused for sizes that no memory has and for more assignments than 32 bits count, and std::bad_alloc.
void run(const Call& call, const Parallel& parallel, InstructionSet instructions);

}  // namespace qwen3::moe
