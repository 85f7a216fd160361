// A matrix [n, k] in the layout that its kernels read: panels of 16 rows, one after the other.
//
// A panel is a run of bytes that a kernel reads once from front to back; its 16 rows become the 16 columns of a tile of
// the output, so that neither a horizontal sum nor a gather is needed. qwen3_plugins/layouts.py holds the packers and
// describes every format bit by bit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qwen3::linear {

constexpr int kPanel = 16;         // rows of the matrix in a panel
constexpr int kFloatStep = 8;      // inputs that floating-point kernels take at a time
constexpr int kChannelGroup = 64;  // activations that share a scale where the weights have one scale a row

enum class Format { int4, uint4, int8, fp8, fp16, bf16, fp32 };
constexpr int kIntegerFormats = 3;  // the first of them
constexpr int kFormats = 7;

// What is added to a code where it is stored, so that it is not negative; uint4 has a zero point for each group
// instead.
constexpr int stored_offset(Format format) { return format == Format::int4 ? 8 : format == Format::int8 ? 128 : 0; }

// Of 16 rows and a group of inputs: 16 float16 scales, and for uint4 16 zero points of four bits behind them.
constexpr int group_bytes(Format format) { return format == Format::uint4 ? 2 * kPanel + kPanel / 2 : 2 * kPanel; }

// How scales are laid out.
enum class Scaling {
  none,
  group_column,  // each row of the matrix has one for every group of inputs: float16 [panels, groups, 16];
                 // of uint4 uint8 [panels, groups, 40], with the zero points
  group_panel,   // float32 [panels, groups]: 16 rows share one
  column,        // float32 [panels, 16]: one for each row of the matrix
};

struct Weights {
  Format format = Format::fp32;
  Scaling scaling = Scaling::none;
  int64_t n = 0;      // rows: outputs
  int64_t k = 0;      // inputs
  int64_t group = 0;  // inputs that share a scale, of the weights or, if those have one a row, of the activations
  const uint8_t* codes = nullptr;
  const void* scales = nullptr;

  bool gate_up = false;  // panels alternate: 16 rows of gate, 16 of up; n counts both
  int64_t panels() const { return gate_up ? 2 * ((n / 2 + kPanel - 1) / kPanel) : (n + kPanel - 1) / kPanel; }
  int64_t groups() const { return (k + group - 1) / group; }
  int64_t padded_k() const { return groups() * group; }
  bool integer() const { return static_cast<int>(format) < kIntegerFormats; }
  int bits() const {
    switch (format) {
      case Format::int4:
      case Format::uint4: return 4;
      case Format::int8:
      case Format::fp8: return 8;
      case Format::fp16:
      case Format::bf16: return 16;
      case Format::fp32: break;
    }
    return 32;
  }
  // By this a kernel multiplies the sum of a group's activations and takes it off the products with stored codes; for
  // uint4 it multiplies by the zero points besides.
  int correction_factor() const { return format == Format::uint4 ? 1 : stored_offset(format); }
  int64_t panel_bytes() const { return padded_k() * kPanel * bits() / 8; }
  int64_t code_bytes() const { return panels() * panel_bytes(); }
  int64_t scale_bytes() const {
    switch (scaling) {
      case Scaling::none: return 0;
      case Scaling::group_column: return panels() * groups() * group_bytes(format);
      case Scaling::group_panel: return panels() * groups() * 4;
      case Scaling::column: break;
    }
    return panels() * kPanel * 4;
  }

  // The i-th of matrices of this layout that lie one after the other.
  Weights at(int64_t i) const {
    Weights other = *this;
    other.codes += i * code_bytes();
    other.scales = static_cast<const uint8_t*>(scales) + i * scale_bytes();
    return other;
  }

  const uint8_t* panel_codes(int64_t panel) const { return codes + panel * panel_bytes(); }
  const uint8_t* group_scales(int64_t panel, int64_t group = 0) const {
    return static_cast<const uint8_t*>(scales) + (panel * groups() + group) * group_bytes(format);
  }
  const float* panel_scales(int64_t panel) const { return static_cast<const float*>(scales) + panel * groups(); }
  const float* column_scales(int64_t panel) const { return static_cast<const float*>(scales) + panel * kPanel; }
};

}  // namespace qwen3::linear
