#define QWEN3_VECTOR_BYTES 64
#include "scan_body.h"

namespace qwen3::head {

const Scan& scan_avx512() { return kScan; }

}  // namespace qwen3::head
