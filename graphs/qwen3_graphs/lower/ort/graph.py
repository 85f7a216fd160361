"""The choice between the operators of ONNX Runtime's CPU and those of its CUDA provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_graphs.lower.ort import cpu, cuda

if TYPE_CHECKING:
    import onnx_ir as ir

    from qwen3_graphs.lowered import Limits, Lowered, Precision


def lower(semantic: ir.Model, precision: Precision, limits: Limits) -> Lowered:
    """Lower to ONNX Runtime's own operators; see `qwen3_graphs.lower.lower`.

    Activations in fp16 or bf16 mean the CUDA provider: on CPU everything between matrices is float32.
    """
    if precision.activations != "fp32":
        return cuda.lower(semantic, precision)
    return cpu.lower(semantic, precision, limits)
