"""Eight-bit floating point: E4M3 values times a scale for each block of 128 x 128, each row, or the whole matrix.

E4M3 is the `e4m3fn` kind (Micikevicius et al., 2022, "FP8 Formats for Deep Learning"): no infinities, one NaN, values
up to 448. It is how the released FP8 checkpoints store their matrices, so the same type stands for a matrix that a
checkpoint holds and for one that was quantized here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qwen3_compile.errors import CheckpointError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_graphs.formats import WeightFormat

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

BLOCK = 128
LARGEST = np.float32(448)

# Below this a row or block counts as zero: its scale would be a subnormal number, which kernels flush.
_SMALLEST = np.float32(1e-35)


@dataclass(frozen=True)
class Float8:
    """A matrix in E4M3: element [n, k] is the value of `codes[n, k]` times the scale it falls under.

    Attributes:
        codes: uint8 [N, K], the bits of E4M3 values.
        scales: float32 [ceil(N / 128), ceil(K / 128)] for blocks, [N] for one scale per row, [] for one in all.
    """

    codes: npt.NDArray[np.uint8]
    scales: Float32

    @property
    def shape(self) -> tuple[int, int]:
        """N and K."""
        rows, columns = self.codes.shape
        return rows, columns

    @property
    def in_blocks(self) -> bool:
        """Whether scales are those of blocks of 128 x 128."""
        return self.scales.ndim == 2

    @property
    def per_tensor(self) -> bool:
        """Whether one scale stands for the whole matrix."""
        return self.scales.ndim == 0

    def row_scales(self) -> Float32:
        """The scales that each row sees: float32 [N, ceil(K / 128)] of blocks, or [N]."""
        if self.in_blocks:
            return np.repeat(self.scales, BLOCK, axis=0)[: len(self.codes)]
        return np.broadcast_to(self.scales, len(self.codes))

    def dequantize(self) -> Float32:
        """The float32 [N, K] matrix that the codes stand for."""
        rows, columns = self.shape
        result = np.empty((rows, columns), np.float32)
        by_row = None if self.in_blocks else self.row_scales()
        for start in range(0, rows, BLOCK):
            part = slice(start, start + BLOCK)
            result[part] = self.codes[part].view(ml_dtypes.float8_e4m3fn)
            if by_row is None:
                result[part] *= np.repeat(self.scales[start // BLOCK], BLOCK)[:columns]
            else:
                result[part] *= by_row[part, None]
        return result


def as_float8(weight: Array | Float8, fmt: WeightFormat, *, positive: bool = False) -> Float8:
    """A matrix in E4M3: as it is where it has scales of the wanted kind, else quantized.

    A scale is the largest magnitude that it covers / 448, so that nothing saturates but rounding errors of the
    division; values are rounded to nearest, half to even. One scale for the whole matrix serves as that of each row.

    Args:
        weight: [N, K] of any floating type, or a checkpoint's own codes and scales.
        fmt: `fp8`, with 128 for blocks of 128 x 128, or 0 for one scale per row or (`per_tensor`) one in all.
        positive: whether every scale must be above zero. Those made here are; a checkpoint may have given a block of
            zeros the scale 0, which then becomes 1.

    Raises:
        CheckpointError: a value is NaN or infinite.
        UnsupportedError: the format is not fp8.
    """
    if fmt.kind != "fp8" or fmt.group_size not in (0, BLOCK) or (fmt.group_size and fmt.per_tensor):
        raise UnsupportedError(f"cannot store {fmt.kind} with group size {fmt.group_size} as fp8: 128 or 0 is expected")
    blocks = fmt.group_size == BLOCK
    if isinstance(weight, Float8):
        if weight.in_blocks == blocks and (weight.per_tensor or not fmt.per_tensor):
            if positive and not weight.scales.all():
                weight = _without_zero_scales(weight)
            return weight if weight.per_tensor == fmt.per_tensor else Float8(weight.codes, weight.row_scales())
        weight = weight.dequantize()
    if blocks:
        return _in_blocks(weight)
    largest = np.concatenate([_largest(np.array(weight[part], np.float32), 1) for part in _parts(weight)])
    scales = _scales(largest.max(initial=0) if fmt.per_tensor else largest)
    by_row = np.broadcast_to(scales, len(weight))
    codes = np.empty(weight.shape, np.uint8)
    for part in _parts(weight):
        codes[part] = _divide_in_place(np.array(weight[part], np.float32), by_row[part, None])
    return Float8(codes, scales)


def _without_zero_scales(weight: Float8) -> Float8:
    """Write a scale of 0 as a scale of 1 over codes of 0."""
    live = Float8(weight.codes, np.where(weight.scales == 0, np.float32(0), np.float32(1)))
    # Its own scales multiply each code's value by 0 or 1; 0 times NaN would stay NaN, as damage should.
    codes = live.dequantize().astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    return Float8(codes, np.where(weight.scales == 0, np.float32(1), weight.scales))


def _in_blocks(weight: Array) -> Float8:
    rows, columns = weight.shape
    codes = np.empty((rows, columns), np.uint8)
    scales = np.empty((-(-rows // BLOCK), -(-columns // BLOCK)), np.float32)
    for index, part in enumerate(_parts(weight)):
        wide = np.array(weight[part], np.float32)
        scales[index] = _scales(np.maximum.reduceat(_largest(wide, 0), range(0, columns, BLOCK)))
        codes[part] = _divide_in_place(wide, np.repeat(scales[index], BLOCK)[:columns])
    return Float8(codes, scales)


def _parts(weight: Array) -> Iterator[slice]:
    """As many rows at a time as a block has: float32 copies stay small."""
    return (slice(start, start + BLOCK) for start in range(0, len(weight), BLOCK))


def _largest(values: Float32, axis: int) -> Float32:
    largest: Float32 = np.abs(values).max(axis=axis)
    if not np.isfinite(largest).all():
        raise CheckpointError("holds values that are not finite (NaN or infinity)")
    return largest


def _scales(largest: Float32) -> Float32:
    return np.where(largest < _SMALLEST, np.float32(1), largest / LARGEST)


def _divide_in_place(values: Float32, scales: Float32) -> npt.NDArray[np.uint8]:
    """Divide `values` by `scales`, overwriting them; return the bits of the quotients in E4M3."""
    values /= scales
    np.clip(values, -LARGEST, LARGEST, out=values)
    return values.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
