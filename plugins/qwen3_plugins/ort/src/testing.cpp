// Entry points for tests and benchmarks, called through ctypes: kernels without ONNX Runtime, on chosen instruction
// sets and threads. Each answers null, or why it refused.
#include <exception>
#include <string>

#include "cpu.h"
#include "linear/layout.h"
#include "linear/linear.h"
#include "moe/moe.h"
#include "test_threads.h"

#define QWEN3_EXPORT extern "C" __attribute__((visibility("default")))

namespace qwen3 {

namespace {

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
                                      int swiglu, int quantized_activations, float* y) {
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
    call.quantized_activations = quantized_activations != 0;
    call.y = y;
    TestThreads pool(threads);
    linear::run(call, pool.parallel(), static_cast<InstructionSet>(instructions));
    return nullptr;
  } catch (const std::exception& error) {
    return kept(error);
  }
}

QWEN3_EXPORT const char* qwen3_moe(int instructions, int threads, const char* format, int64_t experts, int64_t top_k,
                                   int64_t hidden, int64_t intermediate, int64_t group_size, int normalize,
                                   int quantized_activations, const uint8_t* router, const uint8_t* gate_up,
                                   const void* gate_up_scales, const uint8_t* down, const void* down_scales,
                                   const float* x, int64_t rows, const float* norm_weight, float epsilon,
                                   const float* residual, float* y) {
  using namespace qwen3;
  try {
    moe::Experts all;
    all.count = experts;
    all.top_k = top_k;
    all.normalize = normalize != 0;
    all.quantized_activations = quantized_activations != 0;
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
    TestThreads pool(threads);
    moe::run(call, pool.parallel(), static_cast<InstructionSet>(instructions));
    return nullptr;
  } catch (const std::exception& error) {
    return kept(error);
  }
}
