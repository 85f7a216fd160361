// y = activation(RMSNorm(x) @ weights.T) + residual
#pragma once

#include <cstdint>

#include "../cpu.h"
#include "../parallel.h"
#include "../sizes.h"
#include "kernels.h"
#include "weights.h"

namespace qwen3::linear {

enum class Activation { none, swiglu };

struct Call {
  const Weights* weights = nullptr;
  const float* x = nullptr;  // [rows, k]
  int64_t rows = 0;
  const float* norm_weight = nullptr;  // [k], or null: x is taken as it is
  float epsilon = 1e-6f;
  const float* residual = nullptr;  // [rows, outputs], or null
  Activation activation = Activation::none;
  // Rows of x become int8 codes in groups where the weights are integers; otherwise they stay float32 (weight-only).
  bool quantized_activations = true;
  float* y = nullptr;  // [rows, outputs]
};

// n, or half of it under swiglu: panels then alternate, 16 rows of gate and 16 of up.
int64_t outputs(const Weights& weights, Activation activation);

// Throws Refused for sizes that no memory has, and std::bad_alloc.
void run(const Call& call, const Parallel& parallel, InstructionSet instructions);

// Rows of activations as tiles: made once, read for every panel of a matrix.
class Activations {
 public:
  // Memory for `count` rows as the kernels for `weights` want them. Throws as `run` does.
  Activations(const Weights& weights, int64_t count, bool quantized_activations, InstructionSet instructions);

  int64_t count() const { return count_; }
  int64_t tiles() const { return tiles_; }
  int64_t tile_begin(int64_t index) const { return count_ * index / tiles_; }
  Tile tile(int64_t index) const;

  // Makes a tile: row i is row rows[i] of x [., k] (i itself if rows is null), normalized if norm_weight is not null.
  void fill(int64_t tile, const float* x, const int32_t* rows, const float* norm_weight, float epsilon);
  // Makes all tiles, on several threads where there are many.
  void fill_all(const float* x, const float* norm_weight, float epsilon, const Parallel& parallel);

 private:
  const Kernels& table_;
  int64_t count_, tiles_, k_, padded_k_, group_, groups_;
  int factor_;
  bool integer_;
  Scratch<char> memory_;
  int8_t* codes_;
  float* scales_;
  int32_t* corrections_;
  float* values_;
  float* scratch_;  // a row for each tile
};

// out [tile.rows, 16] = activations @ (16 rows of the matrix).T
void multiply_panel(const Weights& weights, const Tile& tile, int64_t panel, bool quantized_activations,
                    InstructionSet instructions, float* out);

// The columns of y [x.count(), outputs] that panels [first, last) give, for the rows of tiles [tile_first, tile_last);
// on the calling thread. Under swiglu the panels are whole pairs.
void multiply(const Weights& weights, const Activations& x, int64_t tile_first, int64_t tile_last, int64_t first,
              int64_t last, Activation activation, bool quantized_activations, const float* residual, float* y,
              InstructionSet instructions);

}  // namespace qwen3::linear
