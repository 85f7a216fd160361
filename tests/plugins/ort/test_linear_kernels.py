"""Linear kernels of every format and instruction set against float64.

Covers: scalar, AVX2 and AVX-512, on a processor that has them; asymmetric four bits with zero points 0 to 15,
    groups of one code, any shape
Reference: float64 NumPy
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_native import (
    Packed,
    activation_group,
    available_instructions,
    is_integer,
    linear,
    normalized,
    quantized,
    random_matrix,
    silu,
)

from qwen3_plugins import layouts

FORMATS = [
    ("int4", 32), ("int4", 64), ("int4", 128), ("uint4", 32), ("uint4", 64), ("uint4", 128),
    ("int8", 32), ("int8", 64), ("int8", 128), ("int8", 0),
    ("fp8", 128), ("fp8", 0), ("fp16", 0), ("bf16", 0), ("fp32", 0),
]  # fmt: skip
INTEGER = [f for f in FORMATS if is_integer(f[0])]

formats = pytest.mark.parametrize(("fmt", "group_size"), FORMATS, ids=str)
instructions = pytest.mark.parametrize("instructions", available_instructions())


def tolerance(x: np.ndarray, matrix: Packed) -> np.ndarray:
    """Rounding of float32 sums: a few units of the last place of the sum of magnitudes."""
    return 3e-6 * (np.abs(x) @ np.abs(matrix.values).T) + 1e-30


def assert_integer_result(result: np.ndarray, x: np.ndarray, matrix: Packed) -> None:
    """Equal to int8 activations, but for codes that lie within rounding of a tie: those may go either way."""
    group = activation_group(matrix)
    exact = quantized(x, group) @ matrix.values.T
    rows, k = x.shape
    padded = np.zeros((rows, -(-k // group) * group))
    padded[:, :k] = x
    groups = padded.reshape(rows, -1, group)
    scales = np.abs(groups).max(axis=2, keepdims=True) / 127
    codes = groups / np.where(scales > 0, scales, 1)
    tie = np.abs(np.abs(codes - np.trunc(codes)) - 0.5) < 1e-4
    slack = (tie * scales).reshape(rows, -1)[:, :k] @ np.abs(matrix.values).T
    assert (np.abs(result - exact) <= tolerance(x, matrix) + slack).all()


@formats
@instructions
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 25, 70])
def test_any_number_of_rows(fmt: str, group_size: int, instructions: str, rows: int) -> None:
    rng = np.random.default_rng(rows)
    matrix = random_matrix(rng, fmt, group_size, 40, 320)
    x = rng.normal(size=(rows, 320)).astype(np.float32)
    result = linear(matrix, x, instructions=instructions, threads=1 + rows % 3)
    if is_integer(fmt):
        assert_integer_result(result, x.astype(np.float64), matrix)
    else:
        assert (np.abs(result - x.astype(np.float64) @ matrix.values.T) <= tolerance(x, matrix)).all()


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(FORMATS),
    level=st.sampled_from(available_instructions()),
    n=st.integers(1, 70),
    k=st.integers(1, 300),
    rows=st.integers(1, 30),
    threads=st.integers(1, 3),
    with_norm=st.booleans(),
    with_residual=st.booleans(),
    quantized_activations=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_shape(kind, level, n, k, rows, threads, with_norm, with_residual, quantized_activations, seed) -> None:
    rng = np.random.default_rng(seed)
    matrix = random_matrix(rng, *kind, n, k)
    x = (rng.normal(size=(rows, k)) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
    norm = rng.normal(size=k).astype(np.float32) if with_norm else None
    residual = rng.normal(size=(rows, n)).astype(np.float32) if with_residual else None
    result = linear(
        matrix,
        x,
        instructions=level,
        threads=threads,
        norm=norm,
        residual=residual,
        quantized_activations=quantized_activations,
        epsilon=1e-5,
    ).astype(np.float64)
    inputs = x.astype(np.float64) if norm is None else normalized(x, norm, 1e-5)
    exact = inputs @ matrix.values.T
    added = 0 if residual is None else residual
    allowed = tolerance(inputs, matrix) * 2 + 2e-7 * np.abs(added)
    if is_integer(kind[0]) and quantized_activations:
        # Half a step of the activations' scale each, at worst.
        group = activation_group(matrix)
        padded = np.zeros((rows, -(-k // group) * group))
        padded[:, :k] = inputs
        step = np.repeat(np.abs(padded.reshape(rows, -1, group)).max(axis=2) / 127, group, axis=1)[:, :k]
        allowed = allowed + 0.501 * step @ np.abs(matrix.values).T
    assert (np.abs(result - added - exact) <= allowed).all()


@pytest.mark.parametrize(("fmt", "group_size"), INTEGER)
@instructions
def test_weight_only_leaves_activations_as_they_are(fmt: str, group_size: int, instructions: str) -> None:
    rng = np.random.default_rng(7)
    matrix = random_matrix(rng, fmt, group_size, 48, 256)
    x = rng.normal(size=(5, 256)).astype(np.float32)
    result = linear(matrix, x, instructions=instructions, quantized_activations=False)
    assert (np.abs(result - x.astype(np.float64) @ matrix.values.T) <= tolerance(x, matrix)).all()


@pytest.mark.parametrize(("fmt", "group_size"), INTEGER)
@instructions
@pytest.mark.parametrize("code", [-8, 7])
def test_extreme_codes_do_not_overflow(fmt: str, group_size: int, instructions: str, code: int) -> None:
    n, k = 16, 512
    scales = np.ones((n, k // group_size) if group_size else n, np.float32)
    if fmt == "uint4":  # from a zero point of 15 down to code 0, and from 0 up to 15
        extreme = -15 if code < 0 else 15
        codes = np.full((n, k), max(extreme, 0), np.uint8)
        blob, packed = layouts.pack_uint4(codes, scales, np.full(scales.shape, max(-extreme, 0), np.uint8))
    else:
        extreme = code if fmt == "int4" else (-128 if code < 0 else 127)
        codes = np.full((n, k), extreme, np.int8)
        blob, packed = (layouts.pack_int4 if fmt == "int4" else layouts.pack_int8)(codes, scales)
    matrix = Packed(fmt, group_size, blob, packed, np.full((n, k), float(extreme)))
    for sign in (1, -1):
        x = np.full((3, k), sign * 127, np.float32)
        assert (linear(matrix, x, instructions=instructions) == float(extreme) * 127 * sign * k).all()


@formats
@instructions
@pytest.mark.parametrize(("intermediate", "rows"), [(16, 1), (40, 1), (40, 9), (7, 13), (96, 30)])
def test_swiglu_over_gate_and_up(fmt: str, group_size: int, instructions: str, intermediate: int, rows: int) -> None:
    rng = np.random.default_rng(3)
    k = 128
    gate = random_matrix(rng, fmt, group_size, intermediate, k)
    up = random_matrix(rng, fmt, group_size, intermediate, k)
    matrix = together(gate, up)
    x = rng.normal(size=(rows, k)).astype(np.float32)
    residual = rng.normal(size=(rows, intermediate)).astype(np.float32)
    result = linear(
        matrix,
        x,
        instructions=instructions,
        threads=2,
        swiglu=True,
        residual=residual,
        n=2 * intermediate,
        quantized_activations=False,
    )
    a, b = x.astype(np.float64) @ gate.values.T, x.astype(np.float64) @ up.values.T
    error = np.abs(result - residual - silu(a) * b)
    assert (error <= 1e-5 * (np.abs(x) @ np.abs(gate.values).T) * (np.abs(x) @ np.abs(up.values).T) + 1e-5).all()


def together(gate: Packed, up: Packed) -> Packed:
    """Alternates panels of two packed matrices: what packing interleaved rows must give."""

    def alternate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        panels = -(-gate.shape[0] // 16)
        return np.stack([a.reshape(panels, -1), b.reshape(panels, -1)], axis=1).reshape(-1)

    scales = None if gate.scales is None else alternate(gate.scales, up.scales)
    return Packed(gate.fmt, gate.group_size, alternate(gate.codes, up.codes), scales, gate.values)


@instructions
def test_silu_far_from_zero(instructions: str) -> None:
    rng = np.random.default_rng(0)
    gate, up = random_matrix(rng, "fp32", 0, 16, 8), random_matrix(rng, "fp32", 0, 16, 8)
    for size in (1e-6, 1.0, 30.0, 1e4):
        x = rng.normal(size=(4, 8)).astype(np.float32) * np.float32(size)
        result = linear(together(gate, up), x, instructions=instructions, swiglu=True, n=32)
        a, b = x.astype(np.float64) @ gate.values.T, x.astype(np.float64) @ up.values.T
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(result, silu(a) * b, rtol=2e-3, atol=1e-5 * size * size)


@pytest.mark.parametrize(("fmt", "group_size"), INTEGER)
@instructions
def test_nan_in_every_lane_of_a_vector_gives_nan(fmt: str, group_size: int, instructions: str) -> None:
    """Its codes, the least integer, wrap when they are added up: UndefinedBehaviorSanitizer looks at how."""
    matrix = random_matrix(np.random.default_rng(8), fmt, group_size, 48, 256)
    x = np.ones((2, 256), np.float32)
    x[:, :16] = np.nan
    assert np.isnan(linear(matrix, x, instructions=instructions)).all()


@instructions
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("fmt", "group_size"), [("int4", 32), ("uint4", 32), ("int8", 0), ("fp32", 0)])
def test_a_value_that_is_no_number_shows(instructions: str, bad: float, fmt: str, group_size: int) -> None:
    rng = np.random.default_rng(0)
    matrix = random_matrix(rng, fmt, group_size, 20, 64)
    x = rng.normal(size=(3, 64)).astype(np.float32)
    clean = linear(matrix, x, instructions=instructions)
    x[1, 5] = bad
    result = linear(matrix, x, instructions=instructions)
    assert not np.isfinite(result[1]).any()
    assert (result[[0, 2]] == clean[[0, 2]]).all()


@instructions
@formats
def test_the_number_of_threads_does_not_change_a_result(fmt: str, group_size: int, instructions: str) -> None:
    rng = np.random.default_rng(1)
    matrix = random_matrix(rng, fmt, group_size, 200, 128)
    for rows in (1, 33):
        x = rng.normal(size=(rows, 128)).astype(np.float32)
        one = linear(matrix, x, instructions=instructions, threads=1)
        for threads in (2, 3):
            assert (linear(matrix, x, instructions=instructions, threads=threads) == one).all()
