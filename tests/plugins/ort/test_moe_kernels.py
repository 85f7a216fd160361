"""The mixture-of-experts kernels against float64, written from the definition.

Reference: float64 NumPy
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_native import (
    INSTRUCTIONS,
    Packed,
    available_instructions,
    is_integer,
    library,
    normalized,
    pointer,
    quantized,
    random_matrix,
    silu,
)

from qwen3_plugins import layouts

FORMATS = [("int4", 32), ("int4", 128), ("uint4", 32), ("uint4", 64), ("int8", 64), ("int8", 0),
           ("fp8", 128), ("fp8", 0), ("bf16", 0), ("fp32", 0)]  # fmt: skip


@dataclass
class Mixture:
    """Random experts; values are float64 [E, ...]."""

    fmt: str
    group_size: int
    top_k: int
    router: np.ndarray
    gate: list[Packed]
    up: list[Packed]
    down: list[Packed]

    def stacked(self, which: str) -> tuple[np.ndarray, np.ndarray | None]:
        parts = [alternate(a, b) for a, b in zip(self.gate, self.up, strict=True)] if which == "gate_up" else [
            (m.codes, m.scales) for m in self.down
        ]  # fmt: skip
        codes = np.concatenate([codes for codes, _ in parts])
        return codes, None if parts[0][1] is None else np.concatenate([scales for _, scales in parts])


def alternate(gate: Packed, up: Packed) -> tuple[np.ndarray, np.ndarray | None]:
    panels = -(-gate.shape[0] // layouts.PANEL)

    def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.stack([a.reshape(panels, -1), b.reshape(panels, -1)], axis=1).reshape(-1)

    return mix(gate.codes, up.codes), None if gate.scales is None else mix(gate.scales, up.scales)


def random_mixture(rng, fmt: str, group_size: int, experts: int, top_k: int, hidden: int, inner: int) -> Mixture:
    def matrices(n: int, k: int) -> list[Packed]:
        return [random_matrix(rng, fmt, group_size, n, k) for _ in range(experts)]

    router = rng.normal(size=(experts, hidden)).astype(np.float32)
    gate, up = matrices(inner, hidden), matrices(inner, hidden)
    return Mixture(fmt, group_size, top_k, router, gate, up, matrices(hidden, inner))


def moe(
    mixture: Mixture,
    x,
    *,
    instructions,
    threads=1,
    normalize=True,
    quantized_activations=True,
    norm=None,
    residual=None,
):
    rows, hidden = x.shape
    gate_up, gate_up_scales = mixture.stacked("gate_up")
    down, down_scales = mixture.stacked("down")
    router = layouts.pack_fp32(mixture.router)
    memory = np.full((rows + 2, hidden), np.float32(-12345.0))
    native = library().qwen3_moe
    native.restype = ctypes.c_char_p
    sizes = (len(mixture.gate), mixture.top_k, hidden, mixture.down[0].shape[1], mixture.group_size)
    error = native(
        INSTRUCTIONS.index(instructions),
        threads,
        mixture.fmt.encode(),
        *map(ctypes.c_int64, sizes),
        int(normalize),
        int(quantized_activations),
        *map(pointer, (router, gate_up, gate_up_scales, down, down_scales, x)),
        ctypes.c_int64(rows),
        pointer(norm),
        ctypes.c_float(1e-6),
        pointer(residual),
        ctypes.c_void_p(memory[1:].ctypes.data),
    )
    assert error is None, error
    assert (memory[[0, -1]] == np.float32(-12345.0)).all(), "wrote outside of its output"
    return memory[1:-1]


def expected(mixture: Mixture, x: np.ndarray, *, normalize: bool, integers: bool) -> np.ndarray:
    """[T, H] in float64, from the definition, token by token."""
    group = mixture.group_size or 64
    as_read = (lambda v: quantized(v, group)) if integers else (lambda v: v)
    logits = x @ mixture.router.astype(np.float64).T
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    result = np.zeros_like(x)
    for token, row in enumerate(probabilities):
        chosen = np.argsort(-row, kind="stable")[: mixture.top_k]
        weights = row[chosen] / (row[chosen].sum() if normalize else 1)
        inputs = as_read(x[token : token + 1])
        for expert, weight in zip(chosen, weights, strict=True):
            inner = silu(inputs @ mixture.gate[expert].values.T) * (inputs @ mixture.up[expert].values.T)
            result[token] += weight * (as_read(inner) @ mixture.down[expert].values.T)[0]
    return result


def relative_error(result: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.square(result - exact).mean() / np.square(exact).mean()))


@pytest.mark.parametrize("instructions", available_instructions())
@pytest.mark.parametrize(("fmt", "group_size"), FORMATS)
@pytest.mark.parametrize(("rows", "threads"), [(1, 2), (3, 1), (8, 3), (40, 2)])
def test_tokens_get_the_weighted_sum_of_their_experts(instructions, fmt, group_size, rows, threads) -> None:
    rng = np.random.default_rng(rows)
    mixture = random_mixture(rng, fmt, group_size, experts=6, top_k=2, hidden=128, inner=48)
    x = rng.normal(size=(rows, 128)).astype(np.float32)
    for quantized_activations in (False, True):
        result = moe(
            mixture, x, instructions=instructions, threads=threads, quantized_activations=quantized_activations
        )
        integers = is_integer(fmt) and quantized_activations
        exact = expected(mixture, x.astype(np.float64), normalize=True, integers=integers)
        # A code within rounding of a tie may go either way: hence a little more where activations are integers.
        assert relative_error(result, exact) < (2e-3 if integers else 1e-5)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(FORMATS),
    level=st.sampled_from(available_instructions()),
    experts=st.integers(1, 9),
    top_k=st.integers(1, 9),
    hidden=st.integers(1, 150),
    inner=st.integers(1, 70),
    rows=st.integers(1, 20),
    threads=st.integers(1, 3),
    normalize=st.booleans(),
    fused=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_shape(kind, level, experts, top_k, hidden, inner, rows, threads, normalize, fused, seed) -> None:
    rng = np.random.default_rng(seed)
    mixture = random_mixture(rng, *kind, experts, min(top_k, experts), hidden, inner)
    x = rng.normal(size=(rows, hidden)).astype(np.float32)
    norm = rng.normal(size=hidden).astype(np.float32) if fused else None
    residual = rng.normal(size=(rows, hidden)).astype(np.float32) if fused else None
    inputs = normalized(x, norm, 1e-6) if fused else x.astype(np.float64)
    logits = np.sort(inputs @ mixture.router.astype(np.float64).T, axis=1)
    if (np.diff(logits, axis=1) < 1e-4).any():
        return  # which expert is chosen hangs on the last bit
    result = moe(
        mixture,
        x,
        instructions=level,
        threads=threads,
        normalize=normalize,
        quantized_activations=False,
        norm=norm,
        residual=residual,
    )
    exact = expected(mixture, inputs, normalize=normalize, integers=False)
    exact = exact + (0 if residual is None else residual)
    scale = np.abs(exact).max() + 1
    assert np.abs(result - exact).max() < 1e-4 * scale


@pytest.mark.parametrize("instructions", available_instructions())
def test_the_number_of_threads_does_not_change_a_result(instructions: str) -> None:
    rng = np.random.default_rng(2)
    mixture = random_mixture(rng, "int4", 32, experts=8, top_k=3, hidden=256, inner=64)
    for rows in (1, 29):
        x = rng.normal(size=(rows, 256)).astype(np.float32)
        one = moe(mixture, x, instructions=instructions, threads=1)
        for threads in (2, 3):
            assert (moe(mixture, x, instructions=instructions, threads=threads) == one).all()


@pytest.mark.parametrize("instructions", available_instructions())
def test_a_token_that_is_no_number_spoils_only_itself(instructions: str) -> None:
    rng = np.random.default_rng(2)
    mixture = random_mixture(rng, "int4", 32, experts=4, top_k=2, hidden=64, inner=32)
    x = rng.normal(size=(5, 64)).astype(np.float32)
    clean = moe(mixture, x, instructions=instructions)
    x[2, 7] = np.nan
    result = moe(mixture, x, instructions=instructions)
    assert np.isnan(result[2]).all()
    others = [0, 1, 3, 4]
    np.testing.assert_allclose(result[others], clean[others], rtol=1e-5, atol=1e-5)
