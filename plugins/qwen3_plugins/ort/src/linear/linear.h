// y = activation(RMSNorm(x) @ weights.T) + residual
#pragma once

#include <cstdint>

#include "../cpu.h"
#include "../parallel.h"
#include "kernels.h"
#include "weights.h"

namespace qwen3::linear {

enum class Activation { none, swiglu };

struct Call {
  const Weights* weights = nullptr;
  const float* x = nullptr;            // [rows, k]
  int64_t rows = 0;
  const float* norm_weight = nullptr;  // [k], or null: x is taken as it is
  float epsilon = 1e-6f;
  const float* residual = nullptr;     // [rows, outputs], or null
  Activation activation = Activation::none;
  bool precise = false;                // float32 activations for integer weights too
  float* y = nullptr;                  // [rows, outputs]
};

// n, or half of it under swiglu: panels then alternate, 16 rows of gate and 16 of up.
int64_t outputs(const Weights& weights, Activation activation);

// Throws std::bad_alloc.
void run(const Call& call, const Parallel& parallel, InstructionSet instructions);

// Activations of `count` rows as tiles, once for any number of matrices with the same k, group and bias.
class Activations {
 public:
  // Row i of the result is row rows[i] of x (i itself if rows is null).
  Activations(const Weights& weights, const float* x, const int32_t* rows, int64_t count, const float* norm_weight,
              float epsilon, bool precise, const Parallel& parallel, InstructionSet instructions);
  ~Activations();
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  int64_t count() const { return count_; }
  int64_t tiles() const { return tiles_; }
  int64_t tile_begin(int64_t tile) const { return count_ * tile / tiles_; }
  Tile tile(int64_t index) const;

 private:
  int64_t count_, tiles_, padded_k_, groups_;
  bool integer_;
  void* memory_ = nullptr;
  int8_t* codes_ = nullptr;
  float* scales_ = nullptr;
  int32_t* corrections_ = nullptr;
  float* values_ = nullptr;
};

// y[r, first_panel*16...] for panels [first, last) and the rows of tiles [tile_first, tile_last); on the calling thread.
void multiply(const Weights& weights, const Activations& x, int64_t tile_first, int64_t tile_last, int64_t first,
              int64_t last, Activation activation, bool precise, const float* residual, float* y,
              InstructionSet instructions);

}  // namespace qwen3::linear
