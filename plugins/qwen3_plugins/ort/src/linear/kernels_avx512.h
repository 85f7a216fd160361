// The parts of the AVX-512 table, each in its own file.
#pragma once

#include "kernels.h"

namespace qwen3::linear {

constexpr int kIntegerRowsAvx512 = 12;
constexpr int kFloatRowsAvx512 = 8;

void int4_panel_avx512(const Weights& weights, const Tile& tile, int64_t panel, float* out);
void int8_panel_avx512(const Weights& weights, const Tile& tile, int64_t panel, float* out);
template <Format format>
void float_panel_avx512(const Weights& weights, const Tile& tile, int64_t panel, float* out);

}  // namespace qwen3::linear
