"""Integer codes [K, N], for the standard DequantizeLinear in blocks along its first axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts.core.nbit_rows import pack_codes
from qwen3_compile.quantize import quantize_integers

if TYPE_CHECKING:
    from qwen3_compile.pack.layouts.core.rows import Array
    from qwen3_graphs.formats import WeightFormat


def pack(sources: tuple[Array, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Quantize a matrix [N, K]: codes [K, N], scales float32 [groups, N], or [N] per channel.

    A format with zero points adds those, stored like codes, [groups, N]. Codes are int8, or of four bits uint8
    [K, N / 2] with two in a byte, the earlier one in the low half. Unlike rows, columns are not padded: the last group
    of a column may be short.

    Raises:
        UnsupportedError: four bits with an odd N, whose rows would not begin at a byte.
    """
    (source,) = sources
    outputs, inputs = source.shape
    if fmt.bits == 4 and outputs % 2:
        raise UnsupportedError(f"{fmt.kind} columns need an even number of outputs, found {outputs}")
    quantized = quantize_integers(source, fmt)
    codes = _stored(quantized.codes[:, :inputs], fmt)
    scales = np.ascontiguousarray(quantized.scales.T if fmt.group_size else quantized.scales[:, 0])
    if quantized.zero_points is None:
        return codes, scales
    return codes, scales, _stored(quantized.zero_points, fmt)


def _stored(codes: Array, fmt: WeightFormat) -> Array:
    columns = np.ascontiguousarray(codes.T)
    return columns if fmt.bits == 8 else pack_codes(columns.view(np.uint8) & np.uint8(0x0F), fmt.bits)
