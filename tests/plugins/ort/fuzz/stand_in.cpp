#include "stand_in.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>

struct OrtStatus {
  std::string message;
};

struct OrtCustomOpDomain {};

namespace fuzz {
namespace {

using namespace qwen3;

Operators* loading = nullptr;

Node& node_of(const void* handle) { return *static_cast<Node*>(const_cast<void*>(handle)); }

OrtStatus* fail(const std::string& message) { return new OrtStatus{message}; }

template <class T>
OrtStatus* attribute(const OrtKernelInfo* info, const char* name, T* value) {
  const Node& node = node_of(info);
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end() || !std::holds_alternative<T>(found->second))
    return fail(std::string("no attribute ") + name);
  *value = std::get<T>(found->second);
  return nullptr;
}

// Of whatever type the attribute is, as ONNX Runtime answers: the integers in a list of integers, else none.
OrtStatus* integers(const OrtKernelInfo* info, const char* name, int64_t* out, size_t* size) {
  const Node& node = node_of(info);
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return fail(std::string("no attribute ") + name);
  const auto* list = std::get_if<std::vector<int64_t>>(&found->second);
  if (out != nullptr && list != nullptr) std::copy_n(list->begin(), std::min(*size, list->size()), out);
  *size = list != nullptr ? list->size() : 0;
  return nullptr;
}

OrtStatus* text(const OrtKernelInfo* info, const char* name, char* out, size_t* size) {
  std::string value;
  if (OrtStatus* status = attribute(info, name, &value)) return status;
  if (out != nullptr) std::memcpy(out, value.c_str(), std::min(*size, value.size() + 1));
  *size = value.size() + 1;
  return nullptr;
}

OrtStatus* output(OrtKernelContext* context, size_t index, const int64_t* shape, size_t rank, OrtValue** value) {
  Node& node = node_of(context);
  const Shape sizes(shape, shape + rank);
  const int64_t elements = elements_of(sizes);
  if (elements < 0 || elements * 4 > kMostOutput) return fail("out of memory");
  if (node.outputs.size() <= index) node.outputs.resize(index + 1);
  node.outputs[index] = Value(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, sizes);
  *value = reinterpret_cast<OrtValue*>(&node.outputs[index]);
  return nullptr;
}

OrtStatus* input(const OrtKernelContext* context, size_t index, const OrtValue** value) {
  const Node& node = node_of(context);
  const bool present = index < node.inputs.size() && node.inputs[index];
  *value = present ? reinterpret_cast<const OrtValue*>(&*node.inputs[index]) : nullptr;
  return nullptr;
}

// In any order: tasks must not rely on one.
OrtStatus* parallel_for(const OrtKernelContext* context, void (*task)(void*, size_t), size_t count, size_t,
                        void* user) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), *node_of(context).order);
  for (const size_t index : order) task(user, index);
  return nullptr;
}

template <class F>
abi::Function pointer(F* function) {
  return reinterpret_cast<abi::Function>(function);
}

std::vector<abi::Function> make_table() {
  std::vector<abi::Function> table(512);
  table[abi::kCreateStatus] = pointer(+[](OrtErrorCode, const char* message) { return fail(message); });
  table[abi::kReleaseStatus] = pointer(+[](OrtStatus* status) { delete status; });
  table[abi::kGetErrorMessage] = pointer(+[](const OrtStatus* status) { return status->message.c_str(); });
  table[abi::kCreateCustomOpDomain] = pointer(+[](const char*, OrtCustomOpDomain** domain) -> OrtStatus* {
    static OrtCustomOpDomain only;
    *domain = &only;
    return nullptr;
  });
  table[abi::kCustomOpDomain_Add] = pointer(+[](OrtCustomOpDomain*, const OrtCustomOp* op) -> OrtStatus* {
    (*loading)[op->GetName(op)] = op;
    return nullptr;
  });
  table[abi::kAddCustomOpDomain] =
      pointer(+[](OrtSessionOptions*, OrtCustomOpDomain*) -> OrtStatus* { return nullptr; });
  table[abi::kGetTensorMutableData] = pointer(+[](OrtValue* value, void** data) -> OrtStatus* {
    *data = reinterpret_cast<Value*>(value)->data.get();
    return nullptr;
  });
  table[abi::kKernelInfoGetAttribute_float] = pointer(attribute<float>);
  table[abi::kKernelInfoGetAttribute_int64] = pointer(attribute<int64_t>);
  table[abi::kKernelInfoGetAttribute_string] = pointer(text);
  table[abi::kKernelInfoGetAttributeArray_int64] = pointer(integers);
  table[abi::kKernelContext_GetInputCount] = pointer(+[](const OrtKernelContext* context, size_t* count) -> OrtStatus* {
    *count = node_of(context).inputs.size();
    return nullptr;
  });
  table[abi::kKernelContext_GetInput] = pointer(input);
  table[abi::kKernelContext_GetOutput] = pointer(output);
  table[abi::kKernelInfoGetConstantInput_tensor] =
      pointer(+[](const OrtKernelInfo* info, size_t index, int* stored, const OrtValue** value) -> OrtStatus* {
        *stored = node_of(info).stored == static_cast<int>(index) ? 1 : 0;
        *value = nullptr;
        return nullptr;
      });
  table[abi::kKernelContext_ParallelFor] = pointer(parallel_for);
  table[abi::kGetTensorElementTypeAndShapeDataReference] =
      pointer(+[](const OrtValue* value, Type* type, const int64_t** shape, size_t* rank) -> OrtStatus* {
        const Value& tensor = *reinterpret_cast<const Value*>(value);
        *type = tensor.type;
        *shape = tensor.shape.data();
        *rank = tensor.shape.size();
        return nullptr;
      });
  return table;
}

const OrtApi* api(uint32_t) {
  static const std::vector<abi::Function> table = make_table();
  return reinterpret_cast<const OrtApi*>(table.data());
}

std::string taken(OrtStatus* status) {
  const std::unique_ptr<OrtStatus> owned(status);
  return owned->message;
}

}  // namespace

int64_t width_of(Type type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16: return 2;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return 8;
    default: return 4;
  }
}

int64_t elements_of(const Shape& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t count = 1;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(count, size, &count) || count > int64_t{1} << 40) return -1;
  return count;
}

Value::Value(Type element, Shape sizes) : type(element), shape(std::move(sizes)) {
  data.reset(static_cast<uint8_t*>(std::malloc(static_cast<size_t>(bytes()))));
  std::memset(data.get(), 0xff, static_cast<size_t>(bytes()));  // NaN in every type
}

Operators load(const std::string& library) {
  void* handle = dlopen(library.c_str(), RTLD_NOW);
  using Register = OrtStatus* (*)(OrtSessionOptions*, const OrtApiBase*);
  const auto register_all =
      handle == nullptr ? nullptr : reinterpret_cast<Register>(dlsym(handle, "RegisterCustomOps"));
  if (register_all == nullptr) {
    std::fprintf(stderr, "error: %s\n", dlerror());
    std::exit(2);
  }
  static const OrtApiBase base = {api, nullptr};
  Operators operators;
  loading = &operators;
  register_all(nullptr, &base);
  return operators;
}

std::optional<std::string> run(const OrtCustomOp& op, Node& node) {
  void* kernel = nullptr;
  if (OrtStatus* status = op.CreateKernelV2(&op, api(0), reinterpret_cast<const OrtKernelInfo*>(&node), &kernel))
    return taken(status);
  OrtStatus* status = op.KernelComputeV2(kernel, reinterpret_cast<OrtKernelContext*>(&node));
  op.KernelDestroy(kernel);
  return status == nullptr ? std::nullopt : std::optional(taken(status));
}

}  // namespace fuzz
