"""Panels of 16 rows, for the operators of the ONNX Runtime plugin (`qwen3_plugins.layouts` describes the bytes).

Integer codes in groups keep their scales in float16, half of what float32 would add to what a decoded token reads.
Scales of rows and blocks are so few that they stay float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts.core.rows import pack as as_float
from qwen3_compile.quantize import Float8, Quantized, as_float8, quantize_integers
from qwen3_plugins import layouts

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from qwen3_compile.pack.layouts.core.rows import Array, Source
    from qwen3_graphs.formats import WeightFormat

_MAX_FLOAT16 = float(np.finfo(np.float16).max)
_FLOAT16_RELATIVE_ERROR = 2.0**-11  # relative error of a normal float16
_GROUPS_AT_A_TIME = 1 << 12  # looked at again at a time
_INTEGER_WRITERS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "int8": layouts.pack_int8,
    "int4": layouts.pack_int4,
    "uint4": layouts.pack_uint4,
}
_WRITERS: dict[str, Callable[[Array], Array]] = {
    "fp32": layouts.pack_fp32,
    "fp16": layouts.pack_fp16,
    "bf16": layouts.pack_bf16,
}
KINDS = (*_WRITERS, "fp8", *_INTEGER_WRITERS)


def pack(sources: tuple[Source, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Pack matrices [N_i, K], one below the other: a blob uint8, and scales where the format has them.

    Scales of groups are float16 [panels, groups, 16], with zero points uint8 [panels, groups, 40]. Those of rows are
    float32 [panels, 16], those of blocks float32 [panels, groups].

    Raises:
        UnsupportedError: a value or a scale is too large for its format, or blocks of two matrices meet in a panel.
    """
    if fmt.kind == "fp8" and fmt.group_size and any(source.shape[0] % layouts.PANEL for source in sources[:-1]):
        raise UnsupportedError(
            f"fp8 blocks of matrices of {[source.shape[0] for source in sources]} rows meet within a panel of "
            f"{layouts.PANEL}: use one scale per channel"
        )
    return _packed([_parts(source, fmt) for source in sources], fmt, np.concatenate)


def pack_gate_up(sources: tuple[Source, ...], fmt: WeightFormat) -> tuple[Array, ...]:
    """Pack a gate and an up matrix [I, K] in turns, panel by panel; the same arrays and errors as `pack`."""
    return _packed([_parts(source, fmt) for source in sources], fmt, lambda pair: layouts.interleave_gate_up(*pair))


def _parts(source: Source, fmt: WeightFormat) -> tuple[Array, ...]:
    """What is packed of a matrix, all by row: codes, scales and zero points, or its values in their own type."""
    if fmt.kind == "fp8" or isinstance(source, Float8):
        stored = as_float8(source, fmt)
        return stored.codes, stored.row_scales()
    if fmt.zero_point:
        quantized = quantize_integers(source, fmt, scale_type="fp16")
        assert quantized.zero_points is not None  # noqa: S101 - the format has them
        return quantized.codes, quantized.scales, quantized.zero_points
    if fmt.is_integer:
        quantized = quantize_integers(source, fmt)
        return half_scales(source, quantized, fmt) if fmt.group_size else (quantized.codes, quantized.scales[:, 0])
    (values,) = as_float((source,), fmt)
    return (values.view(np.uint16) if values.dtype == ml_dtypes.bfloat16 else values,)


def _packed(
    matrices: list[tuple[Array, ...]], fmt: WeightFormat, join: Callable[[tuple[Array, ...]], Array]
) -> tuple[Array, ...]:
    joined = [parts[0] if len(parts) == 1 else join(parts) for parts in zip(*matrices, strict=True)]
    if fmt.kind == "fp8":
        codes, scales = joined
        # A panel lies within a block: its first row's scales are those of all.
        return layouts.pack_fp8(codes, scales[:: layouts.PANEL] if fmt.group_size else scales)
    if fmt.is_integer:
        return _INTEGER_WRITERS[fmt.kind](*joined)
    return (_WRITERS[fmt.kind](*joined),)


def half_scales(
    source: Array, quantized: Quantized, fmt: WeightFormat
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Round scales to float16, and the codes of groups so small that it is coarse there to the rounded scale.

    `round_scales` rounds before codes are chosen, and lets a scale be short by 2^-8; here codes are there already,
    so a scale is never short by more than float16's own rounding. One function for both would change engines' bytes.

    Args:
        source: the matrix [N, K] that was quantized.
        quantized: its codes and float32 scales.
        fmt: their format.

    Returns:
        Codes int8 [N, padded K] and scales float16 [N, groups].

    Raises:
        UnsupportedError: a scale is beyond the range of float16.
    """
    codes, exact = quantized.codes, quantized.scales
    if np.abs(exact).max(initial=0) > _MAX_FLOAT16:
        raise UnsupportedError(f"a weight is too large for {fmt.kind} with scales in fp16: use bf16 or fp32")
    scales = exact.astype(np.float16)
    wide = scales.astype(np.float32)
    # Where float16 is coarse a scale is rounded away from zero: toward it, the largest values would be clipped.
    coarse = np.abs(wide - exact) > _FLOAT16_RELATIVE_ERROR * np.abs(exact)
    away = np.nextafter(scales, np.copysign(np.float16(np.inf), scales))
    scales = np.where(coarse & (np.abs(wide) < np.abs(exact)), away, scales)
    wide = scales.astype(np.float32)
    affected = np.nonzero(coarse)
    for start in range(0, affected[0].size, _GROUPS_AT_A_TIME):
        rows, places = (axis[start : start + _GROUPS_AT_A_TIME] for axis in affected)
        columns = places[:, None] * fmt.group_size + np.arange(fmt.group_size)
        inside = columns < source.shape[1]
        values = np.where(inside, source[rows[:, None], np.where(inside, columns, 0)].astype(np.float32), 0)
        steps = np.rint(values / wide[rows, places][:, None])
        codes[rows[:, None], columns] = np.clip(steps, *fmt.code_range).astype(np.int8)
    return codes, scales
