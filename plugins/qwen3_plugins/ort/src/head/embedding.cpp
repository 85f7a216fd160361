#include "embedding.h"

#include "../linear/elements.h"

namespace qwen3::head {
namespace {

using linear::Format;
using linear::kPanel;

// `offset` is taken off integer codes.
template <Format format>
float code_at(const uint8_t* panel, int64_t k, int64_t c, int offset) {
  if constexpr (format == Format::int4 || format == Format::uint4) {
    const int byte = panel[k / 8 * 64 + c * 4 + k % 4];
    return static_cast<float>((k % 8 < 4 ? byte & 15 : byte >> 4) - offset);
  } else if constexpr (format == Format::int8) {
    return static_cast<float>(panel[k / 4 * 64 + c * 4 + k % 4] - offset);
  } else if constexpr (format == Format::fp8) {
    return linear::float_of_fp8(panel[k * kPanel + c]);
  } else if constexpr (format == Format::fp16) {
    return linear::float_of_fp16(reinterpret_cast<const uint16_t*>(panel)[k * kPanel + c]);
  } else if constexpr (format == Format::bf16) {
    return linear::float_of_bf16(reinterpret_cast<const uint16_t*>(panel)[k / 2 * 32 + c * 2 + k % 2]);
  } else {
    return reinterpret_cast<const float*>(panel)[k * kPanel + c];
  }
}

float scale_at(const linear::Weights& weights, int64_t panel, int64_t group, int64_t c) {
  switch (weights.scaling) {
    case linear::Scaling::none: return 1.0f;
    case linear::Scaling::group_column: return linear::group_scale(weights.group_scales(panel, group), c);
    case linear::Scaling::group_panel: return weights.panel_scales(panel)[group];
    case linear::Scaling::column: break;
  }
  return weights.column_scales(panel)[c];
}

template <Format format>
void read(const linear::Weights& weights, int64_t row, float* out) {
  const int64_t panel = row / kPanel, c = row % kPanel;
  const uint8_t* codes = weights.panel_codes(panel);
  for (int64_t begin = 0; begin < weights.k; begin += weights.group) {
    const int64_t end = begin + weights.group < weights.k ? begin + weights.group : weights.k;
    const int64_t group = begin / weights.group;
    const float scale = scale_at(weights, panel, group, c);
    int offset = linear::stored_offset(format);
    if constexpr (format == Format::uint4) offset = linear::zero_point(weights.group_scales(panel, group), c);
    for (int64_t k = begin; k < end; ++k) out[k] = code_at<format>(codes, k, c, offset) * scale;
  }
}

}  // namespace

void read_row(const linear::Weights& weights, int64_t row, float* out) {
  switch (weights.format) {
    case Format::int4: return read<Format::int4>(weights, row, out);
    case Format::uint4: return read<Format::uint4>(weights, row, out);
    case Format::int8: return read<Format::int8>(weights, row, out);
    case Format::fp8: return read<Format::fp8>(weights, row, out);
    case Format::fp16: return read<Format::fp16>(weights, row, out);
    case Format::bf16: return read<Format::bf16>(weights, row, out);
    case Format::fp32: return read<Format::fp32>(weights, row, out);
  }
}

}  // namespace qwen3::head
