// From the attributes of an operator to a layout, and the checks that a blob fits it.
#pragma once

#include <atomic>
#include <string>

#include "../operator.h"
#include "weights.h"

namespace qwen3::linear {

// The layout of an [n, k] matrix. group_size 0 means one scale a row. Throws Refused for a combination that has none.
Weights weights_of(const std::string& format, int64_t n, int64_t k, int64_t group_size);

// The same for gate and up together, n = 2 * intermediate: panels alternate, so that there are twice the panels of one.
Weights gate_up(Weights layout);

// The layout with the bytes of one of `stacked` matrices that lie one after the other (the first; see `Weights::at`).
// Throws Refused unless codes and scales have the type and size of the layout.
Weights bind(const Weights& layout, const Tensor& codes, const Tensor& scales, int64_t stacked);

// Throws Refused where a scale is NaN or infinite. Reads all of [first, last).
void require_finite_scales(const Weights& weights, int64_t first_panel, int64_t last_panel);

// The same for a whole matrix, which is read when its scales are first met and not again.
class ScaleCheck {
 public:
  void operator()(const Weights& weights);

 private:
  std::atomic<const void*> found_finite_{nullptr};
};

}  // namespace qwen3::linear
