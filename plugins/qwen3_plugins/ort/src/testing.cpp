// Entry points for tests and benchmarks, called through ctypes: kernels without ONNX Runtime, on chosen instruction
// sets and threads. Each answers null, or why it refused.
#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "cpu.h"
#include "linear/layout.h"
#include "linear/linear.h"
#include "moe/moe.h"
#include "parallel.h"

#define QWEN3_EXPORT extern "C" __attribute__((visibility("default")))

namespace qwen3 {

namespace {

// As many threads as asked, started for each call.
void run_threads(void* context, void (*task)(void*, size_t), size_t count, void* user) {
  const int threads = *static_cast<const int*>(context);
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t index = next++; index < count; index = next++) task(user, index);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
}

Parallel with_threads(int& threads) {
  if (threads <= 1) return serial();
  return {run_threads, &threads, threads};
}

const char* kept(const std::exception& error) {
  thread_local std::string message;
  message = error.what();
  return message.c_str();
}

}  // namespace

}  // namespace qwen3

// 0 scalar, 1 AVX2, 2 AVX-512, 3 NEON, 4 i8mm: the best that this processor has.
QWEN3_EXPORT int qwen3_instructions() { return static_cast<int>(qwen3::detected_instructions()); }

QWEN3_EXPORT const char* qwen3_linear(int instructions, int threads, const char* format, int64_t n, int64_t k,
                                      int64_t group_size, const uint8_t* codes, const void* scales, const float* x,
                                      int64_t rows, const float* norm_weight, float epsilon, const float* residual,
                                      int swiglu, int precise, float* y) {
  using namespace qwen3;
  try {
    linear::Weights weights = linear::weights_of(format, n, k, group_size);
    if (swiglu != 0) weights = linear::gate_up(weights);
    weights.codes = codes;
    weights.scales = scales;
    linear::Call call;
    call.weights = &weights;
    call.x = x;
    call.rows = rows;
    call.norm_weight = norm_weight;
    call.epsilon = epsilon;
    call.residual = residual;
    call.activation = swiglu != 0 ? linear::Activation::swiglu : linear::Activation::none;
    call.precise = precise != 0;
    call.y = y;
    linear::run(call, with_threads(threads), static_cast<InstructionSet>(instructions));
    return nullptr;
  } catch (const std::exception& error) {
    return kept(error);
  }
}

QWEN3_EXPORT const char* qwen3_moe(int instructions, int threads, const char* format, int64_t experts, int64_t top_k,
                                   int64_t hidden, int64_t intermediate, int64_t group_size, int normalize, int precise,
                                   const uint8_t* router, const uint8_t* gate_up, const void* gate_up_scales,
                                   const uint8_t* down, const void* down_scales, const float* x, int64_t rows,
                                   const float* norm_weight, float epsilon, const float* residual, float* y) {
  using namespace qwen3;
  try {
    moe::Experts all;
    all.count = experts;
    all.top_k = top_k;
    all.normalize = normalize != 0;
    all.precise = precise != 0;
    all.router = linear::weights_of("fp32", experts, hidden, 0);
    all.router.codes = router;
    all.gate_up = linear::gate_up(linear::weights_of(format, 2 * intermediate, hidden, group_size));
    all.gate_up.codes = gate_up;
    all.gate_up.scales = gate_up_scales;
    all.down = linear::weights_of(format, hidden, intermediate, group_size);
    all.down.codes = down;
    all.down.scales = down_scales;
    moe::Call call;
    call.experts = &all;
    call.x = x;
    call.rows = rows;
    call.norm_weight = norm_weight;
    call.epsilon = epsilon;
    call.residual = residual;
    call.y = y;
    moe::run(call, with_threads(threads), static_cast<InstructionSet>(instructions));
    return nullptr;
  } catch (const std::exception& error) {
    return kept(error);
  }
}

// Reads a buffer once on so many threads: what memory can give. The sum keeps the reads alive.
QWEN3_EXPORT uint64_t qwen3_read(const uint64_t* data, int64_t count, int threads) {
  using namespace qwen3;
  std::atomic<uint64_t> total{0};
  const size_t parts = static_cast<size_t>(threads) * 8;
  for_each(with_threads(threads), parts, [&](size_t index) {
    uint64_t sums[16] = {};
    const int64_t begin = static_cast<int64_t>(split(static_cast<size_t>(count), parts, index)) / 16 * 16;
    const int64_t end = static_cast<int64_t>(split(static_cast<size_t>(count), parts, index + 1)) / 16 * 16;
    for (int64_t i = begin; i < end; i += 16)
      for (int j = 0; j < 16; ++j) sums[j] += data[i + j];
    for (const uint64_t sum : sums) total += sum;
  });
  return total;
}
