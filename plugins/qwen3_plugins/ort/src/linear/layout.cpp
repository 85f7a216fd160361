#include "layout.h"

#include <algorithm>
#include <cmath>

#include "../operator.h"
#include "elements.h"

namespace qwen3::linear {

namespace {

Format format_of(const std::string& name) {
  if (name == "int4") return Format::int4;
  if (name == "uint4") return Format::uint4;
  if (name == "int8") return Format::int8;
  if (name == "fp8") return Format::fp8;
  if (name == "fp16") return Format::fp16;
  if (name == "bf16") return Format::bf16;
  if (name == "fp32") return Format::fp32;
  throw Refused("format is '" + name + "', expected int4, uint4, int8, fp8, fp16, bf16 or fp32");
}

[[noreturn]] void refuse_group(const std::string& format, int64_t size, const char* expected) {
  throw Refused("group_size is " + std::to_string(size) + " for " + format + " weights, expected " + expected);
}

// What the elements of a tensor of scales are.
struct ScaleType {
  Element element;
  int64_t bytes;
  const char* name;
};

ScaleType scale_type(const Weights& weights) {
  if (weights.format == Format::uint4) return {Element::u8, 1, "uint8 (with zero points)"};
  if (weights.scaling == Scaling::group_column) return {Element::f16, 2, "float16"};
  return {Element::f32, 4, "float32"};
}

}  // namespace

Weights weights_of(const std::string& format, int64_t n, int64_t k, int64_t group_size) {
  Weights weights;
  weights.format = format_of(format);
  weights.n = within(limits::kN, n);
  weights.k = within(limits::kK, k);
  const bool known = group_size == 32 || group_size == 64 || group_size == 128;
  switch (weights.format) {
    case Format::int4:
    case Format::uint4:
      if (!known) refuse_group(format, group_size, "32, 64 or 128");
      weights.scaling = Scaling::group_column;
      weights.group = group_size;
      break;
    case Format::int8:
      if (!known && group_size != 0) refuse_group(format, group_size, "32, 64, 128 or 0 (one scale a row)");
      weights.scaling = known ? Scaling::group_column : Scaling::column;
      weights.group = known ? group_size : kChannelGroup;
      break;
    case Format::fp8:
      if (group_size != 128 && group_size != 0) refuse_group(format, group_size, "128 (blocks) or 0 (one scale a row)");
      weights.scaling = group_size == 128 ? Scaling::group_panel : Scaling::column;
      weights.group = group_size == 128 ? 128 : kFloatStep;
      break;
    default:
      if (group_size != 0) refuse_group(format, group_size, "0");
      weights.scaling = Scaling::none;
      weights.group = kFloatStep;
  }
  return weights;
}

Weights gate_up(Weights layout) {
  layout.gate_up = true;
  return layout;
}

Weights bind(const Weights& layout, const Tensor& codes, const Tensor& scales, int64_t stacked) {
  Weights weights = layout;
  const int64_t bytes = product("codes", {stacked, weights.code_bytes()});
  if (codes.size() != bytes)
    throw Refused("codes have " + std::to_string(codes.size()) + " bytes, expected " + std::to_string(bytes) +
                  " for n " + std::to_string(weights.n) + " and k " + std::to_string(weights.k));
  const uintptr_t width = std::max(weights.bits() / 8, 1);
  if (reinterpret_cast<uintptr_t>(codes.data) % width != 0)
    throw Refused("codes do not begin at a multiple of " + std::to_string(width) + " bytes");
  const ScaleType type = scale_type(weights);
  const int64_t count = product("scales", {stacked, weights.scale_bytes() / type.bytes});
  if (count == 0 && scales) throw Refused("scales are given, but this format has none");
  if (count != 0 && (scales.element != type.element || scales.size() != count))
    throw Refused("scales are " + scales.describe() + ", expected " + std::to_string(count) + " of " + type.name);
  weights.codes = codes.as<const uint8_t>();
  weights.scales = scales.data;
  return weights;
}

void require_finite_scales(const Weights& weights, int64_t first_panel, int64_t last_panel) {
  if (weights.scaling == Scaling::none) return;
  bool finite = true;
  if (weights.scaling == Scaling::group_column) {
    const int64_t step = group_bytes(weights.format);
    const uint8_t* end = weights.group_scales(last_panel);
    for (const uint8_t* group = weights.group_scales(first_panel); group < end; group += step)
      for (int c = 0; c < kPanel; ++c) finite &= (half_bits(group + 2 * c) & 0x7c00) != 0x7c00;
  } else {
    const int64_t each = weights.scale_bytes() / 4 / weights.panels();
    const float* scales = static_cast<const float*>(weights.scales);
    for (int64_t i = first_panel * each; i < last_panel * each; ++i) finite &= std::isfinite(scales[i]);
  }
  if (!finite)
    throw Refused("scales hold NaN or infinity: the engine's weights are damaged or were packed by another tool");
}

void ScaleCheck::operator()(const Weights& weights) {
  if (found_finite_.load(std::memory_order_relaxed) == weights.scales) return;
  require_finite_scales(weights, 0, weights.panels());
  found_finite_.store(weights.scales, std::memory_order_relaxed);
}

}  // namespace qwen3::linear
