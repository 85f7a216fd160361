#define QWEN3_VECTOR_BYTES 16
#include "scan_body.h"

namespace qwen3::head {

const Scan& scan_scalar() { return kScan; }

}  // namespace qwen3::head
