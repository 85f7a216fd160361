"""Eight-bit floating point: E4M3 values times a scale for each block of 128 x 128, or for each row.

E4M3 is the `e4m3fn` kind (Micikevicius et al., 2022, "FP8 Formats for Deep Learning"): no infinities, one NaN, values
up to 448. It is how the released FP8 checkpoints store their matrices, so the same type stands for a matrix that a
checkpoint holds and for one that was quantised here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qwen3_compile.errors import CheckpointError, UnsupportedError

if TYPE_CHECKING:
    from qwen3_graphs.lowered import WeightFormat

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

BLOCK = 128
LARGEST = np.float32(448)

# Below this a row or block counts as zero: its scale would be a subnormal number, which kernels flush.
_SMALLEST = np.float32(1e-35)


@dataclass(frozen=True)
class Float8:
    """A matrix in E4M3: element [n, k] is the value of `codes[n, k]` times the scale of its block or row.

    Attributes:
        codes: uint8 [N, K], the bits of E4M3 values.
        scales: float32 [ceil(N / 128), ceil(K / 128)] for blocks, or [N] for one scale a row.
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

    def row_scales(self) -> Float32:
        """The scales that each row sees: float32 [N, ceil(K / 128)] of blocks, or [N]."""
        return np.repeat(self.scales, BLOCK, axis=0)[: len(self.codes)] if self.in_blocks else self.scales

    def dequantize(self) -> Float32:
        """The float32 [N, K] matrix that the codes stand for."""
        rows, columns = self.shape
        result = np.empty((rows, columns), np.float32)
        for start in range(0, rows, BLOCK):
            part = slice(start, start + BLOCK)
            result[part] = self.codes[part].view(ml_dtypes.float8_e4m3fn)
            if self.in_blocks:
                result[part] *= np.repeat(self.scales[start // BLOCK], BLOCK)[:columns]
            else:
                result[part] *= self.scales[part, None]
        return result


def values(tensor: Array | Float8) -> Array:
    """What a stored tensor stands for: E4M3 codes times their scales in float32, anything else as it is."""
    return tensor.dequantize() if isinstance(tensor, Float8) else tensor


def as_float8(weight: Array | Float8, fmt: WeightFormat) -> Float8:
    """A matrix in E4M3: as it is where it has scales of the wanted kind, else quantised.

    A block's or row's scale is its largest magnitude / 448, so that nothing saturates but rounding errors of the
    division; values are rounded to nearest, half to even.

    Args:
        weight: [N, K] of any floating type, or a checkpoint's own codes and scales.
        fmt: `fp8`, with 128 for blocks of 128 x 128 or 0 for one scale a row.

    Raises:
        CheckpointError: a value is NaN or infinite.
        UnsupportedError: the format is not fp8.
    """
    if fmt.kind != "fp8" or fmt.group_size not in (0, BLOCK):
        raise UnsupportedError(f"cannot store {fmt.kind} with group size {fmt.group_size} as fp8: 128 or 0 is expected")
    blocks = fmt.group_size == BLOCK
    if isinstance(weight, Float8) and weight.in_blocks == blocks:
        return weight
    weight = values(weight)
    rows, columns = weight.shape
    codes = np.empty((rows, columns), np.uint8)
    scales = np.empty((-(-rows // BLOCK), -(-columns // BLOCK)) if blocks else rows, np.float32)
    for start in range(0, rows, BLOCK):
        part = slice(start, start + BLOCK)
        scaled = np.array(weight[part], np.float32)
        largest = np.abs(scaled).max(axis=0 if blocks else 1)
        if blocks:
            largest = np.maximum.reduceat(largest, range(0, columns, BLOCK))
        if not np.isfinite(largest).all():
            raise CheckpointError("holds values that are not finite (NaN or infinity)")
        found = np.where(largest < _SMALLEST, np.float32(1), largest / LARGEST)
        scales[start // BLOCK if blocks else part] = found
        scaled /= np.repeat(found, BLOCK)[:columns] if blocks else found[:, None]
        np.clip(scaled, -LARGEST, LARGEST, out=scaled)
        codes[part] = scaled.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    return Float8(codes, scales)
