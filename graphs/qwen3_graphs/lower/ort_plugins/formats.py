"""The weights that our operators for ONNX Runtime compute. Nothing here needs ONNX: a spec is checked against it."""

from qwen3_graphs.formats import WeightFormat, formats_in_groups

MATRICES = (
    *(WeightFormat("fp32"), WeightFormat("fp16"), WeightFormat("bf16")),
    *(WeightFormat("fp8", 128), WeightFormat("fp8"), WeightFormat("int8")),
    *formats_in_groups("int8", "int4", "uint4"),
)
