// The one symbol that ONNX Runtime looks up.
#include <iterator>

#include "abi.h"

namespace qwen3 {

// Each is defined in its op_*.cpp.
const OrtCustomOp* linear_op();
const OrtCustomOp* attention_op();
const OrtCustomOp* moe_op();
const OrtCustomOp* head_op();
const OrtCustomOp* embedding_op();

namespace {

using Operator = const OrtCustomOp* (*)();

OrtStatus* register_all(OrtSessionOptions* options) {
  using namespace abi;
  const Operator operators[] = {linear_op, attention_op, moe_op, head_op, embedding_op};
  OrtCustomOpDomain* domain = nullptr;
  OrtStatus* status = call<kCreateCustomOpDomain, OrtStatus*>(static_cast<const char*>("qwen3"), &domain);
  for (const Operator op : operators)
    if (status == nullptr) status = call<kCustomOpDomain_Add, OrtStatus*>(domain, op());
  return status != nullptr ? status : call<kAddCustomOpDomain, OrtStatus*>(options, domain);
}

}  // namespace
}  // namespace qwen3

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(qwen3::abi::kApiVersion);
  // An ONNX Runtime that is too old has no table to make a status with; it finds the operators missing and says so.
  if (api == nullptr) return nullptr;
  qwen3::abi::table = reinterpret_cast<const qwen3::abi::Function*>(api);
  return qwen3::register_all(options);
}
