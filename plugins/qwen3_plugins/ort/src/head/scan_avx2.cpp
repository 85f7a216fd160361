#define QWEN3_VECTOR_BYTES 32
#include "scan_body.h"

namespace qwen3::head {

const Scan& scan_avx2() { return kScan; }

}  // namespace qwen3::head
