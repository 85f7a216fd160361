"""Signed integer codes [K, N], for the standard DequantizeLinear in blocks along its first axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.quantize import quantize_integers

if TYPE_CHECKING:
    from qwen3_compile.pack.layouts.core.rows import Array
    from qwen3_graphs.formats import WeightFormat


def pack(sources: tuple[Array, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Quantise a matrix [N, K]: codes [K, N], scales float32 [groups, N], or [N] with one scale a row.

    Codes are int8, or for int4 uint8 [K, N / 2] with two in a byte, the earlier one in the low half. Unlike
    rows, columns are not padded: the last group of a column may be short.

    Raises:
        UnsupportedError: int4 with an odd N, whose rows would not begin at a byte.
    """
    (source,) = sources
    outputs, inputs = source.shape
    quantized = quantize_integers(source, fmt)
    codes = np.ascontiguousarray(quantized.codes[:, :inputs].T)
    scales = np.ascontiguousarray(quantized.scales.T if fmt.group_size else quantized.scales[:, 0])
    if fmt.kind == "int8":
        return codes, scales
    if outputs % 2:
        raise UnsupportedError(f"int4 columns need an even number of outputs, found {outputs}")
    nibbles = codes.view(np.uint8) & np.uint8(0x0F)
    return nibbles[:, 0::2] | nibbles[:, 1::2] << np.uint8(4), scales
