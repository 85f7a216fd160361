#include <string>
#include <vector>

#include "../limits.h"
#include "../sizes.h"
#include "attention.h"

namespace qwen3::attention {
namespace {

std::string text(int64_t value) { return std::to_string(value); }

void check_sizes(const Step& step) {
  within(limits::kRows, step.tokens);
  within(limits::kSequences, step.sequences);
  within(limits::kTableWidth, step.table_width);
  within(limits::kPositions, step.positions);
  within(limits::kBlocks, step.cache.blocks);
  within(limits::kBlockTokens, step.cache.block);
}

void check_lengths(const Step& step) {
  if (step.query_start[0] != 0) throw Refused("query_start begins with " + text(step.query_start[0]) + ", expected 0");
  for (int64_t s = 0; s < step.sequences; ++s) {
    const int64_t begin = step.query_start[s], end = step.query_start[s + 1];
    if (end < begin)
      throw Refused("query_start falls from " + text(begin) + " to " + text(end) + " at sequence " + text(s));
  }
  if (step.query_start[step.sequences] != step.tokens)
    throw Refused("query_start ends with " + text(step.query_start[step.sequences]) +
                  ", expected the number of tokens, " + text(step.tokens));
  for (int64_t s = 0; s < step.sequences; ++s) {
    const int64_t context = step.context_len[s], length = context + step.query_start[s + 1] - step.query_start[s];
    if (context < 0)
      throw Refused("context_len of sequence " + text(s) + " is " + text(context) + ", expected at least 0");
    const int64_t room = step.table_width * step.cache.block;
    const std::string found = "sequence " + text(s) + " has " + text(length) + " tokens, ";
    if (length > room) throw Refused(found + "its " + text(step.table_width) + " cache blocks hold " + text(room));
    if (length > step.positions) throw Refused(found + "the rotary tables have " + text(step.positions) + " positions");
  }
}

// Blocks of the cache that a sequence uses in this step: [0, end) entries of its table, written from `written` on.
struct Used {
  int64_t written, end;
};

Used used_entries(const Step& step, int64_t sequence) {
  const int64_t count = step.query_start[sequence + 1] - step.query_start[sequence];
  if (count == 0) return {0, 0};  // nothing is read either
  const int64_t context = step.context_len[sequence], block = step.cache.block;
  return {context / block, (context + count + block - 1) / block};
}

// A written block must belong to one sequence only and stand once in its table: anything else would be a race.
void check_blocks(const Step& step) {
  std::vector<bool> written(static_cast<size_t>(step.cache.blocks));
  for (int64_t s = 0; s < step.sequences; ++s) {
    const Used used = used_entries(step, s);
    for (int64_t entry = 0; entry < used.end; ++entry) {
      const int64_t id = step.block_table[s * step.table_width + entry];
      if (id < 0 || id >= step.cache.blocks) {
        throw Refused("block_table of sequence " + text(s) + " names block " + text(id) + ", the cache has " +
                      text(step.cache.blocks));
      }
      if (entry < used.written) continue;
      if (written[static_cast<size_t>(id)])
        throw Refused("cache block " + text(id) + " would be written twice in one step");
      written[static_cast<size_t>(id)] = true;
    }
  }
  for (int64_t s = 0; s < step.sequences; ++s) {
    const Used used = used_entries(step, s);
    for (int64_t entry = 0; entry < used.written; ++entry) {
      const int64_t id = step.block_table[s * step.table_width + entry];
      if (written[static_cast<size_t>(id)]) {
        throw Refused("cache block " + text(id) + " is read by sequence " + text(s) + " and written in the same step");
      }
    }
  }
}

}  // namespace

void check_heads(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  within(limits::kHeads, heads);
  within(limits::kKvHeads, kv_heads);
  within(limits::kHeadDim, head_dim);
  if (head_dim % 2 != 0) throw Refused("head_dim is " + text(head_dim) + ", expected an even number");
  if (heads % kv_heads != 0)
    throw Refused("num_heads " + text(heads) + " is not a multiple of kv_num_heads " + text(kv_heads));
}

void check(const Step& step) {
  check_heads(step.heads, step.cache.kv_heads, step.cache.head_dim);
  check_sizes(step);
  check_lengths(step);
  check_blocks(step);
}

}  // namespace qwen3::attention
