// What one instruction set offers; every table has the same meaning and is tested against the same reference.
#pragma once

#include <cstdint>

#include "../cpu.h"
#include "weights.h"

namespace qwen3::linear {

constexpr int kMaxRows = 12;  // rows of activations in the largest tile of any kernel

// A few rows of activations, interleaved so that a kernel walks along k with one pointer.
struct Tile {
  int rows = 0;
  // For integer arithmetic: value[r, k] is codes * scale of k's group.
  int8_t* codes = nullptr;         // [padded_k / 4, rows, 4]; of NEON and i8mm: [padded_k / 8, rows, 8]
  float* scales = nullptr;         // [groups, rows]
  int32_t* corrections = nullptr;  // [groups, rows]: -(correction factor of the weights) * sum of the group's codes
  // For floating-point arithmetic.
  float* values = nullptr;  // [padded_k, rows]
};

// out[r, c] = sum over k of activation[r, k] * weight[panel * 16 + c, k]; out is [tile.rows, 16].
using PanelKernel = void (*)(const Weights& weights, const Tile& tile, int64_t panel, float* out);

struct Kernels {
  int integer_rows;  // the largest tile of `integer`
  int float_rows;    // the largest tile of `floating`
  // int8 activations, by Format
  PanelKernel integer[kIntegerFormats];
  // float32 activations, by Format
  PanelKernel floating[kFormats];

  // out[k] = x[k] * weight[k] / sqrt(mean(x^2) + epsilon)
  void (*normalize)(const float* x, const float* weight, int64_t k, float epsilon, float* out);
  // Row r of the tile from values [padded_k] (zeros beyond k): symmetric, scale = largest magnitude / 127, nearest
  // code. A group with a NaN or an infinity gets such a scale, so that results show it.
  void (*quantize)(const float* values, int64_t padded_k, int64_t group, int factor, Tile& tile, int r);
  // y[0..count) = tile + residual (null: nothing)
  void (*store)(const float* tile, const float* residual, int count, float* y);
  // y[0..count) = silu(gate) * up + residual
  void (*swiglu)(const float* gate, const float* up, const float* residual, int count, float* y);
};

const Kernels& kernels(InstructionSet instructions);

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
extern const Kernels kI8mmKernels;
#endif

}  // namespace qwen3::linear
