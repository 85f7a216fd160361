"""Symmetric round-to-nearest in groups or rows, with the scale of least squared error (int8 and int4).

A value is code * scale; there is no zero point. The scale may be negative: the codes reach one further below
zero than above it, so turning the sign lets the largest element of the group, whichever way it points, have the
extra code. On Gaussian weights in groups of 32 that, and the search, leave 26 % less squared error at four bits
than absmax / 7 does. A reader that wants every scale above zero (TensorRT) gets the search without the turned
sign: 21 % less than absmax / 7 in groups of 32, 26 % in groups of 128.

Every step is elementwise, or a sum in a fixed order: the codes do not depend on the width of the processor's vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qwen3_compile.errors import CheckpointError, UnsupportedError

if TYPE_CHECKING:
    from qwen3_graphs.lowered import WeightFormat

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

ScaleType = Literal["fp32", "fp16", "bf16"]

CODE_RANGE: dict[str, tuple[int, int]] = {"int8": (-128, 127), "int4": (-8, 7)}

# The code that a group's largest element is mapped to, before rounding and clipping. Beyond the range, that
# element is clipped and the others get finer steps. Each kind has the plain absmax choice (7, 127) among them,
# so the search can only improve on it. Measured on Gaussian and Student-t(4) values, the int4 set is within 1 %
# of a grid of 130.
_TARGETS: dict[str, tuple[float, ...]] = {
    "int4": (7.0, -8.0, -7.3, -8.6, -9.2, -10.0, 7.7, 8.4),
    "int8": (127.0, -128.0, -127.5, -129.0, -126.0),
}

# The same for scales above zero: the sign is that of the largest element. The int4 set is within 1 % of a grid of 65,
# the int8 set within 4 % (12 % in groups of 32) of one of 120.
_POSITIVE_TARGETS: dict[str, tuple[float, ...]] = {
    "int4": (7.0, 7.3, 7.7, 8.0, 8.4, 8.8, 9.3, 10.0),
    "int8": (127.0, 126.0, 125.0, 128.0, 123.0),
}

_SCALE_TYPES: dict[ScaleType, np.dtype[Any]] = {
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}

# Elements quantised at a time: their float32 temporaries stay in the second-level cache.
_BLOCK = 1 << 16

# But at least so many groups: where a group is a whole row, loops over fewer would be too short to be fast.
_WIDTH = 128

# Below this a group counts as zero: its scale would be a subnormal number, which kernels flush.
_SMALLEST = np.float32(1e-35)

_NEARLY = np.float32(1 + 2.0**-8)  # bfloat16 rounds by half of that, float16 by less


@dataclass(frozen=True)
class Quantized:
    """A matrix in symmetric integer codes: element [n, k] is `codes[n, k] * scales[n, k // group_size]`.

    Attributes:
        codes: int8 [N, K_padded]; K_padded is K rounded up to whole groups, and the padding is zero.
        scales: float32 [N, K_padded / group_size], of either sign, never zero (1 for a group of zeros). Above zero
            where that was asked for.
        group_size: consecutive inputs that share a scale; K where a row has one.
    """

    codes: npt.NDArray[np.int8]
    scales: Float32
    group_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """N and K, padding included."""
        rows, columns = self.codes.shape
        return rows, columns

    def dequantize(self) -> Float32:
        """The float32 [N, K_padded] matrix that the codes stand for."""
        rows, groups = self.scales.shape
        values = self.codes.reshape(rows, groups, self.group_size) * self.scales[:, :, None]
        return values.reshape(rows, groups * self.group_size)


def quantize(
    weight: Array | Quantized, fmt: WeightFormat, *, positive: bool = False, scale_type: ScaleType = "fp32"
) -> Quantized:
    """Quantise a matrix to the nearest codes under each group's best scale.

    Args:
        weight: [N, K] of any floating type, converted to float32 a block at a time; or a checkpoint's own codes and
            scales, whose codes stay as they are where their groups are those of the format.
        fmt: `int8` or `int4` with its group size; int8 may have 0, for one scale a row.
        positive: whether every scale must be above zero.
        scale_type: the type that scales will be stored in. They are rounded to it before the codes are chosen, so
            that the conversion is exact.

    Returns:
        Codes and scales. In each group the squared error is not above that of round-to-nearest with the scale
        absmax / 127 (absmax / 7), rounding of the scale's type aside.

    Raises:
        CheckpointError: a value is NaN or infinite.
        UnsupportedError: the format is not an integer one, or a scale is beyond the range of its type.
    """
    if fmt.kind not in CODE_RANGE or fmt.group_size < (0 if fmt.kind == "int8" else 1):
        msg = f"cannot quantise to {fmt.kind} with group size {fmt.group_size}: int8 or int4 in groups is expected"
        raise UnsupportedError(msg)
    if isinstance(weight, Quantized):
        if _fits(weight, fmt, positive=positive):
            return Quantized(weight.codes, _rounded(weight.scales, fmt.kind, scale_type), weight.group_size)
        weight = weight.dequantize()
    rows, columns = weight.shape
    size = fmt.group_size or columns
    groups = -(-columns // size)
    codes = np.empty((rows, groups * size), np.int8)
    scales = np.empty((rows, groups), np.float32)
    step = max(_BLOCK // max(1, groups * size), -(-_WIDTH // max(1, groups)))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        found, found_scales = _search(_grouped(weight[part], groups, size), fmt.kind, scale_type, positive=positive)
        codes[part] = found.T.reshape(-1, groups * size)
        scales[part] = found_scales.reshape(-1, groups)
    return Quantized(codes, scales, size)


def _fits(weight: Quantized, fmt: WeightFormat, *, positive: bool) -> bool:
    """Whether codes can be those of a format: the same groups, no code beyond its range, scales of an allowed sign."""
    low, high = CODE_RANGE[fmt.kind]
    in_range = weight.codes.min(initial=0) >= low and weight.codes.max(initial=0) <= high
    same_groups = weight.group_size == (fmt.group_size or weight.codes.shape[1])
    return bool(same_groups and in_range and (not positive or (weight.scales > 0).all()))


def _grouped(weight: Array, groups: int, size: int) -> Float32:
    """A copy of rows [n, K], float32 [size, n * groups]: groups lie side by side, for wide vectors."""
    rows, columns = weight.shape
    if columns == groups * size:
        return np.array(weight.reshape(rows * groups, size).T, dtype=np.float32, order="C")
    padded = np.zeros((rows, groups * size), np.float32)
    padded[:, :columns] = weight
    return np.array(padded.reshape(rows * groups, size).T, order="C")


def _search(
    values: Float32, kind: str, scale_type: ScaleType, *, positive: bool
) -> tuple[npt.NDArray[np.int8], Float32]:
    """Codes int8 [size, G] and scales float32 [G] of groups laid out as columns, [size, G], which it overwrites.

    Each target gives codes q, and those their best scale <x, q> / <q, q>; the pair of least squared error stays.
    The error is summed from differences: at eight bits <x, x> - <x, q>^2 / <q, q> would cancel to noise.
    """
    low, high = (np.float32(bound) for bound in CODE_RANGE[kind])
    top, bottom = values.max(axis=0), values.min(axis=0)
    largest = np.where(top >= -bottom, top, bottom)
    if not np.isfinite(largest).all():
        raise CheckpointError("holds values that are not finite (NaN or infinity)")
    empty = np.abs(largest) < _SMALLEST
    largest[empty] = 1.0
    # Brought near one by a power of two: exact, and no square overflows or vanishes.
    peak, exponent = np.frexp(largest)
    values *= np.ldexp(np.float32(1), -exponent)
    codes, product = np.empty_like(values), np.empty_like(values)
    least = np.full(largest.shape, np.inf, np.float32)
    scale = np.ones(largest.shape, np.float32)
    if positive:
        peak = np.abs(peak)
    for target in (_POSITIVE_TARGETS if positive else _TARGETS)[kind]:
        _round(np.multiply(values, np.float32(target) / peak, out=codes), low, high)
        along = np.multiply(values, codes, out=product).sum(axis=0)
        square = np.multiply(codes, codes, out=product).sum(axis=0)
        np.maximum(square, 1.0, out=square)
        fit = along / square
        residual = np.subtract(values, np.multiply(codes, fit, out=product), out=product)
        error = np.square(residual, out=residual).sum(axis=0)
        better = error < least
        np.copyto(least, error, where=better)
        np.copyto(scale, fit, where=better)
    scale[empty] = 1.0
    exponent[empty] = 0
    stored = _rounded(np.ldexp(scale, exponent), kind, scale_type)
    _round(np.divide(values, np.ldexp(stored, -exponent), out=codes), low, high)
    return codes.astype(np.int8), stored


def _rounded(scales: Float32, kind: str, scale_type: ScaleType) -> Float32:
    """Scales as their type will hold them, none of them zero.

    Raises:
        UnsupportedError: a scale is beyond the range of the type.
    """
    if scale_type == "fp32":
        return scales
    with np.errstate(over="ignore"):  # reported below, with what to do
        rounded = scales.astype(_SCALE_TYPES[scale_type])
    if not np.isfinite(rounded).all():
        raise UnsupportedError(f"a weight is too large for {kind} with scales in {scale_type}: use bf16 or fp32")
    # Where the type is coarse (its subnormal numbers) a scale goes away from zero: towards it, the largest values
    # would be clipped.
    away = np.nextafter(rounded, np.copysign(np.inf, scales).astype(rounded.dtype))
    short = np.abs(rounded.astype(np.float32)) * _NEARLY < np.abs(scales)
    return np.where(short, away, rounded).astype(np.float32)


def _round(values: Float32, low: np.float32, high: np.float32) -> None:
    """Round half to even and clip, in place."""
    np.rint(values, out=values)
    np.clip(values, low, high, out=values)
