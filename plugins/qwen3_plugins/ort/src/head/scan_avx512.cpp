#define QWEN3_VECTOR_BYTES 64
#include "scan_body.h"

namespace qwen3::head {

void scan_avx512(const float* logits, int64_t count, int32_t first, int64_t k, Part& part) {
  scan(logits, count, first, k, part);
}

}  // namespace qwen3::head
