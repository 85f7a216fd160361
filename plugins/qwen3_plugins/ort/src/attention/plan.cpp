#include "plan.h"

#include <algorithm>

#include "kernels.h"

namespace qwen3::attention {
namespace {

constexpr int64_t kBlockRows = 128;      // query rows that share one conversion of the cache
constexpr int64_t kLeastPart = 256;      // keys below which splitting them costs more than it brings
constexpr int64_t kLeastWork = 256;      // keys times kv heads below which a thread gets one item and no more
constexpr int64_t kItemsPerThread = 3;   // slack for threads that run at different speeds

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

// Keys times kv heads of one item, so that every thread gets several, and as many as any other: with three items for two
// threads, one of them would wait.
int64_t work_of_an_item(const Step& step, int threads) {
  int64_t keys = 0;
  for (int64_t s = 0; s < step.sequences; ++s) {
    const int64_t count = step.query_start[s + 1] - step.query_start[s];
    if (count > 0) keys += step.context_len[s] + count;
  }
  const int64_t work = keys * step.cache.kv_heads, workers = std::max(threads, 1);
  const int64_t each = std::clamp<int64_t>(work / (kLeastWork * workers), 1, kItemsPerThread);
  return std::max<int64_t>(1, divide_up(work, each * workers));
}

void add_blocks(Plan& plan, int64_t sequence, int64_t kv_head, int64_t context, int64_t count, int64_t block) {
  for (int64_t first = 0; first < count; first += block) {
    const int64_t tokens = std::min(block, count - first);
    plan.items.push_back({sequence, kv_head, 1, first, tokens, 0, context + first + tokens, false, -1, 0});
  }
}

// All new keys belong to the last part, whose item appends them.
void add_parts(Plan& plan, Item whole, int64_t context, int64_t parts, int64_t floats) {
  if (parts <= 1) {
    plan.items.push_back(whole);
    return;
  }
  Item item = whole;
  item.split = static_cast<int64_t>(plan.splits.size());
  const int64_t length = divide_up(divide_up(context, parts), kTileKeys) * kTileKeys;
  for (; item.begin + length < context; item.begin += length, ++item.part) {
    item.end = item.begin + length;
    item.appends = false;
    plan.items.push_back(item);
  }
  item.end = whole.end;
  item.appends = true;
  plan.items.push_back(item);
  plan.splits.push_back({item.part + 1, plan.partial_floats});
  plan.partial_floats += (item.part + 1) * floats;
}

// A sequence with so few new tokens that each item takes all of them: divided by keys, then by kv heads. Items of
// several heads read the cache in longer runs; with many rows an item has one head.
void add_sequence(Plan& plan, const Step& step, int64_t sequence, int64_t count, int64_t work) {
  const int64_t context = step.context_len[sequence], kv_heads = step.cache.kv_heads;
  const int64_t rows = count * (step.heads / kv_heads);
  const int64_t wanted = divide_up((context + count) * kv_heads, work);
  int64_t parts = std::clamp<int64_t>(context / kLeastPart, 1, wanted);
  int64_t runs = std::min(divide_up(wanted, parts), kv_heads);
  if (rows > kDirectRows) {
    runs = kv_heads;
    parts = std::clamp<int64_t>(wanted / kv_heads, 1, parts);
  }
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t first = kv_heads * run / runs, heads = kv_heads * (run + 1) / runs - first;
    plan.most_rows = std::max(plan.most_rows, heads * rows);
    plan.most_shared = std::max(plan.most_shared, rows);
    const Item whole{sequence, first, heads, 0, count, 0, context + count, true, -1, 0};
    add_parts(plan, whole, context, parts, part_floats(heads * rows, padded_dim(step.cache.head_dim)));
  }
}

}  // namespace

Plan make_plan(const Step& step, int threads) {
  Plan plan;
  const int64_t group = step.heads / step.cache.kv_heads;
  const int64_t block = std::max<int64_t>(1, kBlockRows / group);
  const int64_t work = work_of_an_item(step, threads);
  for (int64_t s = 0; s < step.sequences; ++s) {
    const int64_t count = step.query_start[s + 1] - step.query_start[s];
    if (count == 0) continue;
    if (count <= block) {
      add_sequence(plan, step, s, count, work);
      continue;
    }
    plan.appended_first.push_back(s);
    plan.most_rows = std::max(plan.most_rows, block * group);
    plan.most_shared = std::max(plan.most_shared, block * group);
    for (int64_t h = 0; h < step.cache.kv_heads; ++h) add_blocks(plan, s, h, step.context_len[s], count, block);
  }
  std::stable_sort(plan.items.begin(), plan.items.end(), [](const Item& a, const Item& b) {
    return a.count * a.heads * (a.end - a.begin) > b.count * b.heads * (b.end - b.begin);
  });
  return plan;
}

}  // namespace qwen3::attention
