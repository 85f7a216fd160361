"""Weights to codes: symmetric integers whose scale is chosen by mean squared error, and eight-bit floating point."""

from __future__ import annotations

from qwen3_compile.quantize.float8 import Float8, as_float8, values
from qwen3_compile.quantize.symmetric import CODE_RANGE, Quantized, ScaleType, quantize

__all__ = ["CODE_RANGE", "Float8", "Quantized", "ScaleType", "as_float8", "quantize", "values"]
