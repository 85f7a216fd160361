"""Layouts of target `ort` on CUDA: integer codes whose scales are half-precision, and E4M3 by rows."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from qwen3_compile.errors import UnsupportedError
from qwen3_compile.pack.layouts import pack
from qwen3_compile.quantize import Float8, quantize
from qwen3_graphs.formats import WeightFormat

HALF = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def matrix(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def signed(codes: np.ndarray, kind: str) -> np.ndarray:
    if kind == "int8":
        return codes.astype(np.int64) - 128
    return np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), -1).astype(np.int64) - 8


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("scale_type", ["fp16", "bf16"])
@pytest.mark.parametrize("layout", ["nbit_rows", "nbit_blocks"])
def test_codes_are_chosen_for_the_scales_as_they_are_stored(kind: str, scale_type: str, layout: str) -> None:
    source, fmt = matrix(5, 100), WeightFormat(kind, 32)
    codes, scales = pack(f"{layout}_{scale_type}", (source,), fmt)
    assert scales.dtype == HALF[scale_type]
    assert scales.shape == (5, 4)
    wide = np.repeat(scales.astype(np.float64), 32, axis=1)
    found = signed(codes.reshape(5, -1), kind) * wide
    # Round-to-nearest under the stored scale leaves at most half a step, but for the largest of a group.
    low, high = {"int8": (-128, 127), "int4": (-8, 7)}[kind]
    nearest = np.clip(np.rint(np.pad(source, ((0, 0), (0, 28))) / wide), low, high) * wide
    np.testing.assert_allclose(found, nearest, atol=1e-6)
    full = quantize(source, fmt).dequantize()[:, :100]
    error, best = (np.square(each - source).mean() for each in (found[:, :100], full))
    assert error < best * 1.1


@pytest.mark.parametrize("scale_type", ["fp16", "bf16"])
def test_gate_and_up_take_turns_with_half_scales_too(scale_type: str) -> None:
    fmt, sources = WeightFormat("int4", 64), (matrix(3, 128, 1), matrix(3, 128, 2))
    codes, scales = pack(f"interleaved_nbit_rows_{scale_type}", sources, fmt)
    for place, source in enumerate(sources):
        alone = pack(f"nbit_rows_{scale_type}", (source,), fmt)
        np.testing.assert_array_equal(codes[place::2], alone[0])
        np.testing.assert_array_equal(scales[place::2], alone[1])


def test_a_scale_beyond_half_precision_is_refused() -> None:
    with pytest.raises(UnsupportedError):
        pack("nbit_rows_fp16", (np.full((1, 32), 1e8, np.float32),), WeightFormat("int8", 32))
    assert np.isfinite(pack("nbit_rows_bf16", (np.full((1, 32), 1e8, np.float32),), WeightFormat("int8", 32))[1]).all()


@pytest.mark.parametrize("shape", [(128, 128), (130, 300), (7, 64)])
def test_a_checkpoints_blocks_reach_every_row_bit_for_bit(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 127, shape).astype(np.uint8)
    blocks = rng.uniform(0.1, 1, (-(-shape[0] // 128), -(-shape[1] // 128))).astype(np.float32)
    values, scales = pack("float8_rows", (Float8(codes, blocks),), WeightFormat("fp8", 128))
    assert values.dtype == ml_dtypes.float8_e4m3fn
    np.testing.assert_array_equal(values.view(np.uint8), codes)
    for row in range(shape[0]):
        np.testing.assert_array_equal(scales[row], blocks[row // 128])


def test_one_scale_a_row_is_a_column() -> None:
    source = matrix(6, 50)
    values, scales = pack("float8_rows", (source,), WeightFormat("fp8"))
    assert scales.shape == (6, 1)
    np.testing.assert_allclose(scales[:, 0], np.abs(source).max(axis=1) / 448, rtol=1e-6)
    np.testing.assert_allclose(values.astype(np.float64) * scales, source, atol=np.abs(source).max() / 16)


def test_a_layout_of_fp8_alone_says_so() -> None:
    with pytest.raises(UnsupportedError, match="layout float8_rows holds fp8, found int4"):
        pack("float8_rows", (matrix(2, 32),), WeightFormat("int4", 32))
