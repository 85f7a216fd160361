// Many query rows: tiles of the cache are converted to float32 once, arranged in panels, and shared by all rows of the
// item as two small matrix products with the online softmax between them. Included like simd_direct.h, after it and
// after `Eight`, eight floats.
#pragma once

#include "simd_direct.h"

namespace qwen3::attention {
namespace {

constexpr int64_t kPanel = V::kPanelVectors * V::kLanes;  // columns of a panel
static_assert(kTileKeys % kPanel == 0 && 32 % kPanel == 0, "tiles and padded heads are whole panels");

// A tile in float32: keys as [panels of keys][head_dim][kPanel], values as [panels of head_dim][keys][kPanel].
struct Tile {
  float* keys;
  float* values;
  int64_t count;
};

template <class Element>
void convert_keys(const Attend& a, int64_t begin, const Tile& tile) {
  const Cache& cache = *a.cache;
  const int64_t dim = cache.head_dim;
  Located<Element> at;
  for (int64_t first = 0; first < tile.count; first += kDirectKeys) {
    locate(a, a.kv_head, begin + first, kDirectKeys, at);
    for (int64_t j = 0; j < at.count; j += 8) {
      const int64_t column = first + j;
      float* to = tile.keys + column / kPanel * kPanel * dim + column % kPanel;
      Eight rows[8];
      for (int64_t d = 0; d < dim; d += 8) {
        for (int64_t k = 0; k < 8; ++k) {
          rows[k] = j + k < at.count ? load8(at.keys[j + k] + d) : zero8();
          if (sizeof(Element) == 1 && j + k < at.count) rows[k] = scale8(rows[k], at.key_scales[j + k]);
        }
        transpose8(rows);
        for (int64_t k = 0; k < 8; ++k) store8(to + (d + k) * kPanel, rows[k]);
      }
    }
    for (int64_t j = 0; j < at.count; ++j) {
      float* to = tile.values + (first + j) * kPanel;
      for (int64_t d = 0; d < dim; d += 8) {
        Eight values = load8(at.values[j] + d);
        if (sizeof(Element) == 1) values = scale8(values, at.value_scales[j]);
        store8(to + d / kPanel * kPanel * kTileKeys + d % kPanel, values);
      }
    }
  }
}

// R rows of left [R, depth] times a panel [depth, kPanel], added to out * correction (to nothing without correction).
template <int R>
void multiply_panel(const float* left, int64_t left_stride, const float* panel, int64_t depth, const float* correction,
                    float* out, int64_t out_stride) {
  constexpr int C = V::kPanelVectors;
  typename V::Floats sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) {
      sum[r][c] = correction == nullptr ? V::zero()
                                        : V::multiply(V::load(out + r * out_stride + c * V::kLanes),
                                                      V::broadcast(correction[r]));
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    typename V::Floats right[C];
    for (int c = 0; c < C; ++c) right[c] = V::load(panel + k * kPanel + c * V::kLanes);
    for (int r = 0; r < R; ++r) {
      const typename V::Floats value = V::broadcast(left[r * left_stride + k]);
      for (int c = 0; c < C; ++c) sum[r][c] = V::multiply_add(value, right[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) V::store(out + r * out_stride + c * V::kLanes, sum[r][c]);
  }
}

using MultiplyPanel = void (*)(const float*, int64_t, const float*, int64_t, const float*, float*, int64_t);
template <int... R>
constexpr MultiplyPanel select_rows(int64_t rows) {
  MultiplyPanel chosen = nullptr;
  ((rows == R ? chosen = multiply_panel<R> : chosen), ...);
  return chosen;
}
inline MultiplyPanel panel_of(int64_t rows) { return select_rows<1, 2, 3, 4, 5, 6, 7, 8>(rows); }

// Keys of the tile that row `row` may see.
inline int64_t seen_by(const Attend& a, int64_t row, int64_t begin, int64_t count) {
  const int64_t seen = a.first_position + row / a.group + 1 - begin;
  return seen < 0 ? 0 : (seen < count ? seen : count);
}

inline void attend_tile(const Attend& a, const Tile& tile, int64_t begin, float* scores, float* correction) {
  const int64_t dim = a.cache->head_dim, stride = padded_dim(dim);
  // Rows before the first that sees this tile (rows are in the order of positions) are left as they are.
  const int64_t hidden = begin > a.first_position ? (begin - a.first_position) * a.group : 0;
  for (int64_t panel = 0; panel < tile.count; panel += kPanel) {
    for (int64_t row = hidden; row < a.rows; row += V::kPanelRows) {
      const int64_t rows = a.rows - row < V::kPanelRows ? a.rows - row : V::kPanelRows;
      if (panel >= seen_by(a, row + rows - 1, begin, tile.count)) continue;
      panel_of(rows)(a.queries + row * stride, stride, tile.keys + panel * dim, dim, nullptr,
                     scores + row * kTileKeys + panel, kTileKeys);
    }
  }
  const int64_t padded = (tile.count + V::kLanes - 1) / V::kLanes * V::kLanes;
  for (int64_t row = hidden; row < a.rows; ++row) {
    correction[row] = soften(scores + row * kTileKeys, seen_by(a, row, begin, tile.count), padded, a.maximum[row],
                             a.sum[row]);
  }
  for (int64_t panel = 0; panel < stride; panel += kPanel) {
    if (panel >= dim) break;
    for (int64_t row = hidden; row < a.rows; row += V::kPanelRows) {
      const int64_t rows = a.rows - row < V::kPanelRows ? a.rows - row : V::kPanelRows;
      panel_of(rows)(scores + row * kTileKeys, kTileKeys, tile.values + panel * kTileKeys,
                     seen_by(a, row + rows - 1, begin, tile.count), correction + row, a.out + row * stride + panel,
                     stride);
    }
  }
}

template <class Element>
void attend_by_tiles(const Attend& a) {
  const int64_t dim = a.cache->head_dim, stride = padded_dim(dim);
  Tile tile{a.work, a.work + kTileKeys * stride, 0};
  float* scores = tile.values + kTileKeys * stride;
  float* correction = scores + a.rows * kTileKeys;
  clear_results(a, a.rows, stride);
  // Columns beyond head_dim of the last panel of values are never written by the conversion.
  for (int64_t i = 0; i < kTileKeys * stride; ++i) tile.values[i] = 0;
  for (int64_t begin = a.begin; begin < a.end; begin += kTileKeys) {
    tile.count = a.end - begin < kTileKeys ? a.end - begin : kTileKeys;
    convert_keys<Element>(a, begin, tile);
    attend_tile(a, tile, begin, scores, correction);
  }
}

}  // namespace
}  // namespace qwen3::attention
