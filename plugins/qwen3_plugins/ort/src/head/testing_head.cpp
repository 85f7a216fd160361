// Entry point for tests and benchmarks (ctypes): find_top without ONNX Runtime.
#include "../test_threads.h"
#include "top.h"

// `instructions`: 0 scalar, 1 AVX2, 2 AVX-512, 3 NEON, 4 i8mm.
extern "C" __attribute__((visibility("default"))) void qwen3_test_top(const float* logits, int64_t rows, int64_t width,
                                                                      int64_t k, float* values, int32_t* ids,
                                                                      float* log_sum_exp, int instructions,
                                                                      int threads) {
  qwen3::TestThreads pool(threads);
  qwen3::head::find_top(logits, rows, width, width, k, values, ids, log_sum_exp, pool.parallel(),
                        static_cast<qwen3::InstructionSet>(instructions));
}
