// The reference that the other instruction sets are held against, and what runs where none of them is available.
#include <algorithm>
#include <cmath>

#include "elements.h"
#include "kernels.h"

namespace qwen3::linear {

namespace {

// The stored integer code of column c and input k.
template <Format format>
int code_of(const uint8_t* panel, int64_t k, int c) {
  if constexpr (format == Format::int8) return panel[k / 4 * 64 + c * 4 + k % 4];
  const uint8_t byte = panel[k / 8 * 64 + c * 4 + k % 4];
  return k % 8 < 4 ? byte & 15 : byte >> 4;
}

template <Format format>
float value_of(const uint8_t* panel, int64_t k, int c, int offset) {
  if constexpr (format == Format::int4 || format == Format::uint4 || format == Format::int8) {
    return static_cast<float>(code_of<format>(panel, k, c) - offset);
  } else if constexpr (format == Format::fp8) {
    return float_of_fp8(panel[k * kPanel + c]);
  } else if constexpr (format == Format::fp32) {
    return reinterpret_cast<const float*>(panel)[k * kPanel + c];
  } else if constexpr (format == Format::bf16) {
    return float_of_bf16(reinterpret_cast<const uint16_t*>(panel)[k / 2 * 32 + c * 2 + k % 2]);
  } else {
    return float_of_fp16(reinterpret_cast<const uint16_t*>(panel)[k * kPanel + c]);
  }
}

float scale_of(const Weights& weights, int64_t panel, int64_t g, int c) {
  switch (weights.scaling) {
    case Scaling::group_column: return group_scale(weights.group_scales(panel, g), c);
    case Scaling::group_panel: return weights.panel_scales(panel)[g];
    default: return 1.0f;
  }
}

// What is taken off the stored codes of a group.
template <Format format>
int offset_of(const Weights& weights, int64_t panel, int64_t g, int c) {
  if constexpr (format == Format::uint4) return zero_point(weights.group_scales(panel, g), c);
  return stored_offset(format);
}

float column_scale(const Weights& weights, int64_t panel, int c) {
  return weights.scaling == Scaling::column ? weights.column_scales(panel)[c] : 1.0f;
}

template <Format format>
void integer_panel(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  const uint8_t* codes = weights.panel_codes(panel);
  for (int r = 0; r < tile.rows; ++r) {
    for (int c = 0; c < kPanel; ++c) {
      float sum = 0;
      for (int64_t g = 0; g < weights.groups(); ++g) {
        const int offset = offset_of<format>(weights, panel, g, c);
        int32_t dot = 0;
        for (int64_t k = g * weights.group; k < (g + 1) * weights.group; ++k)
          dot += (code_of<format>(codes, k, c) - offset) * tile.codes[k / 4 * 4 * tile.rows + r * 4 + k % 4];
        sum += static_cast<float>(dot) * scale_of(weights, panel, g, c) * tile.scales[g * tile.rows + r];
      }
      out[r * kPanel + c] = sum * column_scale(weights, panel, c);
    }
  }
}

template <Format format>
void float_panel(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  const uint8_t* codes = weights.panel_codes(panel);
  for (int r = 0; r < tile.rows; ++r) {
    for (int c = 0; c < kPanel; ++c) {
      float sum = 0;
      for (int64_t g = 0; g < weights.groups(); ++g) {
        const int offset = offset_of<format>(weights, panel, g, c);
        float part = 0;
        for (int64_t k = g * weights.group; k < (g + 1) * weights.group; ++k)
          part += value_of<format>(codes, k, c, offset) * tile.values[k * tile.rows + r];
        sum += part * scale_of(weights, panel, g, c);
      }
      out[r * kPanel + c] = sum * column_scale(weights, panel, c);
    }
  }
}

void normalize(const float* x, const float* weight, int64_t k, float epsilon, float* out) {
  double squares = 0;
  for (int64_t i = 0; i < k; ++i) squares += static_cast<double>(x[i]) * x[i];
  const float factor = 1.0f / std::sqrt(static_cast<float>(squares / static_cast<double>(k)) + epsilon);
  for (int64_t i = 0; i < k; ++i) out[i] = x[i] * factor * weight[i];
}

void quantize(const float* values, int64_t padded_k, int64_t group, int factor, Tile& tile, int r) {
  for (int64_t g = 0; g < padded_k / group; ++g) {
    // Compared as integers, NaN is above infinity and stays.
    uint32_t bits = 0;
    for (int64_t i = 0; i < group; ++i) bits = std::max(bits, bits_of_float(values[g * group + i]) & 0x7fffffffu);
    const float largest = float_of_bits(bits);
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    int32_t sum = 0;
    for (int64_t i = 0; i < group; ++i) {
      const int64_t k = g * group + i;
      const float scaled = values[k] * inverse;
      const int code = scaled >= -127.5f && scaled <= 127.5f ? static_cast<int>(std::nearbyint(scaled)) : -127;
      tile.codes[k / 4 * 4 * tile.rows + r * 4 + k % 4] = static_cast<int8_t>(code);
      sum += code;
    }
    tile.scales[g * tile.rows + r] = largest / 127.0f;
    tile.corrections[g * tile.rows + r] = -factor * sum;
  }
}

void store(const float* tile, const float* residual, int count, float* y) {
  for (int c = 0; c < count; ++c) y[c] = tile[c] + (residual != nullptr ? residual[c] : 0.0f);
}

void swiglu(const float* gate, const float* up, const float* residual, int count, float* y) {
  for (int c = 0; c < count; ++c)
    y[c] = gate[c] / (1.0f + std::exp(-gate[c])) * up[c] + (residual != nullptr ? residual[c] : 0.0f);
}

}  // namespace

const Kernels kScalarKernels = {
    8,
    8,
    {integer_panel<Format::int4>, integer_panel<Format::uint4>, integer_panel<Format::int8>},
    {float_panel<Format::int4>, float_panel<Format::uint4>, float_panel<Format::int8>, float_panel<Format::fp8>,
     float_panel<Format::fp16>, float_panel<Format::bf16>, float_panel<Format::fp32>},
    normalize,
    quantize,
    store,
    swiglu,
};

}  // namespace qwen3::linear
