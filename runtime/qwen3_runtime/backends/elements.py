"""Element types as ONNX Runtime, TensorRT and numpy call them, and what of a manifest a step's interface depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_graphs.interface import StepModel

if TYPE_CHECKING:
    from qwen3_graphs.interface import Element
    from qwen3_runtime.manifest import ModelConfig


@dataclass(frozen=True)
class ElementType:
    """One element type.

    Attributes:
        number: ONNX's, which a binding of ONNX Runtime takes.
        session_name: what a session calls it.
        tensorrt_name: what TensorRT calls it.
        dtype: a numpy type as wide: numpy has no bfloat16.
    """

    number: int
    session_name: str
    tensorrt_name: str
    dtype: type[np.generic]


ELEMENTS: dict[Element, ElementType] = {
    "FLOAT": ElementType(1, "tensor(float)", "FLOAT", np.float32),
    "FLOAT16": ElementType(10, "tensor(float16)", "HALF", np.float16),
    "BFLOAT16": ElementType(16, "tensor(bfloat16)", "BF16", np.uint16),
    "INT8": ElementType(3, "tensor(int8)", "INT8", np.int8),
    "INT32": ElementType(6, "tensor(int32)", "INT32", np.int32),
    "INT64": ElementType(7, "tensor(int64)", "INT64", np.int64),
}

_CACHES: dict[str, Element] = {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16", "int8": "INT8"}


def step_model(model: ModelConfig) -> StepModel:
    """What of a manifest an engine's interface depends on."""
    return StepModel(
        layers=model.layers,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        cache=_CACHES[model.cache_dtype],
        result=model.output,
        width=model.vocab_size if model.output == "logits" else model.hidden_size,
    )


def widened(stored: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Values of a cache as float32, a copy; uint16 stands for bfloat16, as in `ELEMENTS`."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)
