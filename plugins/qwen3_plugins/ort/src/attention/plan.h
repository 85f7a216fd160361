// How one step is divided among threads.
#pragma once

#include <cstdint>
#include <vector>

#include "attention.h"

namespace qwen3::attention {

// Work for one thread: some tokens of one sequence, the query heads of some key/value heads, a range of keys.
struct Item {
  int64_t sequence, kv_head, heads;
  int64_t first, count;  // tokens, counted among the sequence's new ones
  int64_t begin, end;    // keys
  bool appends;          // stores the new keys and values of its kv heads before it attends
  int64_t split, part;   // of which split this is which part; split < 0: the keys are not split
};

// The kv heads of a sequence whose keys are split over several items; the last to finish merges their results.
struct Split {
  int64_t parts;
  int64_t offset;  // floats into the memory of partial results
};

struct Plan {
  std::vector<Item> items;  // longest first
  std::vector<Split> splits;
  std::vector<int64_t> appended_first;  // sequences of several blocks of queries: all keys are stored before any item
  int64_t most_rows = 0;                // query rows of the largest item, over all its kv heads
  int64_t most_shared = 0;              // the same of one kv head
  int64_t partial_floats = 0;
};

// Floats of one part's result: out [rows, stride], maximum [rows], sum [rows].
inline int64_t part_floats(int64_t rows, int64_t stride) { return rows * (stride + 2); }

Plan make_plan(const Step& step, int threads);

}  // namespace qwen3::attention
