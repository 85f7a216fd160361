#include "layout.h"

#include <algorithm>
#include <cmath>

#include "../operator.h"

namespace qwen3::linear {

namespace {

Format format_of(const std::string& name) {
  if (name == "int4") return Format::int4;
  if (name == "int8") return Format::int8;
  if (name == "fp8") return Format::fp8;
  if (name == "fp16") return Format::fp16;
  if (name == "bf16") return Format::bf16;
  if (name == "fp32") return Format::fp32;
  throw Refused("format is '" + name + "', expected int4, int8, fp8, fp16, bf16 or fp32");
}

[[noreturn]] void refuse_group(const std::string& format, int64_t size, const char* expected) {
  throw Refused("group_size is " + std::to_string(size) + " for " + format + " weights, expected " + expected);
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
  const int64_t count = product("scales", {stacked, weights.scale_count()});
  if (count == 0 && scales) throw Refused("scales are given, but this format has none");
  const Element wanted = weights.scaling == Scaling::group_column ? Element::f16 : Element::f32;
  if (count != 0 && (scales.element != wanted || scales.size() != count))
    throw Refused("scales are " + scales.describe() + ", expected " + std::to_string(count) +
                  (wanted == Element::f16 ? " of float16" : " of float32"));
  weights.codes = codes.as<const uint8_t>();
  weights.scales = scales.data;
  return weights;
}

void require_finite_scales(const Weights& weights, int64_t first_panel, int64_t last_panel) {
  if (weights.scaling == Scaling::none) return;
  const int64_t each = weights.scale_count() / weights.panels();
  bool finite = true;
  if (weights.scaling == Scaling::group_column) {
    const uint16_t* scales = weights.group_scales(0);
    for (int64_t i = first_panel * each; i < last_panel * each; ++i) finite &= (scales[i] & 0x7c00) != 0x7c00;
  } else {
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
