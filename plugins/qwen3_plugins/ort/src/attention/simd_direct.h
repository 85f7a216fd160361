// Few query rows against the cache, straight from its own type: what decoding needs. Included by one file for each
// instruction set, after `V`, its vectors, is defined; everything has internal linkage, so that no code compiled for
// one processor can be linked into another's path.
#pragma once

#include <math.h>
#include <cstdint>
#include <type_traits>

#include "kernels.h"

namespace qwen3::attention {
namespace {

constexpr int64_t kDirectKeys = 64;         // most keys scored together
constexpr int64_t kShortRun = 16, kLongRun = 48;  // keys, with one or two rows of queries and with more
constexpr int64_t kAheadBytes = 8 * 1024;  // how far prefetching runs ahead in each of the streams of keys and values

// Where a run of keys and their values lie for one kv head. Up to the next multiple of 4 the last token repeats, with
// scales of 0 up to the next multiple of 16.
template <class Element>
struct Located {
  const Element* keys[kDirectKeys];
  const Element* values[kDirectKeys];
  float key_scales[kDirectKeys];
  float value_scales[kDirectKeys];
  int64_t count;
};

template <class Element>
void locate(const Attend& a, int64_t kv_head, int64_t begin, int64_t most, Located<Element>& at) {
  const Cache& cache = *a.cache;
  const Element* data = static_cast<const Element*>(cache.data);
  at.count = a.end - begin < most ? (a.end > begin ? a.end - begin : 0) : most;
  int64_t slot = begin % cache.block, entry = begin / cache.block, i = 0;
  while (i < at.count) {
    int64_t row = cache.key_row(a.table[entry], kv_head, slot);
    for (; i < at.count && slot < cache.block; ++i, ++slot, ++row) {
      at.keys[i] = data + row * cache.head_dim;
      at.values[i] = data + (row + cache.value_offset()) * cache.head_dim;
      if (cache.scales != nullptr) {
        at.key_scales[i] = cache.scales[row];
        at.value_scales[i] = cache.scales[row + cache.value_offset()];
      }
    }
    slot = 0;
    ++entry;
  }
  for (; i % 4 != 0; ++i) {
    at.keys[i] = at.keys[i - 1];
    at.values[i] = at.values[i - 1];
  }
  for (i = at.count; i % 16 != 0; ++i) at.key_scales[i] = at.value_scales[i] = 0;
}

// Into the second-level cache: the first has too few buffers for misses to keep memory busy.
inline void prefetch_row(const void* row, int64_t bytes) {
  const char* line = static_cast<const char*>(row);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(line + i, 0, 2);
}

// What nothing is computed before: the first runs of a walk.
template <class Element>
void fetch(const Located<Element>& run, int64_t dim) {
  const int64_t bytes = dim * static_cast<int64_t>(sizeof(Element));
  for (int64_t k = 0; k < run.count; ++k) prefetch_row(run.keys[k], bytes);
  for (int64_t k = 0; k < run.count; ++k) prefetch_row(run.values[k], bytes);
}

// scores[r][key] for R query rows, four keys at a time, while the keys `ahead` are fetched.
template <int R, class Element>
void score(const float* queries, int64_t stride, const Located<Element>& at, const Located<Element>& ahead, int64_t dim,
           float* scores) {
  for (int64_t j = 0; j < at.count; j += 4) {
    for (int64_t k = j; k < j + 4 && k < ahead.count; ++k) {
      prefetch_row(ahead.keys[k], dim * static_cast<int64_t>(sizeof(Element)));
    }
    const Element* const* key = at.keys + j;
    typename V::Floats sum[R][4];
    for (int r = 0; r < R; ++r) {
      for (int k = 0; k < 4; ++k) sum[r][k] = V::zero();
    }
    for (int64_t d = 0; d < dim; d += V::kLanes) {
      for (int k = 0; k < 4; ++k) {
        const typename V::Floats values = V::load(key[k] + d);
        for (int r = 0; r < R; ++r) sum[r][k] = V::multiply_add(values, V::load(queries + r * stride + d), sum[r][k]);
      }
    }
    for (int r = 0; r < R; ++r) V::store_sums(sum[r], scores + r * kDirectKeys + j);
  }
}

// out[r] = out[r] * correction[r] + weights[r] . values, for C vectors of the head beginning at `d`.
template <int R, int C, class Element>
void add_columns(const float* weights, const Located<Element>& at, const Located<Element>& ahead,
                 const float* correction, int64_t stride, int64_t d, float* out) {
  typename V::Floats sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) {
      sum[r][c] = V::multiply(V::load(out + r * stride + d + c * V::kLanes), V::broadcast(correction[r]));
    }
  }
  for (int64_t j = 0; j < at.count; ++j) {
    if (j < ahead.count) prefetch_row(ahead.values[j] + d, C * V::kLanes * static_cast<int64_t>(sizeof(Element)));
    typename V::Floats weight[R];
    for (int r = 0; r < R; ++r) weight[r] = V::broadcast(weights[r * kDirectKeys + j]);
    for (int c = 0; c < C; ++c) {
      const typename V::Floats values = V::load(at.values[j] + d + c * V::kLanes);
      for (int r = 0; r < R; ++r) sum[r][c] = V::multiply_add(weight[r], values, sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) V::store(out + r * stride + d + c * V::kLanes, sum[r][c]);
  }
}

template <int R, class Element>
void add_values(const float* weights, const Located<Element>& at, const Located<Element>& ahead,
                const float* correction, int64_t stride, int64_t dim, float* out) {
  constexpr int kColumns = R > V::kDirectRows ? 2 : (R > 2 ? 4 : 32 / V::kLanes);
  int64_t d = 0;
  for (; d + kColumns * V::kLanes <= dim; d += kColumns * V::kLanes) {
    add_columns<R, kColumns>(weights, at, ahead, correction, stride, d, out);
  }
  for (; d < dim; d += V::kLanes) add_columns<R, 1>(weights, at, ahead, correction, stride, d, out);
}

// Turns the first `valid` scores of a row into weights 2^(score - maximum), the rest up to `count` into zeros, and
// updates the running maximum and sum. `count` is a multiple of the vector length. Returns the correction that earlier
// results need.
inline float soften(float* scores, int64_t valid, int64_t count, float& maximum, float& sum) {
  if (valid <= 0) {
    for (int64_t i = 0; i < count; ++i) scores[i] = 0;
    return 1;
  }
  for (int64_t i = valid; i < count; ++i) scores[i] = -INFINITY;
  typename V::Floats top = V::load(scores);
  for (int64_t i = V::kLanes; i < count; i += V::kLanes) top = V::maximum(top, V::load(scores + i));
  const float highest = V::highest(top);
  const float before = maximum;
  maximum = before > highest ? before : highest;
  typename V::Floats total = V::zero();
  const typename V::Floats base = V::broadcast(maximum);
  for (int64_t i = 0; i < count; i += V::kLanes) {
    const typename V::Floats weight = V::exp2(V::subtract(V::load(scores + i), base));
    V::store(scores + i, weight);
    total = V::add(total, weight);
  }
  const float correction = before == maximum ? 1.0f : exp2f(before - maximum);
  sum = sum * correction + V::total(total);
  return correction;
}

inline void clear_results(const Attend& a, int64_t rows, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row) {
    a.maximum[row] = -INFINITY;
    a.sum[row] = 0;
  }
  for (int64_t i = 0; i < rows * stride; ++i) a.out[i] = 0;
}

// Calls `work` with the number of rows, a constant, and the first row of each of the tiles that cover `rows`: as few as
// can be with at most kMost rows, all of about the same size.
template <int kMost, class Work>
void in_tiles(int64_t rows, const Work& work) {
  for (int64_t row = 0, tiles = (rows + kMost - 1) / kMost; tiles > 0; --tiles) {
    const int64_t count = (rows - row + tiles - 1) / tiles;
    if (count == 1) work(std::integral_constant<int, 1>(), row);
    if (count == 2) work(std::integral_constant<int, 2>(), row);
    if (count == 3) work(std::integral_constant<int, 3>(), row);
    if (count == 4) work(std::integral_constant<int, kMost < 4 ? kMost : 4>(), row);
    row += count;
  }
}

// The rows of one kv head against some of its keys, the first of which has the position `begin`.
template <class Element>
void attend_head(const Attend& a, int64_t head, int64_t begin, const Located<Element>& at,
                 const Located<Element>& ahead) {
  constexpr bool kScaled = sizeof(Element) == 1;
  const int64_t dim = a.cache->head_dim, stride = padded_dim(dim), first = head * a.rows;
  const int64_t padded = (at.count + V::kLanes - 1) / V::kLanes * V::kLanes;
  Located<Element> nothing;
  nothing.count = 0;
  float scores[kDirectRows * kDirectKeys], correction[kDirectRows];
  in_tiles<V::kDirectRows>(a.rows, [&](auto rows, int64_t row) {
    score<rows>(a.queries + (first + row) * stride, stride, at, row == 0 ? ahead : nothing, dim,
                scores + row * kDirectKeys);
  });
  for (int64_t row = 0; row < a.rows; ++row) {
    const int64_t seen = a.first_position + row / a.group + 1 - begin;
    float* weights = scores + row * kDirectKeys;
    if (kScaled) {
      for (int64_t i = 0; i < at.count; ++i) weights[i] *= at.key_scales[i];
    }
    correction[row] =
        soften(weights, seen < at.count ? seen : at.count, padded, a.maximum[first + row], a.sum[first + row]);
    if (kScaled) {
      for (int64_t i = 0; i < at.count; ++i) weights[i] *= at.value_scales[i];
    }
  }
  in_tiles<4>(a.rows, [&](auto rows, int64_t row) {
    add_values<rows>(scores + row * kDirectKeys, at, row == 0 ? ahead : nothing, correction + row, stride, dim,
                     a.out + (first + row) * stride);
  });
}

// The order in which the cache is read: for each run of keys all heads, which lie one after the other in memory.
struct Walk {
  int64_t begin, head;

  int64_t end(const Attend& a, int64_t keys) const {
    const int64_t border = (begin / keys + 1) * keys;
    return border < a.end ? border : a.end;
  }
  void advance(const Attend& a, int64_t keys) {
    if (++head < a.heads) return;
    begin = end(a, keys);
    head = 0;
  }
};

// Calls `attend_run` with each kv head, the position of the first key of a run of it, and where this run and one to
// fetch ahead lie. A run is a block of the cache, or `least` keys where blocks are shorter.
template <class Element, class AttendRun>
void read_in_runs(const Attend& a, int64_t least, const AttendRun& attend_run) {
  constexpr int kMostAhead = 8;
  const int64_t block = a.cache->block;
  clear_results(a, a.heads * a.rows, padded_dim(a.cache->head_dim));
  const int64_t keys = block < least ? least : (block < kDirectKeys ? block : kDirectKeys);
  const int64_t bytes = keys * a.cache->head_dim * static_cast<int64_t>(sizeof(Element));
  const int ahead = bytes > kAheadBytes ? 1 : (bytes * kMostAhead < kAheadBytes ? kMostAhead : kAheadBytes / bytes);
  Located<Element> located[kMostAhead + 1];
  Walk next{a.begin, 0};
  const auto locate_next = [&](Located<Element>& to) {
    locate(a, a.kv_head + next.head, next.begin, next.end(a, keys) - next.begin, to);
    next.advance(a, keys);
  };
  for (int i = 0; i < ahead; ++i) {
    locate_next(located[i]);
    fetch(located[i], a.cache->head_dim);
  }
  int now = 0;
  for (Walk at{a.begin, 0}; at.begin < a.end; at.advance(a, keys)) {
    const int last = now == 0 ? ahead : now - 1;
    locate_next(located[last]);
    attend_run(at.head, at.begin, located[now], located[last]);
    now = now == ahead ? 0 : now + 1;
  }
}

template <class Element>
void attend_directly(const Attend& a) {
  // Few rows wait for memory, which is read best block by block; many for arithmetic, which long runs interrupt least.
  read_in_runs<Element>(a, a.rows > 2 ? kLongRun : kShortRun,
                        [&](int64_t head, int64_t begin, const auto& at, const auto& ahead) {
                          attend_head(a, head, begin, at, ahead);
                        });
}

}  // namespace
}  // namespace qwen3::attention
