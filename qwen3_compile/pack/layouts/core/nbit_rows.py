"""Integer codes along rows, for MatMulNBits, GatherBlockQuantized and QMoE.

A code is stored without sign, its zero at 8 (int4) or 128 (int8). Four-bit codes lie two in a byte, the earlier
one in the low half. Rows are padded to whole groups with codes of value zero.
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
    """Quantise a matrix [N, K]: codes uint8 [N, K_padded * bits / 8], scales [N, groups] in `scale_type`.

    Raises:
        UnsupportedError: a scale is beyond the range of its type.
    """
    (source,) = sources
    quantized = quantize_integers(source, fmt, scale_type=scale_type)
    return offset_codes(quantized.codes, fmt), quantized.scales.astype(FLOAT_TYPES[scale_type])


def pack_blocks(sources: tuple[Array, ...], fmt: WeightFormat, scale_type: ScaleType = "fp32") -> tuple[Array, ...]:
    """Do as `pack`, and write the codes' shape as [N, groups, bytes of a group]."""
    codes, scales = pack(sources, fmt, scale_type)
    return codes.reshape(*scales.shape, -1), scales


def pack_interleaved(
    sources: tuple[Array, ...], fmt: WeightFormat, scale_type: ScaleType = "fp32"
) -> tuple[Array, ...]:
    """Quantise two matrices [N, K] and lay their rows in turns: codes [2N, ...], scales [2N, groups]."""
    packed = [pack((source,), fmt, scale_type) for source in sources]
    return tuple(interleave(first, second) for first, second in zip(*packed, strict=True))


def offset_codes(codes: npt.NDArray[np.int8], fmt: WeightFormat) -> npt.NDArray[np.uint8]:
    """Return signed codes [N, K] in the stored form, uint8 [N, K * bits / 8]."""
    if fmt.kind == "int8":
        return codes.view(np.uint8) ^ np.uint8(0x80)
    nibbles = codes.view(np.uint8) & np.uint8(0x0F) ^ np.uint8(0x08)
    return nibbles[:, 0::2] | nibbles[:, 1::2] << np.uint8(4)
