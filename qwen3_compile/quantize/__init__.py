"""Weights to codes: integers whose scale is chosen by mean squared error, and eight-bit floating point.

`quantize` writes any format that has scales; a new integer kind is one search in `integers.SEARCHES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from qwen3_compile.quantize.float8 import Float8, as_float8
from qwen3_compile.quantize.integers import Quantized, quantize_integers
from qwen3_compile.quantize.scales import ScaleType

if TYPE_CHECKING:
    from qwen3_graphs.formats import WeightFormat

Array: TypeAlias = npt.NDArray[Any]
# A tensor as a checkpoint has it: its elements, or the codes and scales of a matrix.
Stored: TypeAlias = Array | Float8 | Quantized

__all__ = ["Float8", "Quantized", "ScaleType", "Stored", "as_float8", "quantize", "quantize_integers", "values"]


def quantize(
    weight: Stored, fmt: WeightFormat, *, positive: bool = False, scale_type: ScaleType = "fp32"
) -> Float8 | Quantized:
    """Quantize a matrix [N, K] to a format that has scales.

    Args:
        weight: of any floating type, or a checkpoint's own codes and scales, which stay as they are where the format
            is theirs.
        fmt: what to write.
        positive: whether every scale must be above zero.
        scale_type: the type that scales of integers will be stored in; scales of fp8 are float32.

    Raises:
        CheckpointError: a value is NaN or infinite.
        UnsupportedError: the format has no scales, or a scale is beyond the range of its type.
    """
    if fmt.kind == "fp8":
        return as_float8(values(weight) if isinstance(weight, Quantized) else weight, fmt, positive=positive)
    taken = values(weight) if isinstance(weight, Float8) else weight
    return quantize_integers(taken, fmt, positive=positive, scale_type=scale_type)


def values(tensor: Stored) -> Array:
    """What a stored tensor stands for: codes times their scales in float32, anything else as it is."""
    return tensor.dequantize() if isinstance(tensor, Float8 | Quantized) else tensor
