// Entry points for tests and benchmarks (ctypes): attention without ONNX Runtime.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <string>

#include "../test_threads.h"
#include "attention.h"

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void copy_text(const std::string& from, char* to, int64_t size) {
  if (size <= 0) return;
  const size_t length = from.copy(to, static_cast<size_t>(size) - 1);
  to[length] = '\0';
}

}  // namespace

// `sizes`: tokens, sequences, table_width, positions, heads, blocks, kv_heads, block, head_dim, int8 cache (0 or 1).
// `instructions`: 0 scalar, 1 AVX2, 2 AVX-512, 3 NEON, 4 i8mm. Runs the step `repeats` times on `threads` threads, each time with the
// next of `repeats` block tables. `seconds` [repeats] may be null. Returns 0, or 1 with the reason in `fault`.
extern "C" __attribute__((visibility("default"))) int qwen3_test_attention(const int64_t* sizes, float epsilon, const float* qkv,
                                                      const float* q_norm, const float* k_norm, const float* cosine,
                                                      const float* sine, const int32_t* query_start,
                                                      const int32_t* context_len, const int32_t* block_table,
                                                      void* cache, float* scales, float* out, int instructions,
                                                      int threads, int repeats, double* seconds, char* fault,
                                                      int64_t fault_size) {
  using namespace qwen3::attention;
  Step step{};
  step.qkv = qkv;
  step.q_norm = q_norm;
  step.k_norm = k_norm;
  step.cosine = cosine;
  step.sine = sine;
  step.query_start = query_start;
  step.context_len = context_len;
  step.block_table = block_table;
  step.tokens = sizes[0];
  step.sequences = sizes[1];
  step.table_width = sizes[2];
  step.positions = sizes[3];
  step.heads = sizes[4];
  step.epsilon = epsilon;
  const CacheType type = sizes[9] != 0 ? CacheType::kInt8 : CacheType::kHalf;
  step.cache = {cache, scales, type, sizes[5], sizes[6], sizes[7], sizes[8]};
  step.out = out;
  qwen3::TestThreads pool(threads);
  for (int i = 0; i < repeats; ++i, step.block_table += step.sequences * step.table_width) {
    try {
      check(step);
      const Clock::time_point begin = Clock::now();
      run(step, pool.parallel(), static_cast<qwen3::InstructionSet>(instructions));
      if (seconds != nullptr) seconds[i] = since(begin);
    } catch (const std::exception& error) {
      copy_text(error.what(), fault, fault_size);
      return 1;
    }
  }
  return 0;
}

// Reads `pieces` pieces of `words` words (a multiple of 32,768) on `threads` threads and fills `seconds` [pieces];
// returns their sum, so that nothing is left out.
extern "C" __attribute__((visibility("default"))) uint64_t qwen3_test_read(const uint64_t* memory, int64_t words,
                                                                            int pieces, int threads, double* seconds) {
  constexpr size_t kChunk = 1 << 15;
  std::atomic<uint64_t> total{0};
  qwen3::TestThreads pool(threads);
  for (int i = 0; i < pieces; ++i, memory += words) {
    const Clock::time_point begin = Clock::now();
    qwen3::for_each(pool.parallel(), static_cast<size_t>(words) / kChunk, [&](size_t chunk) {
      uint64_t sum[8] = {};
      const uint64_t* from = memory + chunk * kChunk;
      for (size_t word = 0; word < kChunk; word += 8) {
        for (size_t lane = 0; lane < 8; ++lane) sum[lane] += from[word + lane];
      }
      for (const uint64_t lane : sum) total += lane;
    });
    seconds[i] = since(begin);
  }
  return total;
}
