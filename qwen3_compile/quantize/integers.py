"""Integer codes in groups or rows: what a search finds for groups, put together to matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.quantize import asymmetric, symmetric
from qwen3_compile.quantize.scales import Codes, Float32, ScaleType, round_scales
from qwen3_graphs.formats import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qwen3_graphs.formats import WeightFormat

Array = npt.NDArray[Any]

SEARCHES: Mapping[str, Callable[..., Codes]] = {
    "int8": symmetric.search_in_place,
    "int4": symmetric.search_in_place,
    "uint4": asymmetric.search_in_place,
}
"""How each integer kind finds its codes: functions with the arguments of `symmetric.search_in_place`."""

# Elements quantized at a time: their float32 temporaries stay in the second-level cache.
_BLOCK_ELEMENTS = 1 << 16

# But at least so many groups: where a group is a whole row, loops over fewer would be too short to be fast.
_MIN_GROUPS = 128


@dataclass(frozen=True)
class Quantized:
    """A matrix in integer codes: element [n, k] of group g = k // group_size is `codes[n, k] * scales[n, g]`.

    With zero points it is `(codes[n, k] - zero_points[n, g]) * scales[n, g]`.


    Attributes:
        codes: int8 [N, K_padded], or uint8 in a format with zero points. K_padded is K rounded up to whole groups; the
            padding's value is zero.
        scales: float32 [N, K_padded / group_size], of either sign, never zero (1 for a group of zeros). Above zero
            where that was asked for.
        group_size: consecutive inputs that share a scale; K where a row has one.
        zero_points: uint8 [N, K_padded / group_size], or None.
    """

    codes: npt.NDArray[Any]
    scales: Float32
    group_size: int
    zero_points: npt.NDArray[np.uint8] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """N and K, padding included."""
        rows, columns = self.codes.shape
        return rows, columns

    def dequantize(self) -> Float32:
        """The float32 [N, K_padded] matrix that the codes stand for."""
        rows, groups = self.scales.shape
        steps = self.codes.reshape(rows, groups, self.group_size)
        if self.zero_points is not None:
            steps = steps.astype(np.int8) - self.zero_points[:, :, None].astype(np.int8)  # codes of at most four bits
        values: Float32 = steps * self.scales[:, :, None]
        return values.reshape(rows, groups * self.group_size)


def quantize_integers(
    weight: Array | Quantized, fmt: WeightFormat, *, positive: bool = False, scale_type: ScaleType = "fp32"
) -> Quantized:
    """Quantize a matrix to the nearest codes under each group's best scale.

    Args:
        weight: [N, K] of any floating type, converted to float32 a block at a time; or a checkpoint's own codes and
            scales, whose codes stay as they are where their groups are those of the format.
        fmt: an integer format: per-group, or per-channel where its kind allows that.
        positive: whether every scale must be above zero. In a format with zero points all of them are.
        scale_type: the type that scales will be stored in. They are rounded to it before the codes are chosen, so
            that the conversion is exact.

    Returns:
        Codes and scales, and zero points where the format has them. In each group the squared error is not above that
        of plain round-to-nearest (scale absmax / 127, absmax / 7, or range / 15), rounding of the scale's type aside.

    Raises:
        CheckpointError: a value is NaN or infinite.
        UnsupportedError: the format is not an integer one, or a scale is beyond the range of its type.
    """
    if fmt.is_integer and fmt.kind not in SEARCHES:
        raise UnsupportedError(
            f"cannot quantize to {fmt.kind}: add its search to SEARCHES of qwen3_compile/quantize/integers.py"
        )
    if fmt.kind not in SEARCHES or fmt.granularity not in KINDS[fmt.kind].granularities:
        known = ", ".join(f"{kind} {' or '.join(KINDS[kind].granularities)}" for kind in SEARCHES)
        raise UnsupportedError(f"cannot quantize to {fmt.description}: expected one of {known}")
    if isinstance(weight, Quantized):
        if _fits(weight, fmt, positive=positive):
            return Quantized(
                weight.codes, round_scales(weight.scales, fmt.kind, scale_type), weight.group_size, weight.zero_points
            )
        weight = weight.dequantize()
    rows, columns = weight.shape
    groups, size = fmt.groups(columns), fmt.group_size or columns
    codes = np.empty((rows, groups * size), np.uint8 if fmt.zero_point else np.int8)
    scales = np.empty((rows, groups), np.float32)
    zero_points = np.empty((rows, groups), np.uint8) if fmt.zero_point else None
    step = max(_BLOCK_ELEMENTS // max(1, groups * size), -(-_MIN_GROUPS // max(1, groups)))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        found = SEARCHES[fmt.kind](_grouped(weight[part], groups, size), fmt, scale_type, positive=positive)
        codes[part] = found.codes.T.reshape(-1, groups * size)
        scales[part] = found.scales.reshape(-1, groups)
        if zero_points is not None and found.zero_points is not None:
            zero_points[part] = found.zero_points.reshape(-1, groups)
    return Quantized(codes, scales, size, zero_points)


def _fits(weight: Quantized, fmt: WeightFormat, *, positive: bool) -> bool:
    """Whether codes can be those of a format: the same groups, no code beyond its range, scales of an allowed sign."""
    low, high = fmt.code_range
    in_range = weight.codes.min(initial=0) >= low and weight.codes.max(initial=0) <= high
    same_groups = weight.group_size == (fmt.group_size or weight.codes.shape[1])
    same_groups &= (weight.zero_points is not None) == fmt.zero_point
    return bool(same_groups and in_range and (not positive or (weight.scales > 0).all()))


def _grouped(weight: Array, groups: int, size: int) -> Float32:
    """A copy of rows [n, K], float32 [size, n * groups]: groups lie side by side, for wide vectors."""
    rows, columns = weight.shape
    if columns == groups * size:
        return np.array(weight.reshape(rows * groups, size).T, dtype=np.float32, order="C")
    padded = np.zeros((rows, groups * size), np.float32)
    padded[:, :columns] = weight
    return np.array(padded.reshape(rows * groups, size).T, order="C")
