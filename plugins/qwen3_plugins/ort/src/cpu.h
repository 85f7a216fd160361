// Which kernels this processor can run.
#pragma once

namespace qwen3 {

// AVX-512 includes AVX2, i8mm includes NEON; scalar runs everywhere.
enum class InstructionSet {
  scalar = 0,
  avx2 = 1,    // AVX2, FMA, F16C
  avx512 = 2,  // AVX-512 F, BW, DQ, VL, VNNI
  neon = 3,    // 64-bit ARM with Advanced SIMD and its dot products (optional in ARMv8.2, part of ARMv8.4)
  i8mm = 4,    // that and products of int8 matrices (part of ARMv8.6)
};

// The best level that processor and operating system have; not changed by the environment.
InstructionSet detected_instructions();

// The level to use: the detected one, lowered by QWEN3_ORT_KERNELS=scalar|avx2|avx512|neon|i8mm. Read once.
InstructionSet instructions();

// Processors that this process may run on (affinity), at least one. Asked once.
int usable_processors();

}  // namespace qwen3
