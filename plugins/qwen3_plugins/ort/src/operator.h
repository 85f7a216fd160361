// Writing an operator: a class with a table of inputs and outputs, a constructor that reads attributes, and compute().
//
//   class Linear {
//    public:
//     static constexpr const char* kName = "Linear";
//     static constexpr Port kInputs[] = {{"x", Element::f32}, {"norm_weight", Element::f32, true}};
//     static constexpr Port kOutputs[] = {{"y", Element::f32}};
//     explicit Linear(const Attributes& attributes);
//     void compute(Context& context) const;   // called by several threads at a time
//   };
//   const OrtCustomOp* linear_op() { static const OrtCustomOp op = custom_op<Linear>(); return &op; }
//
// Both report what is wrong by throwing Refused; nothing is thrown past the ABI, nor from tasks on the thread pool.
#pragma once

#include <cstdint>
#include <exception>
#include <iterator>
#include <string>

#include "abi.h"
#include "limits.h"
#include "parallel.h"
#include "sizes.h"

namespace qwen3 {

enum class Element : int {
  any = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED,
  f32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
  u8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
  i8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
  i32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
  i64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
  f16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
  bf16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
};

// One input or output. `any` leaves the type to compute().
struct Port {
  const char* name;
  Element element;
  bool optional = false;
};

constexpr int kMaxRank = 8;

// A view of a tensor's memory; `data` is null for an optional input that is absent.
struct Tensor {
  void* data = nullptr;
  Element element = Element::any;
  int rank = 0;
  int64_t shape[kMaxRank] = {};

  explicit operator bool() const { return data != nullptr || rank != 0; }
  int64_t size() const;          // number of elements; throws Refused where there cannot be so many
  std::string describe() const;  // "float32 [3, 1024]"
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

class Attributes {
 public:
  explicit Attributes(const OrtKernelInfo* info) : info_(info) {}
  // An attribute of the node within its limit, or `fallback` where it is absent; without fallback its absence is
  // refused, and so is an attribute of another type.
  int64_t integer(const Limit& limit) const;
  int64_t integer(const Limit& limit, int64_t fallback) const;
  float real(const RealLimit& limit, float fallback) const;
  std::string text(const char* name, const char* fallback) const;
  // Throws Refused where the model itself holds input `index`.
  void require_fed(size_t index, const char* name) const;

 private:
  void require_absent(const char* name, const char* type) const;

  const OrtKernelInfo* info_;
};

class Context {
 public:
  // Throws Refused where ONNX Runtime does not say how many inputs the node has.
  Context(OrtKernelContext* context, const Port* inputs, size_t count);
  // Input `index`, its element type checked against the table (unless `any`); an absent optional one is false.
  Tensor input(size_t index) const;
  // Output `index`, allocated with a shape.
  Tensor output(size_t index, std::initializer_list<int64_t> shape) const;
  // ONNX Runtime's own thread pool.
  Parallel parallel() const;

 private:
  OrtKernelContext* context_;
  const Port* inputs_;
  size_t count_;    // of the table
  size_t present_;  // of the node: trailing optional ones may be missing
};

// Throws Refused("<what> has <found>, expected <expected>") unless `tensor` has exactly this shape; -1 matches any
// size.
void require_shape(const Tensor& tensor, const char* what, std::initializer_list<int64_t> shape);

OrtStatus* status_of(const char* op, const std::exception& error) noexcept;

template <class Op>
constexpr size_t input_ports() {
  return std::size(Op::kInputs);
}

template <class Op>
OrtCustomOp custom_op() {
  OrtCustomOp op{};
  op.version = abi::kApiVersion;
  op.GetName = [](const OrtCustomOp*) { return Op::kName; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return "CPUExecutionProvider"; };
  op.GetInputTypeCount = [](const OrtCustomOp*) { return std::size(Op::kInputs); };
  op.GetOutputTypeCount = [](const OrtCustomOp*) { return std::size(Op::kOutputs); };
  op.GetInputType = [](const OrtCustomOp*, size_t i) {
    return static_cast<ONNXTensorElementDataType>(Op::kInputs[i].element);
  };
  op.GetOutputType = [](const OrtCustomOp*, size_t i) {
    return static_cast<ONNXTensorElementDataType>(Op::kOutputs[i].element);
  };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t i) {
    return Op::kInputs[i].optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t i) {
    return Op::kOutputs[i].optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return 0x7fffffff; };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Op*>(kernel); };
  op.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** kernel) -> OrtStatusPtr {
    try {
      *kernel = new Op(Attributes(info));
      return nullptr;
    } catch (const std::exception& error) {
      return status_of(Op::kName, error);
    }
  };
  op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) -> OrtStatusPtr {
    try {
      Context view(context, Op::kInputs, std::size(Op::kInputs));
      static_cast<const Op*>(kernel)->compute(view);
      return nullptr;
    } catch (const std::exception& error) {
      return status_of(Op::kName, error);
    }
  };
  return op;
}

}  // namespace qwen3
