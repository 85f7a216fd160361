// The parts of the AVX2 table, each in its own file.
#pragma once

#include "kernels.h"

namespace qwen3::linear {

constexpr int kIntegerRowsAvx2 = 6;
constexpr int kFloatRowsAvx2 = 6;

void int4_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out);
void int8_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out);
template <Format format>
void float_panel_avx2(const Weights& weights, const Tile& tile, int64_t panel, float* out);

}  // namespace qwen3::linear
