"""Floating-point matrices as the checkpoint has them, [N, K], or two of them row in turn with row."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.quantize import Float8
from qwen3_graphs.formats import WeightFormat  # noqa: TC001 - part of the signature that callers inspect

Array: TypeAlias = npt.NDArray[Any]
Source: TypeAlias = Array | Float8

FLOAT_TYPES: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def pack(sources: tuple[Array, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Convert one tensor of any shape to the format's type.

    Raises:
        UnsupportedError: the format is not a floating-point one, or a value is too large for it.
    """
    (source,) = sources
    return (_converted(source, fmt),)


def pack_interleaved(sources: tuple[Array, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Convert two matrices [N, K] and lay row i of the first before row i of the second: [2N, K]."""
    return (interleave(*(_converted(source, fmt) for source in sources)),)


def interleave(first: Array, second: Array) -> Array:
    """Return rows of two arrays [N, ...] in turns, [2N, ...]."""
    result = np.empty((2 * len(first), *first.shape[1:]), first.dtype)
    result[0::2], result[1::2] = first, second
    return result


def _converted(source: Array, fmt: WeightFormat) -> Array:
    if fmt.kind not in FLOAT_TYPES:
        raise UnsupportedError(f"layout rows holds {', '.join(FLOAT_TYPES)}, found {fmt.kind}")
    with np.errstate(over="ignore"):  # reported below, with what to do
        result = np.ascontiguousarray(source, dtype=FLOAT_TYPES[fmt.kind])
    if fmt.kind == "fp16" and source.dtype != np.float16 and not np.isfinite(result).all():
        raise UnsupportedError("a weight exceeds the range of fp16 (65504): use bf16 or fp32")
    return result
