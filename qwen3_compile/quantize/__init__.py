"""Weights to codes: symmetric integers whose scale is chosen by mean squared error, and eight-bit floating point."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing as npt

from qwen3_compile.quantize.float8 import Float8, as_float8, values
from qwen3_compile.quantize.symmetric import CODE_RANGE, Quantized, ScaleType, quantize

# A tensor as a checkpoint has it: its elements, or the codes and scales of a matrix.
Stored: TypeAlias = npt.NDArray[Any] | Float8 | Quantized

__all__ = ["CODE_RANGE", "Float8", "Quantized", "ScaleType", "Stored", "as_float8", "quantize", "values"]
