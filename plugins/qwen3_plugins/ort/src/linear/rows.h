// A kernel is compiled once for every number of rows up to the largest; this picks the one that a tile needs.
#pragma once

#include <utility>

#include "kernels.h"

namespace qwen3::linear {

// Body<R>::run(weights, tile, panel, out) for R = 1..most.
template <template <int> class Body, int... index>
inline void dispatch(std::integer_sequence<int, index...>, const Weights& weights, const Tile& tile, int64_t panel,
                     float* out) {
  static constexpr PanelKernel table[] = {Body<index + 1>::run...};
  table[tile.rows - 1](weights, tile, panel, out);
}

template <template <int> class Body, int most>
inline void by_rows(const Weights& weights, const Tile& tile, int64_t panel, float* out) {
  dispatch<Body>(std::make_integer_sequence<int, most>{}, weights, tile, panel, out);
}

}  // namespace qwen3::linear
