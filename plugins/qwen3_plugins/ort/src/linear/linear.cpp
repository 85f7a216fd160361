#include "linear.h"

#include <algorithm>
#include <cstring>

namespace qwen3::linear {

namespace {

// Rows that pass over a chunk of the weights together: their activations stay in the second-level cache.
constexpr int64_t kRowBlock = 192;

// Bytes of weights that all tiles pass over before the next are taken.
constexpr int64_t kBlockBytes = 192 << 10;

// Tasks for each thread, so that one that is held up does not leave the others waiting.
constexpr int64_t kTasksPerThread = 4;

bool uses_integers(const Weights& weights, bool quantized_activations) {
  return weights.integer() && quantized_activations;
}

PanelKernel kernel_of(const Kernels& table, const Weights& weights, bool quantized_activations) {
  const int format = static_cast<int>(weights.format);
  return uses_integers(weights, quantized_activations) ? table.integer[format] : table.floating[format];
}

int64_t to_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

const Kernels& kernels(InstructionSet instructions) {
#if defined(__x86_64__)
  if (instructions == InstructionSet::avx512) return kAvx512Kernels;
  if (instructions == InstructionSet::avx2) return kAvx2Kernels;
#elif defined(__aarch64__)
  if (instructions == InstructionSet::i8mm) return kI8mmKernels;
  if (instructions == InstructionSet::neon) return kNeonKernels;
#endif
  (void)instructions;
  return kScalarKernels;
}

int64_t outputs(const Weights& weights, Activation activation) {
  return activation == Activation::swiglu ? weights.n / 2 : weights.n;
}

Activations::Activations(const Weights& weights, int64_t count, bool quantized_activations, InstructionSet instructions)
    : table_(kernels(instructions)),
      count_(count),
      k_(weights.k),
      padded_k_(weights.padded_k()),
      group_(weights.group),
      groups_(weights.groups()),
      factor_(weights.correction_factor()),
      integer_(uses_integers(weights, quantized_activations)) {
  const int64_t most = integer_ ? table_.integer_rows : table_.float_rows;
  tiles_ = (count + most - 1) / most;
  constexpr int64_t kFloat = sizeof(float);
  const int64_t code_bytes = to_lines(product("activations", {count_, padded_k_, integer_ ? 1 : kFloat}));
  const int64_t scale_bytes = integer_ ? to_lines(product("scales of activations", {count_, groups_, kFloat})) : 0;
  const int64_t scratch_bytes = product("rows of activations", {tiles_, padded_k_, kFloat});
  memory_ = Scratch<char>("activations", {code_bytes + 2 * scale_bytes + scratch_bytes});
  char* next = memory_.get();
  codes_ = reinterpret_cast<int8_t*>(next);
  values_ = reinterpret_cast<float*>(next);
  scales_ = reinterpret_cast<float*>(next + code_bytes);
  corrections_ = reinterpret_cast<int32_t*>(next + code_bytes + scale_bytes);
  scratch_ = reinterpret_cast<float*>(next + code_bytes + 2 * scale_bytes);
}

Tile Activations::tile(int64_t index) const {
  const int64_t begin = tile_begin(index);
  Tile tile;
  tile.rows = static_cast<int>(tile_begin(index + 1) - begin);
  if (integer_) {
    tile.codes = codes_ + begin * padded_k_;
    tile.scales = scales_ + begin * groups_;
    tile.corrections = corrections_ + begin * groups_;
  } else {
    tile.values = values_ + begin * padded_k_;
  }
  return tile;
}

void Activations::fill(int64_t index, const float* x, const int32_t* rows, const float* norm_weight, float epsilon) {
  Tile part = tile(index);
  float* row = scratch_ + index * padded_k_;
  std::fill(row + k_, row + padded_k_, 0.0f);
  for (int r = 0; r < part.rows; ++r) {
    const int64_t at = tile_begin(index) + r;
    const float* source = x + (rows != nullptr ? rows[at] : at) * k_;
    if (norm_weight != nullptr)
      table_.normalize(source, norm_weight, k_, epsilon, row);
    else
      std::memcpy(row, source, sizeof(float) * static_cast<size_t>(k_));
    if (integer_) {
      table_.quantize(row, padded_k_, group_, factor_, part, r);
    } else {
      for (int64_t i = 0; i < padded_k_; ++i) part.values[i * part.rows + r] = row[i];
    }
  }
}

void Activations::fill_all(const float* x, const float* norm_weight, float epsilon, const Parallel& parallel) {
  const auto one = [&](size_t index) { fill(static_cast<int64_t>(index), x, nullptr, norm_weight, epsilon); };
  for_each(tiles_ < 4 ? serial() : parallel, static_cast<size_t>(tiles_), one);
}

void multiply_panel(const Weights& weights, const Tile& tile, int64_t panel, bool quantized_activations,
                    InstructionSet instructions, float* out) {
  kernel_of(kernels(instructions), weights, quantized_activations)(weights, tile, panel, out);
}

void multiply(const Weights& weights, const Activations& x, int64_t tile_first, int64_t tile_last, int64_t first,
              int64_t last, Activation activation, bool quantized_activations, const float* residual, float* y,
              InstructionSet instructions) {
  const Kernels& table = kernels(instructions);
  const PanelKernel kernel = kernel_of(table, weights, quantized_activations);
  const int64_t width = outputs(weights, activation);
  const int64_t step = activation == Activation::swiglu ? 2 : 1;
  // Every tile passes over a block of panels that stays in the second-level cache, the tile itself in the first.
  const int64_t fitting = kBlockBytes / (weights.panel_bytes() * step) * step;
  const int64_t block = x.tiles() > 1 ? std::max(step, fitting) : last - first;
  alignas(64) float out[2][kMaxRows * kPanel];
  for (int64_t begin = first; begin < last; begin += block) {
    const int64_t end = std::min(last, begin + block);
    for (int64_t t = tile_first; t < tile_last; ++t) {
      const Tile tile = x.tile(t);
      for (int64_t panel = begin; panel < end; panel += step) {
        kernel(weights, tile, panel, out[0]);
        if (step == 2) kernel(weights, tile, panel + 1, out[1]);
        const int64_t column = panel / step * kPanel;
        const int count = static_cast<int>(std::min<int64_t>(kPanel, width - column));
        for (int r = 0; r < tile.rows; ++r) {
          const int64_t at = (x.tile_begin(t) + r) * width + column;
          const float* rest = residual != nullptr ? residual + at : nullptr;
          if (step == 2)
            table.swiglu(out[0] + r * kPanel, out[1] + r * kPanel, rest, count, y + at);
          else
            table.store(out[0] + r * kPanel, rest, count, y + at);
        }
      }
    }
  }
}

void run(const Call& call, const Parallel& parallel, InstructionSet instructions) {
  if (call.rows == 0) return;
  const Weights& weights = *call.weights;
  Activations x(weights, call.rows, call.quantized_activations, instructions);
  x.fill_all(call.x, call.norm_weight, call.epsilon, parallel);
  const int64_t step = call.activation == Activation::swiglu ? 2 : 1;
  const int64_t units = weights.panels() / step;
  const int64_t row_blocks = (call.rows + kRowBlock - 1) / kRowBlock;
  const int64_t wanted = parallel.threads > 1 ? parallel.threads * kTasksPerThread : 1;
  const int64_t chunks = std::min(units, (wanted + row_blocks - 1) / row_blocks * (row_blocks > 1 ? 2 : 1));
  for_each(parallel, static_cast<size_t>(chunks * row_blocks), [&](size_t index) {
    const int64_t chunk = static_cast<int64_t>(index) / row_blocks, block = static_cast<int64_t>(index) % row_blocks;
    multiply(weights, x, x.tiles() * block / row_blocks, x.tiles() * (block + 1) / row_blocks,
             units * chunk / chunks * step, units * (chunk + 1) / chunks * step, call.activation,
             call.quantized_activations, call.residual, call.y, instructions);
  });
}

}  // namespace qwen3::linear
