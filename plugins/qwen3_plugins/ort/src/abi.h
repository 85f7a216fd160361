// The part of ONNX Runtime's C ABI that a custom-operator library needs.
//
// No Python wheel ships onnxruntime_c_api.h. The ABI is stable: OrtApi is a table of function pointers that only ever
// grows, so a function keeps its slot, and OrtCustomOp only gains fields at its end. The declarations below carry the
// official names, by which tests/plugins/ort/test_official_header.py compares them with the official header.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtValue;
struct OrtShapeInferContext;
struct OrtApi;  // only ever used as a table of pointers
using OrtStatusPtr = OrtStatus*;

enum OrtErrorCode { ORT_OK = 0, ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };

enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 16,
};

enum OrtCustomOpInputOutputCharacteristic { INPUT_OUTPUT_REQUIRED = 0, INPUT_OUTPUT_OPTIONAL = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatusPtr (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
  OrtStatusPtr (*KernelComputeV2)(void*, OrtKernelContext*);
  OrtStatusPtr (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int**, int**);
  void (*ReleaseMayInplace)(int*, int*);
  size_t (*GetAliasMap)(int**, int**);
  void (*ReleaseAliasMap)(int*, int*);
};

static_assert(sizeof(void*) == 8, "slots and fields are those of 64-bit platforms");
static_assert(sizeof(OrtCustomOp) == 208, "OrtCustomOp of version 24");
static_assert(offsetof(OrtCustomOp, GetName) == 16 && offsetof(OrtCustomOp, GetInputType) == 32, "OrtCustomOp");
static_assert(offsetof(OrtCustomOp, KernelDestroy) == 72 && offsetof(OrtCustomOp, GetInputMemoryType) == 96,
              "OrtCustomOp");
static_assert(offsetof(OrtCustomOp, CreateKernelV2) == 136 && offsetof(OrtCustomOp, KernelComputeV2) == 144,
              "OrtCustomOp");
static_assert(offsetof(OrtCustomOp, GetStartVersion) == 160 && offsetof(OrtCustomOp, GetAliasMap) == 192,
              "OrtCustomOp");

namespace qwen3::abi {

// The lowest version whose table holds every slot used here (ONNX Runtime 1.24).
constexpr uint32_t kApiVersion = 24;

// Slots of OrtApi, by the official names.
enum Slot : size_t {
  kCreateStatus = 0,
  kGetErrorMessage = 2,
  kCreateCustomOpDomain = 26,
  kCustomOpDomain_Add = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kKernelInfoGetAttribute_float = 85,
  kKernelInfoGetAttribute_int64 = 86,
  kKernelInfoGetAttribute_string = 87,
  kKernelContext_GetInputCount = 88,
  kKernelContext_GetInput = 90,
  kKernelContext_GetOutput = 91,
  kReleaseStatus = 93,
  kKernelInfoGetAttributeArray_int64 = 163,
  kKernelInfoGetConstantInput_tensor = 249,
  kKernelContext_ParallelFor = 274,
  kGetTensorElementTypeAndShapeDataReference = 414,
};

using Function = void (*)();

// Set once by RegisterCustomOps.
extern const Function* table;

// Calls the function in a slot: call<kCreateStatus, OrtStatus*>(code, message). Arguments must have exactly the
// function's parameter types.
template <Slot slot, class Result, class... Arguments>
inline Result call(Arguments... arguments) {
  return reinterpret_cast<Result (*)(Arguments...)>(table[slot])(arguments...);
}

}  // namespace qwen3::abi
