"""Calls the linear kernels of the built library through ctypes, and says what they should answer in float64."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np

from qwen3_plugins import layouts
from qwen3_plugins.ort import library_path, why_missing

INSTRUCTIONS = ("scalar", "avx2", "avx512", "neon", "i8mm")
PANEL = 16


@cache
def library() -> ctypes.CDLL:
    chosen = os.environ.get("QWEN3_ORT_LIBRARY")
    path = Path(chosen) if chosen else library_path()
    if path is None:
        raise FileNotFoundError(why_missing())
    native = ctypes.CDLL(str(path))
    native.qwen3_linear.restype = ctypes.c_char_p
    return native


def available_instructions() -> list[str]:
    best = library().qwen3_instructions()
    arm = INSTRUCTIONS.index("neon")
    return ["scalar", *INSTRUCTIONS[arm : best + 1]] if best >= arm else list(INSTRUCTIONS[: best + 1])


def pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    if array is None:
        return ctypes.c_void_p()
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


@dataclass
class Packed:
    """A matrix as packed, and the float64 values that it stands for."""

    fmt: str
    group_size: int
    codes: np.ndarray
    scales: np.ndarray | None
    values: np.ndarray = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape


def random_matrix(rng: np.random.Generator, fmt: str, group_size: int, n: int, k: int) -> Packed:
    """A random matrix in a format; values come from codes and scales, not from the packed bytes."""
    if fmt == "uint4":
        return random_asymmetric(rng, group_size, n, k)
    if fmt in ("int4", "int8"):
        low, high = (-8, 8) if fmt == "int4" else (-128, 128)
        padded = -(-k // group_size) * group_size if group_size else k
        codes = rng.integers(low, high, (n, padded), dtype=np.int8)
        codes[:, k:] = 0
        groups = padded // group_size if group_size else 1
        scales = (rng.uniform(0.5, 2, (n, groups)) * rng.choice([-1, 1], (n, groups)) / high).astype(np.float16)
        values = codes.astype(np.float64) * np.repeat(scales.astype(np.float64), padded // groups, axis=1)
        pack = layouts.pack_int4 if fmt == "int4" else layouts.pack_int8
        blob, packed_scales = pack(codes, scales.astype(np.float32) if group_size else scales[:, 0].astype(np.float32))
        return Packed(fmt, group_size, blob, packed_scales, values[:, :k])
    weight = rng.normal(size=(n, k)).astype(np.float32)
    if fmt == "fp8":
        codes = weight.astype(ml_dtypes.float8_e4m3fn)
        codes[0, : min(k, 7)] = (np.arange(min(k, 7)) * 2.0**-9).astype(ml_dtypes.float8_e4m3fn)  # the subnormals
        blocks = (-(-n // 128), -(-k // 128))
        scales = rng.uniform(0.01, 0.1, blocks if group_size else n).astype(np.float32)
        full = np.repeat(np.repeat(scales, 128, 0), 128, 1)[:n, :k] if group_size else scales[:, None]
        blob, packed_scales = layouts.pack_fp8(codes.view(np.uint8), scales)
        return Packed(fmt, group_size, blob, packed_scales, codes.astype(np.float64) * full)
    kinds = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
    rounded = weight.astype(kinds[fmt])
    return Packed(fmt, 0, getattr(layouts, f"pack_{fmt}")(weight), None, rounded.astype(np.float64))


def random_asymmetric(rng: np.random.Generator, group_size: int, n: int, k: int) -> Packed:
    """Codes with a zero point for each group, both ends of the range among them, and groups all of one code."""
    groups = -(-k // group_size)
    codes = rng.integers(0, 16, (n, groups * group_size), dtype=np.uint8)
    zeros = rng.choice(np.array([0, 0, 15, 15, *range(16)], np.uint8), (n, groups))
    equal = rng.random((n, groups)) < 0.1
    by_group = codes.reshape(n, groups, group_size)
    by_group[equal] = by_group[equal][:, :1]
    scales = (rng.uniform(0.5, 2, (n, groups)) * rng.choice([-1, 1], (n, groups)) / 8).astype(np.float16)
    values = (by_group.astype(np.float64) - zeros[:, :, None]) * scales.astype(np.float64)[:, :, None]
    blob, packed = layouts.pack_uint4(codes, scales.astype(np.float32), zeros)
    return Packed("uint4", group_size, blob, packed, values.reshape(n, -1)[:, :k])


def linear(
    matrix: Packed,
    x: np.ndarray,
    *,
    instructions: str,
    threads: int = 1,
    norm: np.ndarray | None = None,
    epsilon: float = 1e-6,
    residual: np.ndarray | None = None,
    swiglu: bool = False,
    quantized_activations: bool = True,
    n: int | None = None,
) -> np.ndarray:
    rows = matrix.shape[0] if n is None else n
    width = rows // 2 if swiglu else rows
    # Guards on both sides show a write out of bounds.
    memory = np.full((len(x) + 2, width), np.float32(-12345.0))
    error = library().qwen3_linear(
        INSTRUCTIONS.index(instructions),
        threads,
        matrix.fmt.encode(),
        ctypes.c_int64(rows),
        ctypes.c_int64(matrix.shape[1]),
        ctypes.c_int64(matrix.group_size),
        pointer(matrix.codes),
        pointer(matrix.scales),
        pointer(x),
        ctypes.c_int64(len(x)),
        pointer(norm),
        ctypes.c_float(epsilon),
        pointer(residual),
        int(swiglu),
        int(quantized_activations),
        ctypes.c_void_p(memory[1:].ctypes.data),
    )
    if error is not None:
        raise ValueError(error.decode())
    assert (memory[[0, -1]] == np.float32(-12345.0)).all(), "wrote outside of its output"
    return memory[1:-1]


def quantized(x: np.ndarray, group: int) -> np.ndarray:
    """Float64 values that int8 codes with one scale a group stand for: the definition, written independently."""
    rows, k = x.shape
    padded = np.zeros((rows, -(-k // group) * group), np.float64)
    padded[:, :k] = x
    groups = padded.reshape(rows, -1, group)
    scales = np.abs(groups).max(axis=2, keepdims=True) / 127
    codes = np.rint(groups / np.where(scales > 0, scales, 1))
    return (codes * scales).reshape(rows, -1)[:, :k]


def normalized(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + epsilon) * weight


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def is_integer(fmt: str) -> bool:
    """Whether a format's kernels take int8 activations, unless told otherwise."""
    return fmt in ("int4", "uint4", "int8")


def activation_group(matrix: Packed) -> int:
    return matrix.group_size or 64
