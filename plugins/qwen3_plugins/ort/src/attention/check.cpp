#include <string>
#include <vector>

#include "attention.h"

namespace qwen3::attention {
namespace {

std::string text(int64_t value) { return std::to_string(value); }

std::string fault_of_dimensions(const Step& step) {
  const Cache& cache = step.cache;
  if (cache.head_dim <= 0 || cache.head_dim % 2 != 0 || cache.head_dim > kMostHeadDim) {
    return "head_dim is " + text(cache.head_dim) + ", expected an even number up to " + text(kMostHeadDim);
  }
  if (cache.kv_heads <= 0 || step.heads <= 0 || step.heads % cache.kv_heads != 0) {
    return "num_heads " + text(step.heads) + " is not a multiple of kv_num_heads " + text(cache.kv_heads);
  }
  if (cache.block <= 0) return "cache blocks hold " + text(cache.block) + " tokens, expected at least one";
  return "";
}

std::string fault_of_lengths(const Step& step) {
  if (step.query_start[0] != 0) return "query_start begins with " + text(step.query_start[0]) + ", expected 0";
  for (int64_t s = 0; s < step.sequences; ++s) {
    const int64_t begin = step.query_start[s], end = step.query_start[s + 1];
    if (end < begin) return "query_start falls from " + text(begin) + " to " + text(end) + " at sequence " + text(s);
  }
  if (step.query_start[step.sequences] != step.tokens) {
    return "query_start ends with " + text(step.query_start[step.sequences]) + ", expected the number of tokens, " +
           text(step.tokens);
  }
  for (int64_t s = 0; s < step.sequences; ++s) {
    const int64_t context = step.context_len[s], length = context + step.query_start[s + 1] - step.query_start[s];
    if (context < 0) return "context_len of sequence " + text(s) + " is " + text(context) + ", expected at least 0";
    const int64_t room = step.table_width * step.cache.block;
    const std::string found = "sequence " + text(s) + " has " + text(length) + " tokens, ";
    if (length > room) return found + "its " + text(step.table_width) + " cache blocks hold " + text(room);
    if (length > step.positions) return found + "the rotary tables have " + text(step.positions) + " positions";
  }
  return "";
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
std::string fault_of_blocks(const Step& step) {
  std::vector<bool> written(static_cast<size_t>(step.cache.blocks));
  for (int64_t s = 0; s < step.sequences; ++s) {
    const Used used = used_entries(step, s);
    for (int64_t entry = 0; entry < used.end; ++entry) {
      const int64_t id = step.block_table[s * step.table_width + entry];
      if (id < 0 || id >= step.cache.blocks) {
        return "block_table of sequence " + text(s) + " names block " + text(id) + ", the cache has " +
               text(step.cache.blocks);
      }
      if (entry < used.written) continue;
      if (written[static_cast<size_t>(id)]) return "cache block " + text(id) + " would be written twice in one step";
      written[static_cast<size_t>(id)] = true;
    }
  }
  for (int64_t s = 0; s < step.sequences; ++s) {
    const Used used = used_entries(step, s);
    for (int64_t entry = 0; entry < used.written; ++entry) {
      const int64_t id = step.block_table[s * step.table_width + entry];
      if (written[static_cast<size_t>(id)]) {
        return "cache block " + text(id) + " is read by sequence " + text(s) + " and written in the same step";
      }
    }
  }
  return "";
}

}  // namespace

std::string find_fault(const Step& step) {
  std::string fault = fault_of_dimensions(step);
  if (fault.empty()) fault = fault_of_lengths(step);
  if (fault.empty()) fault = fault_of_blocks(step);
  return fault;
}

}  // namespace qwen3::attention
