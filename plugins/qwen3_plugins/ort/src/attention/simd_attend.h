// The vector kernels' choice between few rows and many.
#pragma once

#include "simd_tiled.h"

namespace qwen3::attention {
namespace {

void attend(const Attend& a) {
  const bool half = a.cache->type == CacheType::kHalf;
  if (a.rows <= kDirectRows) {
    half ? attend_directly<uint16_t>(a) : attend_directly<int8_t>(a);
  } else {
    half ? attend_by_tiles<uint16_t>(a) : attend_by_tiles<int8_t>(a);
  }
}

}  // namespace
}  // namespace qwen3::attention
