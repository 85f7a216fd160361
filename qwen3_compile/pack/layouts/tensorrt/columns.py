"""Matrices as [K, N], for TensorRT: in a floating-point type, or as codes whose scales are above zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts.core.rows import pack as as_float
from qwen3_compile.quantize import as_float8, quantize_integers, values
from qwen3_compile.quantize.scales import SCALE_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_compile.pack.layouts.core.rows import Array, Source
    from qwen3_compile.quantize import Quantized, ScaleType
    from qwen3_graphs.formats import WeightFormat


def pack(sources: tuple[Array, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Convert a matrix [N, K] to the format's type and transpose it.

    Raises:
        UnsupportedError: the format is not a floating-point one, or a value is too large for it.
    """
    (converted,) = as_float(sources, fmt)
    return (np.ascontiguousarray(converted.T),)


def pack_scaled(sources: tuple[Source, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Quantize a matrix [N, K] to fp8 or int8: codes [K, N] in that type, scales float32 [N].

    With one scale for the whole matrix (fp8 `per_tensor`) the scales are float32 [].

    Raises:
        UnsupportedError: the format is another one.
    """
    (source,) = sources
    if fmt.kind == "fp8":
        stored = as_float8(source, fmt, positive=True)
        return np.ascontiguousarray(stored.codes.view(ml_dtypes.float8_e4m3fn).T), stored.scales
    if fmt.kind != "int8" or fmt.group_size:
        raise UnsupportedError(f"layout scaled_columns holds fp8 and int8 per-channel, found {fmt.description}")
    quantized = quantize_integers(values(source), fmt, positive=True)
    return np.ascontiguousarray(quantized.codes.T), quantized.scales[:, 0]


def grouped_packer(scale_type: ScaleType) -> Callable[[tuple[Array | Quantized, ...], WeightFormat], tuple[Array, ...]]:
    """Return the packer of int4 in groups whose scales are of a type.

    It makes of a matrix [N, K] codes uint8 [K, N / 2], two in a byte, the earlier one in the low half, and scales
    [K / group_size, N]. It raises UnsupportedError for another format, for an odd N, whose rows would not begin at a
    byte, and for a K that is not whole groups.
    """

    def packed(sources: tuple[Array | Quantized, ...], fmt: WeightFormat) -> tuple[Array, ...]:
        (source,) = sources
        outputs, inputs = source.shape
        if fmt.kind != "int4" or outputs % 2 or inputs % fmt.group_size:
            raise UnsupportedError(
                f"columns in groups hold int4 of an even number of outputs and whole groups of inputs, found "
                f"{fmt.kind} of {outputs} outputs and {inputs} inputs in groups of {fmt.group_size}"
            )
        quantized = quantize_integers(source, fmt, positive=True, scale_type=scale_type)
        nibbles = quantized.codes.T.astype(np.uint8) & np.uint8(0x0F)
        codes = nibbles[:, 0::2] | nibbles[:, 1::2] << np.uint8(4)
        return codes, np.ascontiguousarray(quantized.scales.T.astype(SCALE_TYPES[scale_type]))

    return packed
