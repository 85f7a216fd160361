"""The weights that ONNX Runtime's own operators compute. Nothing here needs ONNX: a spec is checked against it."""

from qwen3_graphs.formats import WeightFormat, formats_in_groups

# MatMulNBits and QMoE subtract 128 or 8 from codes without zero points, whatever the kind's lowest code is.
CPU = (
    *(WeightFormat("fp32"), WeightFormat("fp16"), WeightFormat("bf16")),
    *formats_in_groups("int8", "int4", "uint4"),
)

# A floating-point matrix has the type of the activations.
CUDA = (
    *(WeightFormat("fp16"), WeightFormat("bf16"), WeightFormat("fp8", 128), WeightFormat("fp8")),
    *formats_in_groups("int8", "int4"),
)
CUDA_EMBEDDINGS = tuple(fmt for fmt in CUDA if fmt.kind != "fp8")
# onnxruntime-gpu 1.31 is released without the kernels of fp8 experts; groups of 64 and 128 work on every GPU.
CUDA_EXPERTS = (
    *(WeightFormat("fp16"), WeightFormat("bf16")),
    *formats_in_groups("int8", "int4", sizes=(64, 128)),
)
