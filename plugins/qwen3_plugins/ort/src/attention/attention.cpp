#include "attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <vector>

#include "../limits.h"
#include "../sizes.h"
#include "kernels.h"
#include "plan.h"

namespace qwen3::attention {
namespace {

constexpr int64_t kAppendTokens = 16;  // tokens of one append task

// What the threads of one step share.
struct Run {
  const Step& step;
  const Kernels& kernels;
  Plan plan;
  int64_t group, stride;
  Scratch<float> partials;
  std::unique_ptr<std::atomic<int64_t>[]> unfinished;  // parts of each split
  Scratch<float> work;
  int64_t work_floats;  // of each worker
  std::atomic<size_t> next{0};
};

// Where an item's rows leave their results.
struct Result {
  float *out, *maximum, *sum;
};

// Where a row of an item comes from.
struct Origin {
  int64_t token, head, position;
};

int64_t rows_of(const Run& run, const Item& item) { return item.heads * item.count * run.group; }

Origin origin_of(const Run& run, const Item& item, int64_t row) {
  const int64_t shared = item.count * run.group;
  const int64_t index = item.first + row % shared / run.group;
  return {run.step.query_start[item.sequence] + index,
          (item.kv_head + row / shared) * run.group + row % run.group,
          run.step.context_len[item.sequence] + index};
}

void append_token(const Run& run, int64_t sequence, int64_t kv_head, int64_t index) {
  const Step& step = run.step;
  const Cache& cache = step.cache;
  const int64_t dim = cache.head_dim, position = step.context_len[sequence] + index;
  const float* token = step.qkv + (step.query_start[sequence] + index) * (step.heads + 2 * cache.kv_heads) * dim;
  const int32_t* table = step.block_table + sequence * step.table_width;
  const int64_t row = cache.key_row(table[position / cache.block], kv_head, position % cache.block);
  float key[limits::kHeadDim.highest];
  run.kernels.rotate(token + (step.heads + kv_head) * dim, step.k_norm, step.cosine + position * (dim / 2),
                     step.sine + position * (dim / 2), dim, step.epsilon, 1.0f, key);
  run.kernels.store(key, cache, row);
  run.kernels.store(token + (step.heads + cache.kv_heads + kv_head) * dim, cache, row + cache.value_offset());
}

void rotate_queries(const Run& run, const Item& item, float* queries) {
  const Step& step = run.step;
  const int64_t dim = step.cache.head_dim;
  // Scores in units of log2: the kernels then need 2^x only.
  const float scale = 1.44269504088896f / std::sqrt(static_cast<float>(dim));
  for (int64_t row = 0; row < rows_of(run, item); ++row, queries += run.stride) {
    const Origin from = origin_of(run, item, row);
    const float* turn = step.cosine + from.position * (dim / 2);
    const float* head = step.qkv + (from.token * (step.heads + 2 * step.cache.kv_heads) + from.head) * dim;
    run.kernels.rotate(head, step.q_norm, turn, step.sine + from.position * (dim / 2), dim, step.epsilon, scale,
                       queries);
    std::fill(queries + dim, queries + run.stride, 0.0f);
  }
}

// Writes the weighted means of an item's rows to the step's output.
void write_out(const Run& run, const Item& item, const float* out, const float* sum) {
  const int64_t dim = run.step.cache.head_dim;
  for (int64_t row = 0; row < rows_of(run, item); ++row, out += run.stride) {
    const Origin to = origin_of(run, item, row);
    float* means = run.step.out + (to.token * run.step.heads + to.head) * dim;
    const float inverse = 1.0f / sum[row];
    for (int64_t i = 0; i < dim; ++i) means[i] = out[i] * inverse;
  }
}

Result part_of(const Run& run, const Item& item, int64_t part) {
  const int64_t rows = rows_of(run, item);
  float* out = run.partials.get() + run.plan.splits[static_cast<size_t>(item.split)].offset +
               part * part_floats(rows, run.stride);
  return {out, out + rows * run.stride, out + rows * (run.stride + 1)};
}

// Brings the parts of a split to their common maximum, adds them up and writes the result.
void merge(const Run& run, const Item& item) {
  const int64_t parts = run.plan.splits[static_cast<size_t>(item.split)].parts;
  const Result total = part_of(run, item, 0);
  for (int64_t row = 0; row < rows_of(run, item); ++row) {
    float maximum = total.maximum[row];
    for (int64_t p = 1; p < parts; ++p) maximum = std::max(maximum, part_of(run, item, p).maximum[row]);
    float* out = total.out + row * run.stride;
    const float own = std::exp2(total.maximum[row] - maximum);
    total.sum[row] *= own;
    for (int64_t i = 0; i < run.stride; ++i) out[i] *= own;
    for (int64_t p = 1; p < parts; ++p) {
      const Result part = part_of(run, item, p);
      const float weight = std::exp2(part.maximum[row] - maximum);
      total.sum[row] += weight * part.sum[row];
      for (int64_t i = 0; i < run.stride; ++i) out[i] += weight * part.out[row * run.stride + i];
    }
  }
  write_out(run, item, total.out, total.sum);
}

void work_on(Run& run, const Item& item, size_t worker) {
  const Step& step = run.step;
  for (int64_t h = 0; item.appends && h < item.heads; ++h) {
    for (int64_t i = 0; i < item.count; ++i) append_token(run, item.sequence, item.kv_head + h, i);
  }
  float* queries = run.work.get() + static_cast<int64_t>(worker) * run.work_floats;
  rotate_queries(run, item, queries);
  float* own = queries + run.plan.most_rows * run.stride;
  const int64_t rows = run.plan.most_rows;
  const Result result = item.split >= 0
                            ? part_of(run, item, item.part)
                            : Result{own, own + rows * run.stride, own + rows * (run.stride + 1)};
  run.kernels.attend({&step.cache, step.block_table + item.sequence * step.table_width, item.kv_head, item.heads,
                      item.count * run.group, run.group, step.context_len[item.sequence] + item.first, item.begin,
                      item.end, queries, result.out, result.maximum, result.sum,
                      own + part_floats(rows, run.stride)});
  if (item.split < 0) {
    write_out(run, item, result.out, result.sum);
  } else if (run.unfinished[static_cast<size_t>(item.split)].fetch_sub(1, std::memory_order_acq_rel) == 1) {
    merge(run, item);
  }
}

// Each worker takes the next item until none is left: threads that were held up simply take fewer.
void drain(Run& run, size_t worker) {
  for (size_t i = run.next.fetch_add(1); i < run.plan.items.size(); i = run.next.fetch_add(1)) {
    work_on(run, run.plan.items[i], worker);
  }
}

// Stores the new keys and values of a sequence.
void append(const Run& run, const Parallel& parallel, int64_t sequence) {
  const int64_t count = run.step.query_start[sequence + 1] - run.step.query_start[sequence];
  const size_t tasks = static_cast<size_t>((count + kAppendTokens - 1) / kAppendTokens);
  for_each(parallel, tasks, [&](size_t task) {
    const int64_t first = static_cast<int64_t>(task) * kAppendTokens;
    for (int64_t i = first; i < std::min(first + kAppendTokens, count); ++i) {
      for (int64_t h = 0; h < run.step.cache.kv_heads; ++h) append_token(run, sequence, h, i);
    }
  });
}

}  // namespace

const Kernels& choose_kernels(InstructionSet instructions, int64_t head_dim) {
#if defined(__x86_64__)
  if (instructions >= InstructionSet::avx512 && head_dim % 16 == 0) return kAvx512Kernels;
  if (instructions >= InstructionSet::avx2 && head_dim % 8 == 0) return kAvx2Kernels;
#elif defined(__aarch64__)
  if (instructions >= InstructionSet::neon && head_dim % 8 == 0) return kNeonKernels;
#endif
  (void)instructions, (void)head_dim;
  return kScalarKernels;
}

void run(const Step& step, const Parallel& parallel, InstructionSet instructions) {
  const Kernels& kernels = choose_kernels(instructions, step.cache.head_dim);
  Run run{step,    kernels, make_plan(step, parallel.threads), step.heads / step.cache.kv_heads,
          padded_dim(step.cache.head_dim), {}, nullptr, {}, 0};
  if (run.plan.items.empty()) return;

  run.partials = Scratch<float>("results of parts", {run.plan.partial_floats});
  run.unfinished = std::make_unique<std::atomic<int64_t>[]>(run.plan.splits.size());
  for (size_t i = 0; i < run.plan.splits.size(); ++i) run.unfinished[i] = run.plan.splits[i].parts;
  const size_t workers = std::min(run.plan.items.size(), static_cast<size_t>(std::max(parallel.threads, 1)));
  const int64_t rows = run.plan.most_rows;
  run.work_floats = rows * run.stride + part_floats(rows, run.stride) +
                    work_floats(rows, run.plan.most_shared, step.cache.head_dim);
  run.work_floats = (run.work_floats + 15) / 16 * 16;
  run.work = Scratch<float>("working memory", {run.work_floats, static_cast<int64_t>(workers)});
  for (const int64_t sequence : run.plan.appended_first) append(run, parallel, sequence);
  for_each(parallel, workers, [&](size_t worker) { drain(run, worker); });
}

}  // namespace qwen3::attention
