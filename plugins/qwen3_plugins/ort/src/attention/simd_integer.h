// Few query rows against an int8 cache in integers, which processors multiply faster than floats: queries and weights
// become 15-bit codes with scales of their own, fine enough to add little to the error of the cache's 8 bits. Included
// like simd_direct.h, after it; `V` must have `Words`, vectors of 16-bit integers, and their products.
#pragma once

#include "simd_attend.h"

namespace qwen3::attention {
namespace {

constexpr int64_t kCodeRun = 32;  // keys; longer runs hide the cost of a run, but wait for memory
// So that 32 bits hold the sum of its products with the codes, of 8 bits, of the longest head.
constexpr float kMostCode = 16383;
constexpr float kLeastScaled = 1e-30f;  // below, weights are nothing beside the largest, which is 1

// Rows of queries in 16 bits, as long as the rows in floats.
struct Codes {
  int16_t* rows;
  float* scales;
};

// Writes `count` floats, whole vectors, as codes; returns their scale: NaN if one of them is NaN or infinite.
inline float encode(const float* values, int64_t count, int16_t* codes) {
  typename V::Floats top = V::zero(), poison = V::zero();
  for (int64_t i = 0; i < count; i += V::kLanes) {
    const typename V::Floats value = V::load(values + i);
    top = V::maximum(top, V::maximum(V::subtract(V::zero(), value), value));
    poison = V::multiply_add(value, V::zero(), poison);
  }
  const float largest = V::highest(top);
  const typename V::Floats inverse = V::broadcast(largest > kLeastScaled ? kMostCode / largest : 0.0f);
  for (int64_t i = 0; i < count; i += V::kLanes) V::store_codes(codes + i, V::multiply(V::load(values + i), inverse));
  return largest / kMostCode + V::total(poison);
}

// values[i] *= scales[i] * by
inline void scale_all(float* values, const float* scales, float by, int64_t count) {
  for (int64_t i = 0; i < count; i += V::kLanes) {
    const typename V::Floats scale = V::multiply(V::load(scales + i), V::broadcast(by));
    V::store(values + i, V::multiply(V::load(values + i), scale));
  }
}

// As `score`, without the scales of queries and keys; kHalf: head_dim ends with half of kWords.
template <int R, bool kHalf>
void score_codes(const int16_t* queries, int64_t stride, const Located<int8_t>& at, const Located<int8_t>& ahead,
                 int64_t dim, float* scores) {
  for (int64_t j = 0; j < at.count; j += 4) {
    for (int64_t k = j; k < j + 4 && k < ahead.count; ++k) prefetch_row(ahead.keys[k], dim);
    const int8_t* const* key = at.keys + j;
    typename V::Words sum[R][4];
    for (int r = 0; r < R; ++r) {
      for (int k = 0; k < 4; ++k) sum[r][k] = V::no_products();
    }
    int64_t d = 0;
    for (; d + V::kWords <= dim; d += V::kWords) {
      for (int k = 0; k < 4; ++k) {
        const typename V::Words codes = V::widen(key[k] + d);
        for (int r = 0; r < R; ++r) sum[r][k] = V::add_products(codes, V::load(queries + r * stride + d), sum[r][k]);
      }
    }
    if (kHalf) {
      for (int k = 0; k < 4; ++k) {
        const typename V::Words codes = V::widen_half(key[k] + d);
        for (int r = 0; r < R; ++r) sum[r][k] = V::add_products(codes, V::load(queries + r * stride + d), sum[r][k]);
      }
    }
    for (int r = 0; r < R; ++r) V::store_products(sum[r], scores + r * kDirectKeys + j);
  }
}

inline void add_scaled(typename V::Words sum, float scale, float correction, float* out) {
  const typename V::Floats before = V::multiply(V::load(out), V::broadcast(correction));
  V::store(out, V::multiply_add(V::to_floats(sum), V::broadcast(scale), before));
}

// out[r] = out[r] * correction[r] + scale[r] * (weights[r] . values), for C * kWords values of the head from `d` on.
template <int R, int C>
void add_code_columns(const int16_t* weights, const float* scale, const Located<int8_t>& at,
                      const Located<int8_t>& ahead, const float* correction, int64_t stride, int64_t d, float* out) {
  typename V::Words sum[R][C][2];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sum[r][c][0] = sum[r][c][1] = V::no_products();
  }
  for (int64_t j = 0; j < at.count; j += 2) {
    for (int64_t k = j; k < j + 2 && k < ahead.count && d % 64 == 0; ++k) __builtin_prefetch(ahead.values[k] + d, 0, 2);
    for (int c = 0; c < C; ++c) {
      typename V::Words pairs[2];
      V::pair_up(at.values[j] + d + c * V::kWords, at.values[j + 1] + d + c * V::kWords, pairs);
      for (int r = 0; r < R; ++r) {
        const typename V::Words weight = V::broadcast_pair(weights + r * kDirectKeys + j);
        for (int i = 0; i < 2; ++i) sum[r][c][i] = V::add_products(pairs[i], weight, sum[r][c][i]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) {
      V::put_in_order(sum[r][c]);
      for (int i = 0; i < 2; ++i) {
        add_scaled(sum[r][c][i], scale[r], correction[r], out + r * stride + d + c * V::kWords + i * V::kLanes);
      }
    }
  }
}

// The same for the last half of kWords.
template <int R>
void add_half_column(const int16_t* weights, const float* scale, const Located<int8_t>& at, const float* correction,
                     int64_t stride, int64_t d, float* out) {
  typename V::Words sum[R];
  for (int r = 0; r < R; ++r) sum[r] = V::no_products();
  for (int64_t j = 0; j < at.count; j += 2) {
    const typename V::Words pairs = V::pair_up_half(at.values[j] + d, at.values[j + 1] + d);
    for (int r = 0; r < R; ++r) {
      sum[r] = V::add_products(pairs, V::broadcast_pair(weights + r * kDirectKeys + j), sum[r]);
    }
  }
  for (int r = 0; r < R; ++r) add_scaled(sum[r], scale[r], correction[r], out + r * stride + d);
}

template <int R>
void add_value_codes(const int16_t* weights, const float* scale, const Located<int8_t>& at,
                     const Located<int8_t>& ahead, const float* correction, int64_t stride, int64_t dim, float* out) {
  constexpr int kColumns = R <= 2 ? 2 : 1;
  int64_t d = 0;
  for (; d + kColumns * V::kWords <= dim; d += kColumns * V::kWords) {
    add_code_columns<R, kColumns>(weights, scale, at, ahead, correction, stride, d, out);
  }
  for (; d + V::kWords <= dim; d += V::kWords) {
    add_code_columns<R, 1>(weights, scale, at, ahead, correction, stride, d, out);
  }
  if (d < dim) add_half_column<R>(weights, scale, at, correction, stride, d, out);
}

// As attend_head, with `queries` in place of the floats.
inline void attend_head_codes(const Attend& a, const Codes& queries, int64_t head, int64_t begin,
                              const Located<int8_t>& at, const Located<int8_t>& ahead) {
  const int64_t dim = a.cache->head_dim, stride = padded_dim(dim), first = head * a.rows;
  const int64_t padded = (at.count + V::kLanes - 1) / V::kLanes * V::kLanes;
  Located<int8_t> nothing;
  nothing.count = 0;
  float scores[kDirectRows * kDirectKeys], correction[kDirectRows], scale[kDirectRows];
  int16_t weights[kDirectRows * kDirectKeys];
  in_tiles<V::kCodeRows>(a.rows, [&](auto rows, int64_t row) {
    const auto score_rows = dim % V::kWords == 0 ? score_codes<rows, false> : score_codes<rows, true>;
    score_rows(queries.rows + (first + row) * stride, stride, at, row == 0 ? ahead : nothing, dim,
               scores + row * kDirectKeys);
  });
  for (int64_t row = 0; row < a.rows; ++row) {
    const int64_t seen = a.first_position + row / a.group + 1 - begin;
    float* floats = scores + row * kDirectKeys;
    scale_all(floats, at.key_scales, queries.scales[first + row], padded);
    correction[row] =
        soften(floats, seen < at.count ? seen : at.count, padded, a.maximum[first + row], a.sum[first + row]);
    scale_all(floats, at.value_scales, 1.0f, padded);
    scale[row] = encode(floats, padded, weights + row * kDirectKeys);
  }
  in_tiles<4>(a.rows, [&](auto rows, int64_t row) {
    add_value_codes<rows>(weights + row * kDirectKeys, scale + row, at, row == 0 ? ahead : nothing, correction + row,
                          stride, dim, a.out + (first + row) * stride);
  });
}

inline void attend_codes(const Attend& a) {
  const int64_t rows = a.heads * a.rows, stride = padded_dim(a.cache->head_dim);
  const Codes queries{reinterpret_cast<int16_t*>(a.work + rows), a.work};
  for (int64_t row = 0; row < rows; ++row) {
    queries.scales[row] = encode(a.queries + row * stride, stride, queries.rows + row * stride);
  }
  read_in_runs<int8_t>(a, kCodeRun, [&](int64_t head, int64_t begin, const auto& at, const auto& ahead) {
    attend_head_codes(a, queries, head, begin, at, ahead);
  });
}

void attend_in_integers(const Attend& a) {
  a.cache->type == CacheType::kInt8 && a.rows <= kDirectRows ? attend_codes(a) : attend(a);
}

}  // namespace
}  // namespace qwen3::attention
