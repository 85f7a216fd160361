"""Tiny engines of the TensorRT targets, executed on CPU by ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime as ort
from lowered_engine import LIMITS, Engine, attach, semantic

from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import lower
from qwen3_graphs.lowered import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import onnx

    from qwen3_graphs.architecture import Architecture

AS_WRITTEN = "ORT_ENABLE_BASIC"


def precision(
    activations: str, weights: WeightFormat | None = None, *, lm_head: WeightFormat | None = None
) -> Precision:
    """Weight-only, everything else in the type of the activations."""
    plain = WeightFormat(activations)
    return Precision(
        weights or plain, lm_head or weights or plain, plain, activations, activations, quantized_activations=False
    )


def imported(
    architecture: Architecture,
    formats: Precision,
    *,
    output: str = "logits",
    calibrated: Mapping[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """The file that TensorRT imports, with its weights inside."""
    return attach(lower(semantic(architecture, output), "tensorrt", formats, LIMITS), architecture, calibrated)


def executed(
    architecture: Architecture,
    formats: Precision,
    *,
    output: str = "logits",
    calibrated: Mapping[str, np.ndarray] | None = None,
    level: str = AS_WRITTEN,
    edit: Callable[[onnx.ModelProto], None] | None = None,
) -> Engine:
    """The same file opened by ONNX Runtime."""
    proto = imported(architecture, formats, output=output, calibrated=calibrated)
    if edit is not None:
        edit(proto)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Engine(architecture, formats, session, proto)
