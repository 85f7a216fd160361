"""Integer codes along rows, for MatMulNBits, GatherBlockQuantized and QMoE.

A code is stored without sign: that of value zero is 8 (int4), 128 (int8), or its group's zero point (uint4). Four-bit
codes lie two in a byte, the earlier one in the low half, and so do zero points, of which each row begins at a byte.
Rows are padded to whole groups with codes of value zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qwen3_compile.pack.layouts.core.rows import FLOAT_TYPES, interleave
from qwen3_compile.quantize import quantize_integers

if TYPE_CHECKING:
    from qwen3_compile.pack.layouts.core.rows import Array
    from qwen3_compile.quantize import ScaleType
    from qwen3_graphs.formats import WeightFormat


def pack(sources: tuple[Array, ...], fmt: WeightFormat, scale_type: ScaleType = "fp32") -> tuple[Array, ...]:
    """Quantize a matrix [N, K]: codes uint8 [N, K_padded * bits / 8], scales [N, groups] in `scale_type`.

    A format with zero points adds those, uint8 [N, ceil(groups * bits / 8)], packed like codes.

    Raises:
        UnsupportedError: a scale is beyond the range of its type.
    """
    (source,) = sources
    quantized = quantize_integers(source, fmt, scale_type=scale_type)
    arrays = unsigned_codes(quantized.codes, fmt), quantized.scales.astype(FLOAT_TYPES[scale_type])
    return arrays if quantized.zero_points is None else (*arrays, pack_codes(quantized.zero_points, fmt.bits))


def pack_blocks(sources: tuple[Array, ...], fmt: WeightFormat, scale_type: ScaleType = "fp32") -> tuple[Array, ...]:
    """Do as `pack`, and write the codes' shape as [N, groups, bytes of a group]."""
    codes, scales, *zero_points = pack(sources, fmt, scale_type)
    return codes.reshape(*scales.shape, -1), scales, *zero_points


def pack_interleaved(
    sources: tuple[Array, ...], fmt: WeightFormat, scale_type: ScaleType = "fp32"
) -> tuple[Array, ...]:
    """Quantize two matrices [N, K] and lay their rows in turns: the arrays of `pack` with 2N rows."""
    packed = [pack((source,), fmt, scale_type) for source in sources]
    return tuple(interleave(first, second) for first, second in zip(*packed, strict=True))


def unsigned_codes(codes: Array, fmt: WeightFormat) -> npt.NDArray[np.uint8]:
    """Return codes [N, K] in the stored form, uint8 [N, K * bits / 8]: signed ones are moved up to begin at 0."""
    unsigned = codes if fmt.zero_point else codes.view(np.uint8) + np.uint8(fmt.zero_code)
    return pack_codes(unsigned, fmt.bits)


def pack_codes(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Return codes of four or eight bits [N, K] as bytes [N, ceil(K * bits / 8)], the earlier code in the low half."""
    if bits == 8:
        return codes
    low, high = codes[:, 0::2], codes[:, 1::2]
    packed = low.copy()
    packed[:, : high.shape[1]] |= high << np.uint8(4)
    return packed
