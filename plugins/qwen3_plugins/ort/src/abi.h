// The part of ONNX Runtime's C ABI that a custom-operator library needs.
//
// No Python wheel ships onnxruntime_c_api.h. The ABI is stable: OrtApi is a table of function pointers that only ever
// grows, so a function keeps its position, and OrtCustomOp only gains fields at its end. The declarations below carry
// the official names; compile with -DQWEN3_ORT_HEADER to use the official header instead and have them checked.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef QWEN3_ORT_HEADER
#include <onnxruntime_c_api.h>
#else

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

#endif  // QWEN3_ORT_HEADER

static_assert(sizeof(void*) == 8, "positions below are those of 64-bit platforms");
static_assert(sizeof(OrtCustomOp) >= 208, "OrtCustomOp only grows");
static_assert(offsetof(OrtCustomOp, GetName) == 16 && offsetof(OrtCustomOp, GetInputType) == 32, "OrtCustomOp");
static_assert(offsetof(OrtCustomOp, KernelDestroy) == 72 && offsetof(OrtCustomOp, GetInputMemoryType) == 96,
              "OrtCustomOp");
static_assert(offsetof(OrtCustomOp, CreateKernelV2) == 136 && offsetof(OrtCustomOp, KernelComputeV2) == 144,
              "OrtCustomOp");
static_assert(offsetof(OrtCustomOp, GetStartVersion) == 160 && offsetof(OrtCustomOp, GetAliasMap) == 192,
              "OrtCustomOp");

namespace qwen3::abi {

// The lowest version whose table holds every position used here (ONNX Runtime 1.24).
constexpr uint32_t kApiVersion = 24;

// Positions in OrtApi.
enum Position : size_t {
  kCreateStatus = 0,
  kReleaseStatus = 93,
  kGetErrorMessage = 2,
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kKernelInfoGetAttributeFloat = 85,
  kKernelInfoGetAttributeInt64 = 86,
  kKernelInfoGetAttributeString = 87,
  kKernelContextGetInputCount = 88,
  kKernelContextGetInput = 90,
  kKernelContextGetOutput = 91,
  kKernelInfoGetAttributeArrayInt64 = 163,
  kKernelInfoGetConstantInputTensor = 249,
  kKernelContextParallelFor = 274,
  kGetTensorElementTypeAndShapeDataReference = 414,
};

#ifdef QWEN3_ORT_HEADER
static_assert(offsetof(OrtApi, CreateStatus) == 8 * kCreateStatus, "OrtApi");
static_assert(offsetof(OrtApi, GetTensorMutableData) == 8 * kGetTensorMutableData, "OrtApi");
static_assert(offsetof(OrtApi, KernelInfoGetAttribute_string) == 8 * kKernelInfoGetAttributeString, "OrtApi");
static_assert(offsetof(OrtApi, KernelContext_GetOutput) == 8 * kKernelContextGetOutput, "OrtApi");
static_assert(offsetof(OrtApi, KernelInfoGetConstantInput_tensor) == 8 * kKernelInfoGetConstantInputTensor, "OrtApi");
static_assert(offsetof(OrtApi, KernelContext_ParallelFor) == 8 * kKernelContextParallelFor, "OrtApi");
static_assert(offsetof(OrtApi, GetTensorElementTypeAndShapeDataReference) ==
                  8 * kGetTensorElementTypeAndShapeDataReference,
              "OrtApi");
#endif

using Function = void (*)();

// Set once by RegisterCustomOps.
extern const Function* table;

// Calls the function at a position: call<kCreateStatus, OrtStatus*>(code, message). Arguments must have exactly the
// function's parameter types.
template <Position position, class Result, class... Arguments>
inline Result call(Arguments... arguments) {
  return reinterpret_cast<Result (*)(Arguments...)>(table[position])(arguments...);
}

}  // namespace qwen3::abi
