#include "cpu.h"

#include <cstdlib>
#include <cstring>

#ifdef __linux__
#include <sched.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace qwen3 {

InstructionSet detected_instructions() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (!avx2) return InstructionSet::scalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  return avx512 ? InstructionSet::avx512 : InstructionSet::avx2;
#elif defined(__linux__) && defined(__aarch64__)
  constexpr unsigned long kDotProducts = 1ul << 20, kMatrixProducts = 1ul << 13;  // ASIMDDP of HWCAP, I8MM of HWCAP2
  if ((getauxval(AT_HWCAP) & kDotProducts) == 0) return InstructionSet::scalar;
  return (getauxval(AT_HWCAP2) & kMatrixProducts) != 0 ? InstructionSet::i8mm : InstructionSet::neon;
#else
  return InstructionSet::scalar;
#endif
}

static InstructionSet chosen_instructions() {
  const InstructionSet best = detected_instructions();
  const char* wanted = std::getenv("QWEN3_ORT_KERNELS");
  if (wanted == nullptr) return best;
  if (std::strcmp(wanted, "scalar") == 0) return InstructionSet::scalar;
  if (std::strcmp(wanted, "avx2") == 0 && best == InstructionSet::avx512) return InstructionSet::avx2;
  if (std::strcmp(wanted, "neon") == 0 && best == InstructionSet::i8mm) return InstructionSet::neon;
  return best;
}

InstructionSet instructions() {
  static const InstructionSet level = chosen_instructions();
  return level;
}

static int count_processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    const int count = CPU_COUNT(&set);
    if (count > 0) return count;
  }
#endif
  return 1;
}

int usable_processors() {
  static const int count = count_processors();
  return count;
}

}  // namespace qwen3
