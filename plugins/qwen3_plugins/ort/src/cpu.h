// Which kernels this processor can run.
#pragma once

namespace qwen3 {

// Each level includes the ones below it.
enum class InstructionSet {
  scalar = 0,
  avx2 = 1,    // AVX2, FMA, F16C
  avx512 = 2,  // AVX-512 F, BW, DQ, VL, VNNI
};

// The best level that processor and operating system have; not changed by the environment.
InstructionSet detected_instructions();

// The level to use: the detected one, lowered by QWEN3_ORT_KERNELS=scalar|avx2|avx512. Read once.
InstructionSet instructions();

// Processors that this process may run on (affinity), at least one. Asked once.
int usable_processors();

}  // namespace qwen3
