#include "operator.h"

#include <algorithm>
#include <new>

#include "cpu.h"

namespace qwen3 {

using namespace abi;

const Function* abi::table = nullptr;

namespace {

// Turns a failed API call into an exception.
void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = call<kGetErrorMessage, const char*>(static_cast<const OrtStatus*>(status));
  call<kReleaseStatus, void>(status);
  throw Refused(message);
}

bool succeeded(OrtStatus* status) {
  if (status == nullptr) return true;
  call<kReleaseStatus, void>(status);
  return false;
}

const char* name_of(Element element) {
  switch (element) {
    case Element::f32: return "float32";
    case Element::u8: return "uint8";
    case Element::i8: return "int8";
    case Element::i32: return "int32";
    case Element::i64: return "int64";
    case Element::f16: return "float16";
    case Element::bf16: return "bfloat16";
    case Element::any: break;
  }
  return "another type";
}

// Bytes of an element.
uintptr_t width_of(Element element) {
  switch (element) {
    case Element::f32:
    case Element::i32: return 4;
    case Element::i64: return 8;
    case Element::f16:
    case Element::bf16: return 2;
    case Element::u8:
    case Element::i8:
    case Element::any: break;
  }
  return 1;
}

std::string list(const int64_t* shape, size_t rank) {
  std::string text = "[";
  for (size_t i = 0; i < rank; ++i) text += (i ? ", " : "") + (shape[i] < 0 ? "any" : std::to_string(shape[i]));
  return text + "]";
}

}  // namespace

int64_t Tensor::size() const {
  static_assert(kMaxRank == 8, "each axis is a factor");
  int64_t sizes[kMaxRank];
  for (int i = 0; i < kMaxRank; ++i) sizes[i] = i < rank ? shape[i] : 1;
  return product("a tensor", {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]});
}

std::string Tensor::describe() const {
  return std::string(name_of(element)) + " " + list(shape, static_cast<size_t>(rank));
}

int64_t Attributes::integer(const Limit& limit) const {
  int64_t value = 0;
  if (succeeded(call<kKernelInfoGetAttribute_int64, OrtStatus*>(info_, limit.name, &value))) return within(limit, value);
  require_absent(limit.name, "an integer");
  throw Refused(std::string(limit.name) + " is missing, expected an integer");
}

int64_t Attributes::integer(const Limit& limit, int64_t fallback) const {
  int64_t value = 0;
  if (succeeded(call<kKernelInfoGetAttribute_int64, OrtStatus*>(info_, limit.name, &value))) return within(limit, value);
  require_absent(limit.name, "an integer");
  return fallback;
}

float Attributes::real(const RealLimit& limit, float fallback) const {
  float value = 0;
  if (succeeded(call<kKernelInfoGetAttribute_float, OrtStatus*>(info_, limit.name, &value))) return within(limit, value);
  require_absent(limit.name, "a float");
  return fallback;
}

// ONNX Runtime has the same answer for an attribute of another type and for an absent one. Asked for a list of integers
// it fails only where the attribute is absent; one of another type holds none.
void Attributes::require_absent(const char* name, const char* type) const {
  size_t size = 0;
  if (succeeded(
          call<kKernelInfoGetAttributeArray_int64, OrtStatus*>(info_, name, static_cast<int64_t*>(nullptr), &size)))
    throw Refused(std::string(name) + " has another type, expected " + type);
}

void Attributes::require_fed(size_t index, const char* name) const {
  int constant = 0;
  const OrtValue* value = nullptr;
  check(call<kKernelInfoGetConstantInput_tensor, OrtStatus*>(info_, index, &constant, &value));
  if (constant != 0) throw Refused(std::string(name) + " is stored in the model, expected an input: it is written");
}

std::string Attributes::text(const char* name, const char* fallback) const {
  size_t size = 0;
  if (!succeeded(call<kKernelInfoGetAttribute_string, OrtStatus*>(info_, name, static_cast<char*>(nullptr), &size))) {
    require_absent(name, "a string");
    return fallback;
  }
  std::string value(size, '\0');
  check(call<kKernelInfoGetAttribute_string, OrtStatus*>(info_, name, value.data(), &size));
  while (!value.empty() && value.back() == '\0') value.pop_back();
  return value;
}

Context::Context(OrtKernelContext* context, const Port* inputs, size_t count)
    : context_(context), inputs_(inputs), count_(count), present_(0) {
  check(call<kKernelContext_GetInputCount, OrtStatus*>(static_cast<const OrtKernelContext*>(context_), &present_));
}

Tensor Context::input(size_t index) const {
  Tensor tensor;
  const OrtValue* value = nullptr;
  if (index < present_)
    check(call<kKernelContext_GetInput, OrtStatus*>(static_cast<const OrtKernelContext*>(context_), index, &value));
  if (value == nullptr) {
    if (index < count_ && inputs_[index].optional) return tensor;
    throw Refused(std::string(inputs_[index].name) + " is missing");
  }
  ONNXTensorElementDataType type{};
  const int64_t* shape = nullptr;
  size_t rank = 0;
  check(call<kGetTensorElementTypeAndShapeDataReference, OrtStatus*>(value, &type, &shape, &rank));
  const char* name = inputs_[index].name;
  if (rank > kMaxRank) throw Refused(std::string(name) + " has " + std::to_string(rank) + " axes");
  std::copy_n(shape, rank, tensor.shape);
  tensor.rank = static_cast<int>(rank);
  tensor.element = static_cast<Element>(type);
  const Element wanted = inputs_[index].element;
  if (wanted != Element::any && tensor.element != wanted)
    throw Refused(std::string(name) + " is " + tensor.describe() + ", expected " + name_of(wanted));
  check(call<kGetTensorMutableData, OrtStatus*>(const_cast<OrtValue*>(value), &tensor.data));
  if (reinterpret_cast<uintptr_t>(tensor.data) % width_of(tensor.element) != 0)
    throw Refused(std::string(name) + " does not begin at a multiple of " + std::to_string(width_of(tensor.element)) +
                  " bytes");
  return tensor;
}

Tensor Context::output(size_t index, std::initializer_list<int64_t> shape) const {
  Tensor tensor;
  tensor.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.shape);
  (void)product("an output", {tensor.size(), sizeof(float)});
  OrtValue* value = nullptr;
  check(call<kKernelContext_GetOutput, OrtStatus*>(context_, index, static_cast<const int64_t*>(tensor.shape),
                                                  shape.size(), &value));
  if (value == nullptr) throw Refused("output " + std::to_string(index) + " is missing");
  check(call<kGetTensorMutableData, OrtStatus*>(value, &tensor.data));
  return tensor;
}

Parallel Context::parallel() const {
  // Nothing in the ABI tells the size of the session's pool; ParallelFor copes with any number of tasks.
  return {[](void* context, void (*task)(void*, size_t), size_t count, void* user) {
            OrtStatus* status = call<kKernelContext_ParallelFor, OrtStatus*>(
                static_cast<const OrtKernelContext*>(context), task, count, count, user);
            check(status);
          },
          context_, usable_processors()};
}

void require_shape(const Tensor& tensor, const char* what, std::initializer_list<int64_t> shape) {
  bool same = tensor.rank == static_cast<int>(shape.size());
  size_t axis = 0;
  for (const int64_t size : shape) {
    if (!same) break;
    same = size < 0 || tensor.shape[axis] == size;
    ++axis;
  }
  if (!same)
    throw Refused(std::string(what) + " is " + tensor.describe() + ", expected shape " +
                  list(shape.begin(), shape.size()));
}

OrtStatus* status_of(const char* op, const std::exception& error) noexcept {
  std::string message;
  try {
    const bool full = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
    message = std::string("qwen3::") + op + ": " + (full ? "out of memory" : error.what());
  } catch (...) {
  }
  const OrtErrorCode code = dynamic_cast<const Refused*>(&error) != nullptr ? ORT_INVALID_ARGUMENT : ORT_FAIL;
  return call<kCreateStatus, OrtStatus*>(code, message.empty() ? op : message.c_str());
}

}  // namespace qwen3
