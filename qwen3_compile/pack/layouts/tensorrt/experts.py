"""Experts for the TensorRT plugin `Qwen3MoE`: rows of one expert's matrices, one below the other (gate before up).

Codes below sixteen bits are bytes, in numpy and ONNX int8: TensorRT's parser turns uint8 into int32. They stand for the
same values as the layouts in columns, which TensorRT's own layers take, so that the two ways can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def pack(sources: tuple[Source, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Stack matrices [N_i, K]: values [N, K] in a floating-point type, or E4M3 int8 [N, K] and scales float32 [N].

    Raises:
        UnsupportedError: the format is another one.
    """
    if fmt.kind == "fp8" and not fmt.group_size:
        stored = [as_float8(source, fmt, positive=True) for source in sources]
        codes = np.concatenate([one.codes.view(np.int8) for one in stored])
        return codes, np.concatenate([one.row_scales() for one in stored])
    return (np.concatenate([as_float((values(source),), fmt)[0] for source in sources]),)


def int4_packer(scale_type: ScaleType) -> Callable[[tuple[Array | Quantized, ...], WeightFormat], tuple[Array, ...]]:
    """Return the packer of int4 in groups whose scales are of a type.

    It makes of matrices [N_i, K] pairs of codes int8 [N, K / 2], the earlier one in the low half, and scales
    [N, K / group_size]. It raises UnsupportedError for another format, and for a K that is not whole groups.
    """

    def packed(sources: tuple[Array | Quantized, ...], fmt: WeightFormat) -> tuple[Array, ...]:
        inputs = sources[0].shape[1]
        if fmt.kind != "int4" or inputs % fmt.group_size:
            raise UnsupportedError(
                f"experts in groups hold int4 of whole groups of inputs, found {fmt.kind} of {inputs} inputs in groups "
                f"of {fmt.group_size}"
            )
        quantized = [quantize_integers(source, fmt, positive=True, scale_type=scale_type) for source in sources]
        nibbles = np.concatenate([one.codes for one in quantized]).view(np.uint8) & np.uint8(0x0F)
        codes = nibbles[:, 0::2] | nibbles[:, 1::2] << np.uint8(4)
        scales = np.concatenate([one.scales for one in quantized])
        return codes.view(np.int8), scales.astype(SCALE_TYPES[scale_type])

    return packed
