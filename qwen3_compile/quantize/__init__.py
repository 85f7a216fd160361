"""Weights to integer codes: symmetric groups whose scale is chosen by mean squared error."""

from __future__ import annotations

from qwen3_compile.quantize.symmetric import CODE_RANGE, Quantized, quantize

__all__ = ["CODE_RANGE", "Quantized", "quantize"]
