"""Scales of integer codes, and what every search for them shares."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qwen3_compile.errors import CheckpointError, UnsupportedError

Float32 = npt.NDArray[np.float32]
ScaleType = Literal["fp32", "fp16", "bf16"]

SCALE_TYPES: dict[ScaleType, np.dtype[Any]] = {
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}

# Below this a group counts as zero: its scale would be a subnormal number, which kernels flush.
SMALLEST = np.float32(1e-35)

_ROUNDING_MARGIN = np.float32(1 + 2.0**-8)  # bfloat16 rounds by half of that, float16 by less


class Codes(NamedTuple):
    """What a search finds for groups that lie side by side, [size, G].

    Attributes:
        codes: int8 or uint8 [size, G].
        scales: float32 [G].
        zero_points: uint8 [G], in a format that has them.
    """

    codes: npt.NDArray[Any]
    scales: Float32
    zero_points: npt.NDArray[np.uint8] | None = None


def check_finite(bounds: Float32) -> None:
    """Refuse values of which these are the largest or the smallest.

    Raises:
        CheckpointError: one is NaN or infinite.
    """
    if not np.isfinite(bounds).all():
        raise CheckpointError("holds values that are not finite (NaN or infinity)")


def round_scales(scales: Float32, kind: str, scale_type: ScaleType) -> Float32:
    """Scales as their type will hold them, none of them zero.

    Raises:
        UnsupportedError: a scale is beyond the range of the type.
    """
    if scale_type == "fp32":
        return scales
    with np.errstate(over="ignore"):  # reported below, with what to do
        rounded = scales.astype(SCALE_TYPES[scale_type])
    if not np.isfinite(rounded).all():
        raise UnsupportedError(f"a weight is too large for {kind} with scales in {scale_type}: use bf16 or fp32")
    # Where the type is coarse (its subnormal numbers) a scale goes away from zero: toward it, the largest values
    # would be clipped.
    away = np.nextafter(rounded, np.copysign(np.inf, scales).astype(rounded.dtype))
    short = np.abs(rounded.astype(np.float32)) * _ROUNDING_MARGIN < np.abs(scales)
    return np.where(short, away, rounded).astype(np.float32)


def fit_scales(values: Float32, codes: Float32, product: Float32) -> tuple[Float32, Float32]:
    """The scale <x, q> / <q, q> of least squared error for given codes, and that error, of each group.

    The error is summed from differences: at eight bits <x, x> - <x, q>^2 / <q, q> would cancel to noise.

    Args:
        values: float32 [size, G], groups side by side.
        codes: whole numbers of the same shape.
        product: room for the products, of the same shape; it is overwritten.

    Returns:
        Scales and squared errors float32 [G].
    """
    along = np.multiply(values, codes, out=product).sum(axis=0)
    square = np.multiply(codes, codes, out=product).sum(axis=0)
    np.maximum(square, 1.0, out=square)
    scales: Float32 = along / square
    residual = np.subtract(values, np.multiply(codes, scales, out=product), out=product)
    return scales, np.square(residual, out=residual).sum(axis=0)


def round_codes(values: Float32, low: np.floating[Any] | Float32, high: np.floating[Any] | Float32) -> None:
    """Round half to even and clip, in place."""
    np.rint(values, out=values)
    np.clip(values, low, high, out=values)
