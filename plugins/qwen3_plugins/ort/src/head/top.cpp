#include "top.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "../sizes.h"
#include "scan.h"

namespace qwen3::head {
namespace {

constexpr int64_t kLeastPart = 8192;  // logits below which another task costs more than it brings

// What a part of a row comes to.
struct Part {
  Best best;
  float maximum;
  double sum;  // of e^(logit - maximum)
};

const Scan& scan_of(InstructionSet instructions) {
#if defined(__x86_64__)
  if (instructions >= InstructionSet::avx512) return scan_avx512();
  if (instructions >= InstructionSet::avx2) return scan_avx2();
#endif
  (void)instructions;
  return scan_scalar();
}

int64_t strides_of(int64_t count) { return (count + kStride - 1) / kStride; }

// As many logits as there are strides with a maximum that reaches the k-th largest maximum reach it too, so the k
// largest of all do. `scratch` has room for two floats a stride.
void scan_part(const Scan& scan, const float* logits, int64_t count, int32_t first, float* scratch, Part& part) {
  const int64_t strides = strides_of(count), k = part.best.k;
  float* maxima = scratch;
  scan.maxima(logits, count, maxima);
  float* ordered = std::copy_n(maxima, strides, scratch + strides) - strides;
  part.maximum = *std::max_element(maxima, maxima + strides);
  float bound = -INFINITY;
  if (k <= strides) {
    std::nth_element(ordered, ordered + k - 1, ordered + strides, std::greater<float>());
    bound = ordered[k - 1];
  }
  scan.collect(logits, count, maxima, bound, first, part.best);
  part.sum = scan.sum(logits, count, part.maximum == -INFINITY ? 0.0f : part.maximum);
}

void merge(const Part* parts, int64_t count, int64_t k, float* values, int32_t* ids, float* log_sum_exp) {
  std::vector<Candidate> all;
  float maximum = -INFINITY;
  for (int64_t p = 0; p < count; ++p) {
    all.insert(all.end(), parts[p].best.heap, parts[p].best.heap + parts[p].best.found);
    maximum = std::max(maximum, parts[p].maximum);
  }
  std::partial_sort(all.begin(), all.begin() + k, all.end(), [](const Candidate& a, const Candidate& b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
  });
  for (int64_t i = 0; i < k; ++i) {
    values[i] = all[static_cast<size_t>(i)].value;
    ids[i] = all[static_cast<size_t>(i)].id;
  }
  if (maximum == -INFINITY) maximum = 0;  // nothing but -inf and NaN
  double sum = 0;
  for (int64_t p = 0; p < count; ++p) {
    const float own = parts[p].maximum == -INFINITY ? 0.0f : parts[p].maximum;
    sum += parts[p].sum * std::exp(static_cast<double>(own) - maximum);
  }
  *log_sum_exp = static_cast<float>(maximum + std::log(sum));
}

}  // namespace

void find_top(const float* logits, int64_t rows, int64_t stride, int64_t width, int64_t k, float* values, int32_t* ids,
              float* log_sum_exp, const Parallel& parallel, InstructionSet instructions) {
  const Scan& scan = scan_of(instructions);
  const int64_t count = std::clamp<int64_t>(width / kLeastPart, 1, 2 * std::max(parallel.threads, 1));
  Scratch<Candidate> candidates("the largest logits", {rows, count, k});
  std::vector<Part> parts(static_cast<size_t>(product("parts of logits", {rows, count})));
  const int64_t room = 2 * strides_of(width / count + 1);
  Scratch<float> scratch("maxima of logits", {rows, count, room});
  for_each(parallel, parts.size(), [&](size_t index) {
    const int64_t row = static_cast<int64_t>(index) / count, part = static_cast<int64_t>(index) % count;
    const int64_t begin = width * part / count, end = width * (part + 1) / count;
    const int64_t own = static_cast<int64_t>(index);
    parts[index].best = {candidates.get() + own * k, k, 0};
    scan_part(scan, logits + row * stride + begin, end - begin, static_cast<int32_t>(begin),
              scratch.get() + own * room, parts[index]);
  });
  for (int64_t row = 0; row < rows; ++row) {
    merge(parts.data() + row * count, count, k, values + row * k, ids + row * k, log_sum_exp + row);
  }
}

}  // namespace qwen3::head
