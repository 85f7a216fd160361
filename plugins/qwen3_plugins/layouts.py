"""Layouts of weights that the operators of the ONNX Runtime plugin read, and a packer for each.

A matrix [N, K] (rows are outputs) is cut into *panels* of 16 rows, the last one filled up with zeros; panels follow
each other. Inputs are filled up with zeros to whole groups: `padded_k`. Within a panel, c = 0..15 is the row:

- int4: line j of 64 bytes holds inputs 8j..8j+7. Byte 4c + i has input 8j + i in its low half and 8j + 4 + i in its
  high half, each as code + 8. Scales are float16 [panels, groups, 16].
- uint4: the same with the code itself, 0..15. Scales are uint8 [panels, groups, 40]: 16 float16 scales, then 16 zero
  points in 8 bytes; byte i has that of row 2i in its low half and that of row 2i + 1 in its high half. A weight is
  (code - zero point) * scale. Scales and zero points are read together, so that they lie together.
- int8: line j of 64 bytes holds inputs 4j..4j+3. Byte 4c + i is input 4j + i as code + 128. Scales are float16
  [panels, groups, 16], or float32 [panels, 16] with one scale per row.
- fp8: byte 16k + c is the E4M3 value of input k. Scales are float32 [panels, groups] for blocks of 128 x 128, or
  float32 [panels, 16] with one scale per row.
- fp16, fp32: element 16k + c is input k. bf16: element 32j + 2c + i is input 2j + i. No scales.

Groups are 32, 64 or 128 inputs. `padded_k` is K rounded up to whole groups; to 64 for int8 with one scale per row, and
to 8 for fp8 with one scale per row and for the formats without scales.

For SwiGLU the panels alternate, 16 rows of gate and 16 of up (`interleave_gate_up`). Experts are stacked: each expert's
blob follows the one before. A blob is final on disk: on a 4,096-byte boundary it is mapped and read as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "CODE_BITS",
    "PANEL",
    "interleave_gate_up",
    "pack_bf16",
    "pack_fp8",
    "pack_fp16",
    "pack_fp32",
    "pack_int4",
    "pack_int8",
    "pack_uint4",
    "padded_inputs",
    "scale_array",
]

Array = npt.NDArray[Any]
Blob = npt.NDArray[np.uint8]

PANEL = 16
"""Rows of a matrix that are stored together."""

CODE_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4, "uint4": 4}
"""Bits of an element in a blob, by format."""

_CHANNEL_GROUP = 64
_FLOAT_STEP = 8


def padded_inputs(fmt: str, k: int, group_size: int) -> int:
    """K as stored: rounded up to whole groups, or to what the kernels take at a time."""
    step = group_size or (_CHANNEL_GROUP if fmt == "int8" else _FLOAT_STEP)
    return -(-k // step) * step


def scale_array(fmt: str, group_size: int, panels: int, padded_k: int) -> tuple[type[Any], tuple[int, ...]] | None:
    """Type and shape of the scales of one matrix, with the zero points where the format has them; None without scales.

    Args:
        fmt: a key of `CODE_BITS`.
        group_size: inputs that share a scale; 0 for one scale per row.
        panels: of the matrix; gate and up together have twice those of one.
        padded_k: `padded_inputs` of the matrix.
    """
    if fmt not in ("fp8", "int8", "int4", "uint4"):
        return None
    if not group_size:
        return np.float32, (panels, PANEL)
    groups = padded_k // group_size
    if fmt == "fp8":
        return np.float32, (panels, groups)
    return (
        (np.uint8, (panels, groups, 2 * PANEL + PANEL // 2))
        if fmt == "uint4"
        else (np.float16, (panels, groups, PANEL))
    )


def pack_int4(codes: npt.NDArray[np.int8], scales: Array) -> tuple[Blob, npt.NDArray[np.float16]]:
    """Pack symmetric four-bit codes.

    Args:
        codes: int8 [N, K], -8..7; K is whole groups (`qwen3_compile.quantize` pads it so).
        scales: [N, groups], of either sign; the group size K / groups must be 32, 64 or 128.

    Returns:
        The blob, uint8 [panels * 16 * K / 2], and scales, float16 [panels, groups, 16].

    Raises:
        ValueError: codes out of range, another group size, or a scale that float16 cannot hold.
    """
    _check_codes(codes, scales, low=-8, high=7)
    return _nibbles((_panels(codes, fill=0) + 8).astype(np.uint8)), _group_scales(scales)


def pack_uint4(
    codes: npt.NDArray[np.uint8], scales: Array, zero_points: npt.NDArray[np.uint8]
) -> tuple[Blob, npt.NDArray[np.uint8]]:
    """Pack asymmetric four-bit codes: a weight is (code - zero point) * scale.

    Args:
        codes: uint8 [N, K], 0..15; K is whole groups. What fills up the last group may be any code.
        scales: [N, groups], of either sign; the group size K / groups must be 32, 64 or 128.
        zero_points: uint8 [N, groups], 0..15.

    Returns:
        The blob, uint8 [panels * 16 * K / 2], and scales with zero points, uint8 [panels, groups, 40].

    Raises:
        ValueError: codes or zero points out of range, zero points of another shape than the scales, another group size,
            or a scale that float16 cannot hold.
    """
    _check_codes(codes, scales, low=0, high=15)
    if zero_points.shape != scales.shape:
        raise ValueError(f"zero points are {zero_points.shape}, scales {scales.shape}: expected one for each scale")
    if zero_points.size and (zero_points.min() < 0 or zero_points.max() > 15):
        raise ValueError(f"zero points reach from {zero_points.min()} to {zero_points.max()}, expected 0..15")
    zeros = _panels(zero_points.astype(np.uint8), fill=0).transpose(0, 2, 1)
    pairs = zeros[:, :, 0::2] | zeros[:, :, 1::2] << 4
    return _nibbles(_panels(codes.astype(np.uint8), fill=0)), np.concatenate(
        [_group_scales(scales).view(np.uint8), pairs], axis=2
    )


def pack_int8(codes: npt.NDArray[np.int8], scales: Array) -> tuple[Blob, Array]:
    """Pack symmetric eight-bit codes.

    Args:
        codes: int8 [N, K].
        scales: [N, groups] with groups of 32, 64 or 128 inputs, or [N] for one scale per row (any K).

    Returns:
        The blob, uint8 [panels * 16 * padded K], and scales: float16 [panels, groups, 16] or float32 [panels, 16].

    Raises:
        ValueError: another group size, or a scale that float16 cannot hold or that is not finite.
    """
    by_row = scales.ndim == 1
    if not by_row:
        _check_codes(codes, scales, low=-128, high=127)
    panels = _panels(codes, fill=0, step=_CHANNEL_GROUP if by_row else 1)
    count, _, k = panels.shape
    lines = (panels.view(np.uint8) ^ np.uint8(128)).reshape(count, PANEL, k // 4, 4)
    return _blob(lines.transpose(0, 2, 1, 3)), _row_scales(scales) if by_row else _group_scales(scales)


def pack_fp8(codes: npt.NDArray[np.uint8], scales: Array) -> tuple[Blob, npt.NDArray[np.float32]]:
    """Pack E4M3 values (the `e4m3fn` kind: no infinities).

    Args:
        codes: uint8 [N, K], the bits of the values.
        scales: [ceil(N / 128), ceil(K / 128)] for blocks of 128 x 128, as released checkpoints have them
            (`weight_scale_inv`); [ceil(N / 16), ceil(K / 128)], the same of each panel, where matrices were joined; or
            [N] for one scale per row. The number of axes tells the last from the others.

    Returns:
        The blob, uint8 [panels * 16 * padded K], and scales: float32 [panels, groups] or [panels, 16].

    Raises:
        ValueError: a NaN among codes or scales, or scales of another shape.
    """
    if (codes & 0x7F == 0x7F).any():
        raise ValueError("E4M3 codes hold NaN")
    if scales.ndim == 1:
        panels = _panels(codes, fill=0, step=_FLOAT_STEP)
        return _blob(panels.transpose(0, 2, 1)), _row_scales(scales)
    rows, columns = codes.shape
    expected = (-(-rows // 128), -(-columns // 128))
    panels = _panels(codes, fill=0, step=128)
    if scales.shape not in (expected, (len(panels), expected[1])):
        raise ValueError(f"block scales are {scales.shape}, expected {expected} for a matrix of {codes.shape}")
    by_panel = np.asarray(scales, np.float32)
    if len(by_panel) != len(panels):
        by_panel = np.repeat(by_panel, 128 // PANEL, axis=0)[: len(panels)]
    return _blob(panels.transpose(0, 2, 1)), _finite(np.ascontiguousarray(by_panel))


def pack_fp32(weight: Array) -> Blob:
    """Pack a matrix [N, K] as float32: uint8 [panels * 16 * padded K * 4]."""
    return _pack_plain(np.asarray(weight, np.float32))


def pack_fp16(weight: Array) -> Blob:
    """Pack a matrix [N, K] as float16: uint8 [panels * 16 * padded K * 2]."""
    return _pack_plain(np.asarray(weight, np.float16))


def pack_bf16(weight: Array) -> Blob:
    """Pack a matrix [N, K] as bfloat16: uint8 [panels * 16 * padded K * 2].

    Args:
        weight: float32, rounded here to nearest even, or uint16, taken as the bits of bfloat16 values.
    """
    bits = weight if weight.dtype == np.uint16 else _bfloat16_bits(np.asarray(weight, np.float32))
    panels = _panels(bits, fill=0, step=_FLOAT_STEP)
    count, _, k = panels.shape
    return _blob(panels.reshape(count, PANEL, k // 2, 2).transpose(0, 2, 1, 3))


def interleave_gate_up(gate: Array, up: Array) -> Array:
    """Rows of a gate and an up matrix (or of their scales) in the order that SwiGLU's kernels take them.

    Args:
        gate: [I, ...].
        up: the same shape and type.

    Returns:
        [2 * I16, ...] with I16 = I rounded up to whole panels: 16 rows of gate, 16 rows of up, and so on. Rows beyond I
        are zero. The operator's attribute `n` is 2 * I.
    """
    if gate.shape != up.shape or gate.dtype != up.dtype:
        raise ValueError(f"gate is {gate.dtype} {gate.shape}, up is {up.dtype} {up.shape}: expected the same")
    rows = -(-len(gate) // PANEL)
    both = np.zeros((rows, 2, PANEL, *gate.shape[1:]), gate.dtype)
    for place, part in enumerate((gate, up)):
        padded = np.zeros((rows * PANEL, *part.shape[1:]), part.dtype)
        padded[: len(part)] = part
        both[:, place] = padded.reshape(rows, PANEL, *part.shape[1:])
    return both.reshape(rows * 2 * PANEL, *gate.shape[1:])


def _panels(matrix: Array, *, fill: int, step: int = 1) -> Array:
    """[panels, 16, K rounded up to `step`], filled up."""
    rows, columns = matrix.shape
    count, width = -(-rows // PANEL), -(-columns // step) * step
    if (rows, columns) == (count * PANEL, width):
        return matrix.reshape(count, PANEL, width)
    padded = np.full((count * PANEL, width), fill, matrix.dtype)
    padded[:rows, :columns] = matrix
    return padded.reshape(count, PANEL, width)


def _pack_plain(matrix: Array) -> Blob:
    return _blob(_panels(matrix, fill=0, step=_FLOAT_STEP).transpose(0, 2, 1))


def _nibbles(panels: npt.NDArray[np.uint8]) -> Blob:
    """The lines of four-bit codes [panels, 16, K]."""
    count, _, k = panels.shape
    lines = panels.reshape(count, PANEL, k // 8, 2, 4)
    return _blob((lines[:, :, :, 0] | lines[:, :, :, 1] << 4).transpose(0, 2, 1, 3))


def _blob(parts: Array) -> Blob:
    return np.ascontiguousarray(parts).reshape(-1).view(np.uint8)


def _check_codes(codes: Array, scales: Array, *, low: int, high: int) -> None:
    rows, columns = codes.shape
    size, rest = divmod(columns, scales.shape[1]) if scales.ndim == 2 and scales.shape[1] else (0, 1)
    if scales.shape[0] != rows or rest or size not in (32, 64, 128):
        raise ValueError(f"codes {codes.shape} and scales {scales.shape} do not make groups of 32, 64 or 128")
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ValueError(f"codes reach from {codes.min()} to {codes.max()}, expected {low}..{high}")


def _group_scales(scales: Array) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = np.asarray(scales).astype(np.float16)
    panels = _panels(half, fill=0)
    return _finite(np.ascontiguousarray(panels.transpose(0, 2, 1)))


def _row_scales(scales: Array) -> npt.NDArray[np.float32]:
    return _finite(_panels(np.asarray(scales, np.float32).reshape(-1, 1), fill=0)[:, :, 0].copy())


def _finite(scales: Array) -> Array:
    if not np.isfinite(scales).all():
        raise ValueError(f"scales hold NaN, infinity or a value that {scales.dtype} cannot hold")
    return scales


def _bfloat16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    # Rounding must not carry a NaN's bits into another number.
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)
